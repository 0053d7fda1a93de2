"""A suite's numbers: nested means of tasks, each with its standard error.

    score(leaves(suite, suite.groups[0], items))                Estimated(value=0.343, variance=2.5e-5, df=4812.0)
    gain(leaves(…, items_of_a), leaves(…, items_of_b))          the same of a difference, paired by item

A group is a mean of categories, each a mean of benchmarks, each a mean over items or over strata, minus a baseline,
divided by what is left above it. Written out that is a sum over *leaves* of coefficient × (ratio - offset), the ratio
being right answers per item (or bits per byte) of one task or of one stratum of it:

    2 categories; the first has 3 benchmarks, one of them MMLU (57 subjects, Macro, baseline 0.25):
    each subject is a leaf with coefficient 1/2 · 1/3 · 1/57 · 1/0.75 and offset 0.25

Leaves have no item in common, so variances add up with squared coefficients; within a leaf they are those of
`decide/estimates.py` (strata are fixed, clusters vary, degrees of freedom after Welch and Satterthwaite).

A task that is not in the table ends it: the mean of the others would be another number under the same name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cpt_api.trial import Measure
from cpt_api.values import Share
from cpt_trainer.decide.estimates import Estimated, TextSums, combined, level, minus, text_sums
from cpt_trainer.errors import DataError
from cpt_trainer.evaluate.suite import Benchmark, Group, Subgroups, Suite
from cpt_trainer.tables import UNKNOWN, Items, where


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """One ratio of a group's sum."""

    category: str
    task: str
    coefficient: float
    """Of its ratio in the group's number; all of them alike in one task."""
    offset: float
    """What guessing gives."""
    sums: TextSums
    """Right answers and items, or bits and bytes, by cluster."""
    items: int
    """How many."""


def leaves(suite: Suite, group: Group, items: Items) -> tuple[Leaf, ...]:
    """All of a group; raises DataError when a task is missing, or was not scored as the group wants it."""
    return tuple(
        leaf
        for category in group.categories
        for benchmark in category.benchmarks
        for leaf in _leaves(
            category.name,
            benchmark,
            _rows(suite, group, benchmark, items),
            len(group.categories) * len(category.benchmarks),
        )
    )


def of_category(parts: Sequence[Leaf], category: str) -> tuple[Leaf, ...]:
    """The leaves of one category, so that they make its own number."""
    categories = len({leaf.category for leaf in parts})
    return tuple(
        replace(leaf, coefficient=leaf.coefficient * categories) for leaf in parts if leaf.category == category
    )


def score(parts: Sequence[Leaf]) -> Estimated:
    """The group's number."""
    found = _sum(parts, [level([leaf.sums]) for leaf in parts])
    return replace(found, value=found.value - math.fsum(leaf.coefficient * leaf.offset for leaf in parts))


def gain(parts: Sequence[Leaf], others: Sequence[Leaf]) -> Estimated:
    """The group's number of a model minus that of another, paired by item: what both find hard cancels."""
    return _sum(parts, [level(minus([leaf.sums], [other.sums])) for leaf, other in zip(parts, others, strict=True)])


def task_leaf(suite: Suite, measure: Measure, task: str, items: Items) -> Leaf:
    """One task on its own: every item counts alike, no baseline."""
    benchmark = Benchmark(task=task)
    whole = Group.model_construct(name=task, measure=measure, categories=())
    (leaf,) = _leaves(task, benchmark, _rows(suite, whole, benchmark, items), 1)
    return leaf


def _sum(parts: Sequence[Leaf], ratios: Sequence[Estimated]) -> Estimated:
    return combined([(leaf.coefficient, ratio) for leaf, ratio in zip(parts, ratios, strict=True)])


def _rows(suite: Suite, group: Group, benchmark: Benchmark, items: Items) -> Items:
    """The rows of a task, with what is counted as `bits` and what it is divided by as `bytes`."""
    rows = where(items, items.task == benchmark.task)
    if len(rows) == 0:
        raise DataError(
            f"suite {suite.name}, group {group.name}: the table has no items of task {benchmark.task}; the mean of the "
            "other tasks would be another number under the same name: score the whole suite"
        )
    if group.measure is Measure.BITS_PER_BYTE:
        if np.isnan(rows.bits).any() or not rows.bytes.all():
            raise DataError(f"suite {suite.name}, group {group.name}: task {benchmark.task} has items without bits")
        return rows
    if (rows.correct == UNKNOWN).any():
        raise DataError(
            f"suite {suite.name}, group {group.name}: task {benchmark.task} has items that are neither right nor wrong"
        )
    return replace(rows, bits=rows.correct.astype(np.float64), bytes=np.ones(len(rows), dtype=np.int64))


def _leaves(category: str, benchmark: Benchmark, rows: Items, share: int) -> Iterator[Leaf]:
    """Of one benchmark, that is one of `share` which count alike."""
    if benchmark.subgroups is Subgroups.MACRO:
        parts = [where(rows, rows.stratum == stratum) for stratum in np.unique(rows.stratum)]
    else:
        parts = [rows]
    offset = _baseline(benchmark, rows)
    above = 1 - offset if benchmark.rescale else 1.0
    for part in parts:
        yield Leaf(category, benchmark.task, 1 / (share * len(parts) * above), offset, text_sums(part), len(part))


def _baseline(benchmark: Benchmark, rows: Items) -> float:
    match benchmark.baseline:
        case None:
            return 0.0
        case Share() as share:
            return float(share)
        case _:
            return math.fsum(1 / len(choices) for choices in rows.choice_logprobs) / len(rows)
