"""The compute with which bases alone would reach a target: where their line crosses it.

    base   FLOPs   bits per byte
    1b     1e21    0.80
    7b     1e22    0.70        a trained 1b has 0.75 after 1.1e21: halfway in the logarithm, at 3.2e21
    13b    3e22    0.66        so its compute-equivalent gain is 2.9

Between two bases the line is straight over the logarithm of compute, *document by document*: what lies between it and
the trained model is one paired difference of bits, with the standard error of any other. The interval is the set of
places whose difference a two-sided 95 % test does not refuse (Fieller): right also where the line is flat, and open
at an end of the line where the test refuses nothing. Nothing is extrapolated.

Price: some 200 differences for each model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cpt_api.result import Equivalent
from cpt_trainer.decide.document import LEVEL, Texts
from cpt_trainer.decide.estimates import Estimated, computed, difference, level, rounded
from cpt_trainer.decide.noise import RunNoise, with_runs

_BISECTIONS = 50
"""All digits of a float."""


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """One base."""

    flops: float
    target: Texts


Line = Sequence[Point]
"""By rising compute."""


def line_of(points: Sequence[Point]) -> Line:
    """Of bases with the same compute the better one."""
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (point.flops, level(point.target).value)):
        if not found or found[-1].flops < point.flops:
            found.append(point)
    return found


def equivalent(line: Line, target: Texts, flops: float, noise: RunNoise | None, picked_from: int) -> Equivalent:
    """Where the line reaches `target`, in multiples of `flops`; of a line of two points at least.

    The target is that of a recipe which was the best of `picked_from`: it looks better than it is, so the lower bound
    is Bonferroni's.
    """

    def behind(place: float) -> Estimated:
        """Bits per byte by which the line is worse than the target."""
        compared = difference(_at(line, place), target)
        return with_runs(compared, noise, runs=1) if noise else compared

    def surely(place: float) -> tuple[float, float]:
        return behind(place).interval(LEVEL, picked_from=picked_from)

    last = len(line) - 1.0
    first = _first(lambda place: behind(place).value, last)
    lower = _first(lambda place: surely(place)[0], last) if noise else None
    # from the far end on the line is surely better, as far back as this
    upper = _first(lambda place: -surely(last - place)[1], last) if noise else None

    def ratio(place: float) -> float:
        return rounded(math.exp(_log_flops(line, place) - math.log(flops)))

    return Equivalent(
        place="Below" if first == 0 else "Between" if first is not None else "Beyond",
        value=ratio(first) if first else None,
        lower=None if not noise or lower == 0 else ratio(last if lower is None else lower),
        upper=None if not noise or upper == 0 else ratio(0 if upper is None else last - upper),
        smallest=ratio(0),
        largest=ratio(last),
    )


def _first(height: Callable[[float], float], last: float) -> float | None:
    """The first place from 0 on where `height` is not above zero; None: nowhere.

    Between whole places it is linear, less a convex standard error: what is above zero at both is so in between.
    """
    if height(0.0) <= 0:
        return 0.0
    for end in range(1, int(last) + 1):
        if height(float(end)) > 0:
            continue
        low, high = end - 1.0, float(end)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if height(middle) > 0 else (low, middle)
        return high
    return None


def _at(line: Line, place: float) -> Texts:
    """The line between two points, document by document; whole places are the points."""
    before = min(int(place), len(line) - 2)
    part = place - before
    pairs = zip(line[before].target, line[before + 1].target, strict=True)
    return [computed(one, (1 - part) * one.bits + part * other.bits, one.constant) for one, other in pairs]


def _log_flops(line: Line, place: float) -> float:
    before = min(int(place), len(line) - 2)
    part = place - before
    return (1 - part) * math.log(line[before].flops) + part * math.log(line[before + 1].flops)
