"""The weights at which a law promises the least, with no dataset above its cap and all drawn towards a prior.

    minimise   log loss(w) + pull KL(w || prior)      over weights in thousandths that sum to one, w <= cap

Both parts are sums over datasets, so the best of all such weights is found dataset by dataset, however the law is bent:
the best use of the first k datasets for u thousandths follows from that of the first k-1 for all smaller u. Costs are
rounded to integers first: sums are exact, and two machines agree. Of equals, the first datasets get more.

Price: 0.1 s for 24 datasets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cpt_trainer.decide.law import Floats, Law

UNITS = 1000
"""Weights are multiples of a thousandth."""
_EXACT = 1e12
"""Costs are integers of this part of a nat."""
_FORBIDDEN = 2**50
"""More than any cost, and 64 of them are still a number."""

Integers = npt.NDArray[np.int64]


def best_mixture(law: Law, prior: Sequence[float], caps: Sequence[float], pull: float) -> tuple[int, ...]:
    """Thousandths, one for each dataset. The caps leave room: they sum to one or more."""
    costs = _costs(law, prior, caps, pull)
    best = costs[0]
    taken: list[Integers] = []
    for cost in costs[1:]:
        # every way to share u units: t for this dataset, u - t for those before it
        shared = _windows(best) + cost
        taken.append(shared.argmin(axis=1))
        best = shared.min(axis=1)
    left, units = UNITS, []
    for choice in reversed(taken):
        units.append(int(choice[left]))
        left -= units[-1]
    return (left, *reversed(units))


def _costs(law: Law, prior: Sequence[float], caps: Sequence[float], pull: float) -> list[Integers]:
    """Of each dataset at 0 to 1000 thousandths."""
    grid = np.arange(UNITS + 1) / UNITS
    terms = law.terms(np.repeat(grid[:, None], len(prior), axis=1)).T
    found = []
    for term, expected, cap in zip(terms, prior, caps, strict=True):
        drawn = np.zeros_like(grid)
        drawn[1:] = grid[1:] * (np.log(grid[1:]) - math.log(expected))
        cost = np.rint((term + pull * drawn) * _EXACT).astype(np.int64)
        cost[math.floor(cap * UNITS + 1e-9) + 1 :] = _FORBIDDEN
        found.append(cost)
    return found


def _windows(best: Integers) -> Integers:
    """Row u, column t: the cost of u - t units; forbidden where that is negative."""
    padded = np.concatenate([np.full(UNITS, _FORBIDDEN, dtype=np.int64), best])
    return np.lib.stride_tricks.sliding_window_view(padded, UNITS + 1)[:, ::-1]


def spread_of(law: Law, weights: Floats) -> float:
    """How far apart the law sees these mixtures, in logarithms: what a pull is measured by."""
    return float(np.ptp(law.log_loss(weights)))
