"""Made-up questions for tests of scoring: texts of `kit.text`, some behind shots that they share."""

from __future__ import annotations

from collections.abc import Sequence

from cpt_trainer.evaluate.requests import Completion, Pair, Question
from trainer_image.kit import text

SHOTS = text(1, 60)


def make_question(item: str = "0", pairs: Sequence[tuple[str, str]] = (("the", " page"),), task: str = "t") -> Question:
    """Of one context or several."""
    return Question(task, item, "g", tuple(Pair(*pair) for pair in pairs))


def make_completion(context: str, item: str = "0", stop: Sequence[str] = (), tokens_max: int = 8) -> Completion:
    """Of one prompt."""
    return Completion("c", item, "g", context, tuple(stop), tokens_max)


def some_questions() -> list[Question]:
    """Letters, endings and filled-in contexts behind shots; endings, and texts without a context, behind nothing."""
    letters, endings, filled, bare = [], [], [], []
    for n in range(12):
        context = f"{SHOTS} {text(100 + n, 5 + n % 7)}"
        letters.append([(context, f" {word}") for word in ("the", "page", "it", "reads")])
        endings.append([(context, f" {text(200 + 7 * n + m, 1 + m)}") for m in range(4)])
        filled.append([(f"{SHOTS} {name} {text(300 + n, 6)}", f" {text(400 + n, 4)}") for name in ("a", "then it")])
        bare.append([(text(500 + n, 3 + n % 4) if n % 2 else "", f" {text(600 + n + m, 3)}") for m in range(3)])
    kinds = {"letters": letters, "endings": endings, "filled": filled, "bare": bare}
    return [
        Question(kind, str(n), kind if kind != "bare" else f"bare {n}", tuple(Pair(*pair) for pair in pairs))
        for kind, rows in kinds.items()
        for n, pairs in enumerate(rows)
    ]


def some_completions() -> list[Completion]:
    """Of different lengths, some behind shots."""
    return [
        Completion(
            "shots" if n % 3 else "alone",
            str(n),
            "shots" if n % 3 else f"alone {n}",
            (f"{SHOTS} " if n % 3 else "") + text(700 + n, 4 + n % 9),
            (" the", "says"),
            4 + n % 8,
        )
        for n in range(20)
    ]
