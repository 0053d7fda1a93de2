"""In which unit a metric is shown: decisions compute in it, words, figures and statuses speak of it.

    unit_of(metric).name                    'points'
    unit_of(metric).text(65.7)              '34.30'      65.7 are missing from a hundred
    unit_of(metric).change(1.25)            '+1.25'      gained

Inside of decisions lower is better, whatever the unit is. People know bits per byte as they are, and points as what a
model has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from cpt_api.trial import DecisionMetric, Measure
from cpt_api.values import Amount

HUNDRED = 100
"""Points that there are."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Of a metric."""

    name: str
    """Behind a number."""
    scores: str
    """What decisions hold, in figures and tables: lower is better."""
    better: str
    """What a model does that becomes better, before a number."""
    gained: str
    """That it has become better by, behind a number and the name."""
    items: str
    """What a score rests on."""
    digits: int
    """Behind the point, in statuses."""
    full: int | None
    """The best score, from which what is missing counts; None: a score counts itself."""
    default: Amount
    """The smallest effect that matters, where a manifest names none; as `own` gives it."""

    def shown(self, score: float) -> float:
        """A decision's score as people know it."""
        return score if self.full is None else self.full - score

    def text(self, score: float) -> str:
        """The same for a status."""
        return f"{self.shown(score):.{self.digits}f}"

    def change(self, value: float) -> str:
        """A difference for a status."""
        return f"{value:+.{self.digits}f}"

    def interval(self, ends: tuple[float, float]) -> str:
        """Both ends of a score's, the lower number first."""
        return " to ".join(f"{end:.{self.digits}f}" for end in sorted(map(self.shown, ends)))

    def own(self, threshold: Amount) -> Amount:
        """A manifest's threshold in this unit: a share of right answers is a hundred times as many points."""
        return threshold if self.full is None else Amount.parse(f"{Decimal(threshold) * self.full:f}")


BITS = Unit(
    name="bits per byte",
    scores="bits per byte",
    better="saves",
    gained="saved",
    items="documents",
    digits=4,
    full=None,
    default=Amount.parse("0.02"),
)
BITS_OF_ANSWERS = replace(BITS, items="questions")
POINTS = Unit(
    name="points",
    scores="points missing from 100",
    better="gains",
    gained="gained",
    items="questions",
    digits=2,
    full=HUNDRED,
    default=Amount.parse("1"),
)

_UNITS: Mapping[Measure, Unit] = {Measure.BITS_PER_BYTE: BITS_OF_ANSWERS, Measure.ACCURACY: POINTS}


def unit_of(metric: DecisionMetric) -> Unit:
    """By what it averages."""
    return _UNITS[metric.suite.measure] if metric.suite else BITS
