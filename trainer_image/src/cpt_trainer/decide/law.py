"""How the loss of a mixture follows from its weights: a log-linear regression, bent where the data say so.

    log loss = sum over datasets of  a w + c f(w)           f: nothing, the square of w, or its square root

Nothing is the log-linear law of the mixing literature. The square is what a merge of models does: along a line between
two of them the loss is a parabola. The root is what training does: the first tenth of a dataset teaches the most.
Which of the three, and how strongly the coefficients are held back (ridge, the a's towards their mean), is chosen by
what each predicts of a mixture that it has not seen, leaving out one at a time.

RegMix's public tables (17 domains, 13 losses, trained from nothing): rank correlation with 256 mixtures not fitted, and
how much worse the one that looks best is than the best, in standard deviations (benchmarks/regmix.py):

    fitted                    54 mixtures      512
    nothing                   0.77   0.02      0.85   0.01
    square                    0.80   0.13      0.91   0.11
    root, which is chosen     0.94   0.15      0.98   0.12
    RegMix's own trees        0.86   0.69      0.99   0.08

Price: a millisecond for 18 merges of five models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bend = Literal["None", "Square", "Root"]
"""Which f the law has."""

_BENDS: Mapping[Bend, Callable[[Floats], Floats]] = {"None": np.zeros_like, "Square": np.square, "Root": np.sqrt}
_PENALTIES = tuple(10.0**power for power in range(2, -7, -1))
"""From the strongest: of two that predict alike the stronger is taken."""
_ALIKE = 1 + 1e-6
_NOTHING = 1e-20
"""A squared error of a logarithm that is rounding alone."""


@dataclass(frozen=True, slots=True, eq=False)
class Law:
    """What was fitted."""

    bend: Bend
    linear: Floats
    """The a's."""
    bent: Floats
    """The c's; zeros where nothing is bent."""
    unseen: Floats
    """Of every mixture that was fitted: its log loss as predicted by all others."""

    def terms(self, weights: Floats) -> Floats:
        """What each dataset adds to the log loss at these weights, one column for each dataset."""
        return np.asarray(self.linear * weights + self.bent * _BENDS[self.bend](weights))

    def log_loss(self, weights: Floats) -> Floats:
        """Of mixtures, one a row."""
        return np.asarray(self.terms(weights).sum(axis=-1))


def fit(weights: Floats, losses: Floats) -> Law:
    """The law that predicts mixtures best which it has not seen. Rows of `weights` sum to one, losses are positive."""
    logarithms = np.log(losses)
    laws = [_fit(weights, logarithms, bend, penalty) for bend in _BENDS for penalty in _PENALTIES]
    errors = [float(np.mean((law.unseen - logarithms) ** 2)) for law in laws]
    bound = min(errors) * _ALIKE + _NOTHING
    return next(law for law, error in zip(laws, errors, strict=True) if error <= bound)


def _fit(weights: Floats, logarithms: Floats, bend: Bend, penalty: float) -> Law:
    count = weights.shape[1]
    bent = _BENDS[bend](weights)
    features = np.hstack([weights, bent])
    held_back = penalty * np.eye(2 * count)
    held_back[:count, :count] -= penalty / count  # a level that all datasets share is free
    solved = np.linalg.solve(features.T @ features + held_back, features.T)
    hat = features @ solved
    coefficients = solved @ logarithms
    residuals = (logarithms - hat @ logarithms) / (1 - np.diag(hat))
    return Law(bend, coefficients[:count], coefficients[count:], logarithms - residuals)


def rank_correlation(ones: Floats, others: Floats) -> float:
    """Spearman's; 0 where either has no order at all."""
    centred = [_ranks(values) - (len(values) + 1) / 2 for values in (ones, others)]
    scale = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum()) / scale if scale else 0.0


def _ranks(values: Floats) -> Floats:
    """From 1; equal values share the mean of their ranks. scipy.stats has it, and takes a second to import."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[places], dtype=np.float64)
