"""A suite's number as a decision compares it: a sum of ratios, lower is better.

    table = read_suite(trial, result, "mmlu")              its bytes checked, whole
    require_same(table, base_table, what)                  the same suite, items and way of scoring
    sums_of(table.table, metric)                           57 texts whose coefficients make the number

What averages bits per byte is taken as it is. Of right answers a decision compares what is missing from a hundred
points: wrong answers instead of right ones, and a constant for what guessing gives, which no difference has.

    accuracy 0.343     3 of 4 categories right in part, baselines taken off          65.7 points are missing
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from cpt_api.result import Result, SuiteScore
from cpt_api.trial import Measure, SuiteGroup
from cpt_api.unit import HUNDRED
from cpt_trainer.decide.estimates import TextSums
from cpt_trainer.errors import DataError
from cpt_trainer.evaluate.group import Leaf, leaves
from cpt_trainer.evaluate.suite_table import SuiteTable, read_suite_table

Bytes = Callable[[Result, str], bytes]
"""Of a table that a result names, checked."""


@dataclass(frozen=True, slots=True)
class ScoredSuite:
    """One model on one suite, and what its result says of it."""

    score: SuiteScore
    table: SuiteTable


def read_suite(result: Result, suite: str, read: Bytes) -> ScoredSuite:
    """Raises DataError where the result has no such suite, or its table is not whole."""
    score = next((score for score in result.suites if score.suite == suite), None)
    if score is None:
        raise DataError(
            f"the {result.type} trial {result.digest.short}… has no table of suite {suite}, it has "
            f"{[score.suite for score in result.suites]}: score it with an Evaluate trial and name that one"
        )
    return ScoredSuite(score, read_suite_table(read(result, score.table), score.table))


def require_same(one: ScoredSuite, other: ScoredSuite, what: str) -> None:
    """That both say the same of suite and scoring; the rows are compared elsewhere. `what`: of whom."""
    for name, here, there, remedy in (
        ("digest", one.table.suite.digest, other.table.suite.digest, "evaluate both on one suite, by one image"),
        ("fingerprint", one.score.fingerprint, other.score.fingerprint, "score both in one way, by one image"),
        ("protocol", one.table.about.scoring.protocol, other.table.about.scoring.protocol, "score both anew"),
    ):
        if here != there:
            raise DataError(f"{what}: the suite's {name} is {here} and {there}: {remedy}")


def sums_of(table: SuiteTable, metric: SuiteGroup) -> tuple[TextSums, ...]:
    """Its ratios; raises DataError where the suite has no such number, or an item is without what that averages."""
    group = next((group for group in table.suite.groups if group.name == metric.group), None)
    if group is None or group.measure is not metric.measure:
        there = [f"{group.name} ({group.measure})" for group in table.suite.groups]
        raise DataError(
            f"suite {metric.suite} has no number {metric.group} ({metric.measure}), it has {there}: it is another "
            "suite than the one that was asked for"
        )
    parts = leaves(table.suite, group, table.items)
    if metric.measure is Measure.BITS_PER_BYTE:
        return tuple(replace(leaf.sums, coefficient=leaf.coefficient) for leaf in parts)
    missing = 1 - math.fsum(leaf.coefficient * (1 - leaf.offset) for leaf in parts)  # where all answers are right
    return tuple(_wrong(leaf, HUNDRED * missing / len(parts)) for leaf in parts)


def _wrong(leaf: Leaf, constant: float) -> TextSums:
    """Wrong answers of a hundred."""
    sums = leaf.sums
    return replace(sums, bits=sums.bytes - sums.bits, coefficient=HUNDRED * leaf.coefficient, constant=constant)
