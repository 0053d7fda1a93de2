"""Scoring by ours and by lm-eval's Hugging Face backend: the same model, the same texts, the same best choices.

    given = Given.of(folder, questions)
    given.ours()                 Told(cpu_seconds, best choices, ...)
    given.theirs(python, 8)      of that batch size, its logits cache on

CPU seconds are of one thread and of the answers alone: tokenisation counts, imports and loading do not. The model is a
Llama of 5.4M parameters, so that a pass costs something; its tokenizer is made of the texts.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.outcome import ROOT, Outcome, measured, spread

from cpt_trainer.evaluate.requests import Pair, Question

LLAMA: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "initializer_range": 0.06,
}
ROUNDS = 3
BATCHES = (1, 8, 32)
"""Of the peer; the fastest counts."""
FEW = 5
"""One question of so many is enough to see which."""
CLOSE = 2e-4
"""Two choices that are as near may change places."""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True, slots=True)
class Told:
    """What an engine said, and what it took."""

    cpu_seconds: float
    logprobs: Sequence[Sequence[float]]
    """Of each question's choices."""
    process_seconds: float
    """CPU seconds of all of it: imports and loading too."""


@dataclass(frozen=True, slots=True)
class Given:
    """What both are asked."""

    folder: Path
    questions: Sequence[Question]

    @classmethod
    def of(cls, folder: Path, questions: Sequence[Question]) -> Given:
        """Writes the model, and all that is asked."""
        from tiny_model import trained_llama  # torch, without which a benchmark stays small beside what it measures

        texts = [pair.context[-500:] + pair.continuation for question in questions for pair in question.pairs]
        trained_llama(folder / "model", texts, **LLAMA)
        return cls(folder, questions)

    def few(self) -> Given:
        """Some of it."""
        return Given(self.folder, self.questions[::FEW])

    def ours(self) -> Told:
        """In a process of its own."""
        asked = [
            [q.task, q.item, q.prefix_group, [[pair.context, pair.continuation] for pair in q.pairs]]
            for q in self.questions
        ]
        return self._told([sys.executable, "-m", "benchmarks.scoring"], asked)

    def theirs(self, python: Path, batch: int, *, cached: bool = True) -> Told:
        """With that interpreter."""
        pairs = [(pair.context, pair.continuation) for question in self.questions for pair in question.pairs]
        options = [str(batch), "cache" if cached else "no-cache"]
        return self._told([python, ROOT / "benchmarks/peers/harness.py"], {"pairs": pairs}, options)

    def best_batch(self, python: Path) -> int:
        """The size at which the peer needs the fewest CPU seconds."""
        seconds = {batch: self.few().theirs(python, batch).cpu_seconds for batch in BATCHES}
        print("lm-eval by batch size: " + ", ".join(f"{batch}: {taken:.1f} CPU s" for batch, taken in seconds.items()))
        return min(seconds, key=lambda batch: seconds[batch])

    def _told(self, program: Sequence[str | Path], asked: object, options: Sequence[str] = ()) -> Told:
        requests, answers = self.folder / "requests.json", self.folder / "answers.json"
        requests.write_text(json.dumps(asked))
        done = measured([*program, self.folder / "model", requests, answers, *options], ENVIRONMENT)
        logprobs = iter([logprob for logprob, _ in json.loads(answers.read_text())["pairs"]])
        rows = [[next(logprobs) for _ in question.pairs] for question in self.questions]
        return Told(done.answer["cpuSeconds"], rows, done.cpu_seconds)


def in_turn(given: Given, python: Path, batch: int, label: str = "") -> tuple[list[float], list[float]]:
    """CPU seconds of ours and of the peer, round by round."""
    ours, theirs = [], []
    for number in range(ROUNDS):
        mine, other = given.ours(), given.theirs(python, batch)
        require_same(given, mine, other)
        ours.append(mine.cpu_seconds)
        theirs.append(other.cpu_seconds)
        print(f"{label}round {number + 1}: ours {ours[-1]:.2f} CPU s, lm-eval {theirs[-1]:.2f} CPU s")
    return ours, theirs


def outcome(ours: Sequence[float], theirs: Sequence[float], goal: float) -> Outcome:
    """The ratio is the median of the rounds' ratios."""
    ratio = median(a / b for a, b in zip(theirs, ours, strict=True))
    return Outcome(f"{spread(ours)} CPU s", f"{spread(theirs)} CPU s", ratio, f"≥ {goal:g}x")


def require_same(given: Given, ours: Told, theirs: Told) -> None:
    """The same best choices, or the comparison is void."""
    worst = 0.0
    for question, mine, other in zip(given.questions, ours.logprobs, theirs.logprobs, strict=True):
        worst = max(worst, *(abs(a - b) for a, b in zip(mine, other, strict=True)))
        best = mine.index(max(mine))
        if other[best] < max(other) - CLOSE:
            sys.exit(f"{question.task}/{question.item}: ours {mine}, lm-eval {other}: the comparison is void")
    print(f"same best choice of {len(given.questions)} questions; log-probabilities differ by {worst:.1g} at most")


def main(model: str, requests: str, answers: str) -> None:
    """Ours: score what is asked."""
    from tiny_model import scorer_of

    questions = [
        Question(task, item, group, tuple(Pair(*pair) for pair in pairs))
        for task, item, group, pairs in json.loads(Path(requests).read_text())
    ]
    scorer = scorer_of(Path(model))
    begin = time.process_time()
    found = scorer.likelihoods(questions)
    seconds = time.process_time() - begin
    Path(answers).write_text(json.dumps({"pairs": [[one.logprob, one.greedy] for row in found for one in row]}))
    print(json.dumps({"cpuSeconds": seconds, "tokens": scorer.observed.work.tokens}))


if __name__ == "__main__":
    main(*sys.argv[1:])
