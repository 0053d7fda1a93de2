"""Worlds to hold claims against: every setting of the noise knobs, and corners in which a procedure could fail.

Experiment number n of a setting has world seed n; its curves come from (CURVES, n), so settings differ in noise only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from simulator.claims import WIDE_SPAN, standard_error
from simulator.experiment import RATES
from simulator.truth import Curve, Truth

CURVES = 20261125
"""Seed of the curves."""
_LOW, _HIGH = float(RATES[0]), float(RATES[-1])
_STEP = math.log2(_HIGH / _LOW) / (len(RATES) - 1)
_NAMES = ("a", "b", "c", "d")


@dataclass(frozen=True, slots=True)
class Setting:
    """A name for people, its noises, and the curves of experiment number n."""

    name: str
    noises: Truth
    curves: Callable[[Truth, int], dict[str, Curve]] = field(repr=False)

    def truth(self, number: int) -> Truth:
        """Of experiment `number`."""
        return replace(self.noises, curves=self.curves(self.noises, number))


def anywhere(noises: Truth, number: int, drift: float = 0.0) -> dict[str, Curve]:
    """Optima from half a step below the grid to half a step above; curves that span 1 to 32 standard errors."""
    random = np.random.default_rng([CURVES, number])
    curves = {}
    for name in _NAMES:
        best = _LOW * 2 ** (_STEP * (random.random() * len(RATES) - 0.5))
        span = standard_error(noises) * 2 ** random.uniform(0, 5)
        curves[name] = Curve(best, span / _reach(best) ** 2, drift=drift)
    return curves


def drifting(noises: Truth, number: int) -> dict[str, Curve]:
    """The best rate falls by a fifth from rung to rung, as it does in longer runs."""
    return anywhere(noises, number, drift=-0.32)


def equal(_noises: Truth, _number: int) -> dict[str, Curve]:
    """All rates are equally good: whatever is picked, is picked for its noise."""
    return dict.fromkeys(_NAMES, Curve(best_rate=2e-4, curvature=0.0))


def edge(noises: Truth, _number: int, span_errors: float = 1.01 * WIDE_SPAN) -> dict[str, Curve]:
    """The optimum at either end of the grid or half a step outside, the span just enough to be located."""
    span = span_errors * standard_error(noises)
    ends = (_LOW, _LOW / 2 ** (_STEP / 2), _HIGH, _HIGH * 2 ** (_STEP / 2))
    curves = {}
    for name, best in zip(_NAMES, ends, strict=True):
        nearest = min(abs(math.log2(end / best)) for end in (_LOW, _HIGH))
        curves[name] = Curve(best, span / (_reach(best) ** 2 - nearest**2))
    return curves


def wide_edge(noises: Truth, number: int) -> dict[str, Curve]:
    """The same with a span that is half as much again."""
    return edge(noises, number, 1.5 * WIDE_SPAN)


def _reach(best: float) -> float:
    """Doublings to the farther end of the grid."""
    return max(abs(math.log2(end / best)) for end in (_LOW, _HIGH))


SETTINGS = (
    Setting("run 0.01, tail 0.3 x", Truth({}, run_noise=0.01, tail_noise=0.003), anywhere),
    Setting("run 0.01, tail 1 x", Truth({}, run_noise=0.01, tail_noise=0.01), anywhere),
    Setting("run 0.007, tail 2 x", Truth({}, run_noise=0.007, tail_noise=0.014), anywhere),
    Setting("items only", Truth({}, run_noise=0.0, tail_noise=0.0, item_noise=0.1), anywhere),
    Setting("40 documents, a few long", Truth({}, documents=40, size_spread=1.2), anywhere),
    Setting("best rate drifts", Truth({}), drifting),
    Setting("all rates equal", Truth({}, response=0.0), equal),
    Setting("optimum at the edge, 4 SE", Truth({}), edge),
    Setting("optimum at the edge, 6 SE", Truth({}), wide_edge),
)
