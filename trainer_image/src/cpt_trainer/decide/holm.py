"""Many tests at once: Holm for verdicts, Benjamini and Hochberg for the matrix.

>>> holm([0.001, 0.03, 0.02], family=3, error=0.05)
[Step(level=0.016666666666666666, p=0.003), Step(level=0.025, p=0.04), Step(level=0.025, p=0.04)]
>>> stands_out([0.001, 0.2, 0.02], rate=0.05)
[True, False, True]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """How one hypothesis fares."""

    level: float
    """At which it was tested: a bound at this level is above zero where the hypothesis is rejected, and only there."""
    p: float
    """Adjusted: rejected where it is at most the error rate."""


def holm(ps: Sequence[float], family: int, error: float) -> list[Step]:
    """In the order of `ps`. A family may have more members than are seen here: then it errs on the careful side."""
    steps: dict[int, Step] = {}
    adjusted, level, going = 0.0, 0.0, True
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda index: ps[index])):
        left = family - rank
        if going:  # the first that stands ends the descent, and all later ones are tested as it was
            level = error / left
            going = ps[index] <= level
        adjusted = min(1.0, max(adjusted, left * ps[index]))
        steps[index] = Step(level, adjusted)
    return [steps[index] for index in range(len(ps))]


def stands_out(ps: Sequence[float], rate: float) -> list[bool]:
    """Those of which at most `rate` are expected to stand out for nothing (Benjamini and Hochberg)."""
    order = sorted(range(len(ps)), key=lambda index: ps[index])
    kept = max((rank + 1 for rank, index in enumerate(order) if ps[index] <= (rank + 1) * rate / len(ps)), default=0)
    chosen = set(order[:kept])
    return [index in chosen for index in range(len(ps))]
