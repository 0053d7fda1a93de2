"""One rung of the race between the learning rates of one dataset: who is best, who is as good, who is out.

The chosen rate is the lowest of those whose paired loss to the best is within one standard error of that difference: of
rates that cannot be told apart the lowest forgets least. A rate is out when it is behind the leader beyond a Bonferroni
bound over (rates - 1) x rungs comparisons: the leader was picked for its score, but whoever is truly best is compared
with each of the others at most once a rung, so at most 5 % of races lose their best rate to noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cpt_api.values import LearningRate
from cpt_trainer.decide.estimates import Estimated, TextSums, difference, level, t_quantile
from cpt_trainer.decide.noise import RunNoise, with_runs

_ERROR = 0.05
"""Chance that a whole race drops its best rate."""
_FARTHEST = 10.0
"""A fitted optimum is given at most this many times outside the grid."""

Texts = Sequence[TextSums]


@dataclass(frozen=True, slots=True, eq=False)
class Race:
    """The rates that have a score, rising."""

    best: LearningRate
    """With the lowest loss; of equals the lowest."""
    chosen: LearningRate
    behind: Mapping[LearningRate, Estimated]
    """Paired loss to the best, with run noise where it is known; zero for the best."""
    dropped: tuple[LearningRate, ...]
    """The farthest first."""


def race(targets: Mapping[LearningRate, Texts], noise: RunNoise | None, rungs: int, *, last: bool) -> Race:
    """Compare all rates with the best; without an estimate of the run noise, and at the last rung, none is dropped."""
    losses = {rate: level(texts).value for rate, texts in targets.items()}
    best = min(targets, key=lambda rate: (losses[rate], rate))
    behind: dict[LearningRate, Estimated] = {}
    for rate in sorted(targets):
        items_only = difference(targets[rate], targets[best])
        behind[rate] = with_runs(items_only, noise, runs=2) if noise and rate != best else items_only
    chosen = min(rate for rate, loss in behind.items() if loss.value <= loss.standard_error)
    dropped = [] if last or noise is None else _beyond(behind, best, rungs)
    return Race(best, chosen, behind, tuple(dropped[: len(targets) // 2]))


def _beyond(behind: Mapping[LearningRate, Estimated], best: LearningRate, rungs: int) -> list[LearningRate]:
    others = {rate: loss for rate, loss in behind.items() if rate != best}
    confidence = 1 - _ERROR / (max(len(others), 1) * rungs)
    beyond = [
        rate for rate, loss in others.items() if loss.value > t_quantile(confidence, loss.df) * loss.standard_error
    ]
    return sorted(beyond, key=lambda rate: (-others[rate].value, rate))


def fitted_vertex(losses: Mapping[LearningRate, float], diverged: Sequence[LearningRate]) -> LearningRate | None:
    """Where a quadratic in log rate, by least squares, has its minimum.

    None where it has none, with fewer than three points, and where the minimum lies beyond a rate that diverged: there
    nothing better is to be expected.
    """
    if len(losses) < 3:
        return None
    rates = sorted(losses)
    logs = [math.log(rate) for rate in rates]
    center = math.fsum(logs) / len(logs)
    slope, curvature = _parabola([log - center for log in logs], [losses[rate] for rate in rates])
    if curvature <= 0:
        return None
    reach = math.log(_FARTHEST)
    vertex = math.exp(min(max(center - slope / (2 * curvature), logs[0] - reach), logs[-1] + reach))
    beyond = any(vertex < rate < rates[0] or rates[-1] < rate < vertex for rate in diverged)
    return None if beyond else LearningRate.parse(f"{vertex:.3g}")


def _parabola(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """Slope at zero and curvature of the parabola closest to the points; the xs have mean zero.

    By hand instead of LAPACK, whose last digits differ between machines: 1, x, and x^2 made orthogonal to both.
    """
    squares = math.fsum(x * x for x in xs)
    skew = math.fsum(x**3 for x in xs) / squares
    bends = [x * x - squares / len(xs) - skew * x for x in xs]
    curvature = math.fsum(bend * y for bend, y in zip(bends, ys, strict=True)) / math.fsum(bend**2 for bend in bends)
    slope = math.fsum(x * y for x, y in zip(xs, ys, strict=True)) / squares
    return slope - curvature * skew, curvature
