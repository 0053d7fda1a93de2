"""From what a model said to the rows of an item table.

    rows = answered(posed, main=[(Likelihood(-1.3, 1, True), …), …], text=[(Likelihood(-7.1, 4, False),), …])
    rows[0].correct, rows[0].margin, rows[0].bits          True, 0.42, 10.24

The first of equal choices wins, as in lm-eval and llm-foundry. `bits` and `bytes` are of the right answer's own text
without the space before it: of the second pass where there is one, else of the right choice.
"""

from __future__ import annotations

import hashlib
import math
import re
import string
from collections.abc import Sequence
from dataclasses import replace

from cpt_api.model import canonical_json
from cpt_trainer.errors import DataError
from cpt_trainer.evaluate.items import SHORT, Item
from cpt_trainer.evaluate.prompts import Posed, PosedTask, right_text, scored_texts
from cpt_trainer.evaluate.requests import Completion, Likelihood, Pair
from cpt_trainer.evaluate.task import Answer, Match, Metric, Normalisation, Task
from cpt_trainer.tables import UNKNOWN, Row

_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation + "‘’´`", " "))
_ARTICLES = re.compile(r"\b(a|an|the)\b")

Spoken = tuple[Likelihood, ...] | str
"""What a model said about one item."""


def answered(posed: PosedTask, main: Sequence[Spoken], text: Sequence[tuple[Likelihood, ...]] = ()) -> list[Row]:
    """One row per item; raises DataError when an answer is missing or is not finite."""
    task = posed.task
    wanted = len(posed.items) if task.text is not None else 0
    if (len(main), len(text)) != (len(posed.items), wanted):
        raise DataError(
            f"task {task.name}: {len(main)} answers and {len(text)} texts for {len(posed.items)} items: some were "
            "lost; a task is scored as a whole or not at all"
        )
    texts = text or [()] * len(main)
    return [_row(task, one, spoken, passed) for one, spoken, passed in zip(posed.items, main, texts, strict=True)]


def prompt_hash(posed: Posed) -> str:
    """Of everything that was said to the model, both passes."""
    asked: list[object] = [posed.main.context if isinstance(posed.main, Completion) else _pairs(posed.main.pairs)]
    if posed.text is not None:
        asked.append(_pairs(posed.text.pairs))
    return hashlib.sha256(canonical_json(asked)).hexdigest()[:SHORT]


def _pairs(pairs: Sequence[Pair]) -> list[list[str]]:
    return [[pair.context, pair.continuation] for pair in pairs]


def _row(task: Task, posed: Posed, spoken: Spoken, passed: tuple[Likelihood, ...]) -> Row:
    item = posed.item
    row = Row(
        task=task.name,
        item=item.id,
        item_hash=item.hash,
        prompt_hash=prompt_hash(posed),
        stratum=item.stratum,
        cluster=item.cluster or item.hash,
    )
    if isinstance(spoken, str):
        assert task.answer is not None
        return replace(row, correct=int(is_right(task.answer, item, spoken)))
    return _likely(task, item, row, spoken, passed)


def _likely(task: Task, item: Item, row: Row, spoken: tuple[Likelihood, ...], passed: tuple[Likelihood, ...]) -> Row:
    texts = scored_texts(task, item)
    if len(spoken) != len(texts):
        raise DataError(f"task {task.name}, item {item.id}: {len(spoken)} scores for {len(texts)} choices")
    _require_finite(task, item, (*spoken, *passed))
    gold = item.gold if len(texts) > 1 else None
    sizes = [len(text.encode()) for text in texts]
    scores = [_score(task.metric, one, text) for one, text in zip(spoken, texts, strict=True)]
    right = passed[0] if passed else spoken[gold or 0]
    return replace(
        row,
        logprobs=[one.logprob for one in spoken],
        tokens=[one.tokens for one in spoken],
        chars=[len(text) for text in texts],
        sizes=sizes,
        gold=UNKNOWN if gold is None else gold,
        bits=-right.logprob / math.log(2),
        size=len(right_text(task, item).encode()),
        correct=_correct(task.metric, spoken, scores, gold),
        margin=math.nan if gold is None else _margin(scores, gold),
    )


def _score(metric: Metric, one: Likelihood, text: str) -> float:
    """What is compared between choices."""
    match metric:
        case Metric.ACCURACY_PER_CHARACTER:
            return one.logprob / len(text)
        case Metric.ACCURACY_PER_BYTE:
            return one.logprob / len(text.encode())
        case Metric.ACCURACY_PER_TOKEN:
            return one.logprob / one.tokens
        case _:
            return one.logprob


def _correct(metric: Metric, spoken: Sequence[Likelihood], scores: Sequence[float], gold: int | None) -> int:
    if metric is Metric.BITS_PER_BYTE:
        return UNKNOWN
    if metric is Metric.GREEDY:
        return int(spoken[0].greedy)
    return int(scores.index(max(scores)) == gold)


def _margin(scores: Sequence[float], gold: int) -> float:
    return scores[gold] - max(score for number, score in enumerate(scores) if number != gold)


def _require_finite(task: Task, item: Item, spoken: Sequence[Likelihood]) -> None:
    for one in spoken:
        if not math.isfinite(one.logprob) or one.tokens < 1:
            raise DataError(
                f"task {task.name}, item {item.id}: log-probability {one.logprob} of {one.tokens} tokens; the model "
                "gives NaN or infinity: look at its weights, and at the precision"
            )


def is_right(answer: Answer, item: Item, written: str) -> bool:
    """Whether what a model wrote is one of the right answers."""
    for stop in answer.stop:
        written = written.partition(stop)[0]
    if answer.after is not None:
        written = written.rpartition(answer.after)[2]
    found, wanted = _plain(written, answer), {_plain(text, answer) for text in item.answers}
    if answer.match is Match.PREFIX:
        return any(found.startswith(text) for text in wanted)
    return found in wanted


def _plain(text: str, answer: Answer) -> str:
    if answer.normalisation is Normalisation.STRIP:
        return text.strip()
    words = _ARTICLES.sub(" ", text.replace("_", " ").lower().translate(_PUNCTUATION))
    return " ".join(words.split())
