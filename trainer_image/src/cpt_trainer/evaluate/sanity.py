"""Whether scores can be meant: what a broken model, tokenizer or conversion looks like.

    warnings = gate(suite, items)          ("task boolq: choice 2 is the answer to 97 % of 3270 items", …)

Choices that are all scored alike end the evaluation: no model that reads its prompt does that. One choice that is
nearly always taken, and answers at chance, are said and no more: small models really do that on letters, which is why
bits per byte are what decides.

A tokenizer that makes several tokens of a letter ends it too, unless the task allows that.

Scores that are not finite, prompts that do not fit and doubled BOS never come this far (`answers.py`, the scorer).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from cpt_api.trial import Measure
from cpt_trainer.decide.estimates import level
from cpt_trainer.errors import DataError
from cpt_trainer.evaluate.group import task_leaf
from cpt_trainer.evaluate.suite import Suite
from cpt_trainer.evaluate.task import Format, Found, Metric, Task
from cpt_trainer.tables import Items, where

EQUAL_SHARE = 0.05
"""Ties of all choices happen in bf16, where logits have three digits; not on one item in twenty."""
ONE_CHOICE_SHARE = 0.6
"""Right answers are spread better than that over four choices and more, in every suite that is shipped."""


def gate(suite: Suite, items: Items) -> tuple[str, ...]:
    """What is odd; raises DataError for what cannot be meant."""
    return tuple(warning for task in suite.tasks for warning in _of_task(suite, task, items))


def _of_task(suite: Suite, task: Task, items: Items) -> Iterator[str]:
    if task.format in (Format.LANGUAGE_MODELLING, Format.GENERATION) or task.metric is Metric.BITS_PER_BYTE:
        return
    rows = where(items, items.task == task.name)
    equal = sum(len(set(logprobs)) == 1 for logprobs in rows.choice_logprobs)
    if equal > EQUAL_SHARE * len(rows):
        raise DataError(
            f"task {task.name}: all choices of {equal} of {len(rows)} items have the same log-probability: the model "
            "does not see them; look at its weights, its tokenizer and the prompts"
        )
    yield from _split_letters(task, rows)
    choices = Counter(len(logprobs) for logprobs in rows.choice_logprobs).most_common(1)[0][0]
    taken, count = Counter(map(_best, rows.choice_logprobs)).most_common(1)[0]
    if choices >= 4 and count > ONE_CHOICE_SHARE * len(rows):
        yield f"task {task.name}: choice {taken + 1} is the answer to {count / len(rows):.0%} of {len(rows)} items"
    chance = float(np.mean([1 / len(logprobs) for logprobs in rows.choice_logprobs]))
    found = level([task_leaf(suite, Measure.ACCURACY, task.name, items).sums])
    if found.interval()[0] <= chance:
        yield f"task {task.name}: {found.value:.3f} are right, which may be chance ({chance:.3f})"


def _split_letters(task: Task, rows: Items) -> Iterator[str]:
    """A letter of several tokens is scored as the first of them mostly, which other words have too."""
    split = sum(any(tokens != 1 for tokens in lengths) for lengths in rows.choice_tokens)
    if task.format is not Format.LETTERS or not split:
        return
    found = f"task {task.name}: the tokenizer makes several tokens of a letter in {split} of {len(rows)} items"
    if task.split_letters is not Found.REPORT:
        raise DataError(
            f"{found}: ask the choices themselves (format: Cloze), or let the task say splitLetters: Report"
        )
    yield found


def _best(logprobs: Sequence[float]) -> int:
    return max(range(len(logprobs)), key=logprobs.__getitem__)
