"""The largest of several t's when nothing is true: what the best rate of a useless dataset looks like.

    null = MaximumNull.of(correlations(...), df=8.3, seed=0)    four rates that share their documents
    null.exceeded(2.31)                                         0.083: a plain t test says 0.024
    null.quantile(0.95)                                         2.64: a plain t test says 1.85

Of t = z/s the z's are correlated normals and s is what all share, since nearly all doubt about the variance is doubt
about the run noise. The largest z is drawn, 65,536 times from an explicit seed; s is integrated, not drawn, so
probabilities are smooth in t, and two machines that differ in a last digit still agree in the ninth. One rate alone
needs no draws: that is Student's t.

Price: 10 ms for four rates, 0.1 s for 64; then half a millisecond a probability.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from cpt_trainer.decide.estimates import Estimated, TextSums, difference, level, t_quantile, total

Texts = Sequence[TextSums]
Floats = npt.NDArray[np.float64]

_DRAWS = 65_536
_NOTHING = 1e-100
"""As good as zero: the square of what is divided by less would be too large for a float."""
_POINTS = 4_096
"""Sorted draws are averaged in groups of 16: quantiles keep three digits, and the price falls to a sixteenth."""
_BISECTIONS = 20
"""Six digits: finer than the draws. A faster search would hang on the last digit of a probability."""


@dataclass(frozen=True, slots=True, eq=False)
class MaximumNull:
    """Distribution of max z/s."""

    maxima: Floats | None
    """Equally likely values of the largest z; None where there is one z."""
    count: int
    """Of z's."""
    df: float
    """Of s."""

    @classmethod
    def of(cls, correlations: Sequence[Sequence[float]], df: float, seed: int) -> Self:
        """For z's with that correlation matrix."""
        count = len(correlations)
        if count == 1:
            return cls(None, 1, df)
        values, vectors = np.linalg.eigh(np.asarray(correlations, dtype=np.float64))
        # the symmetric root is unique, Cholesky's fails where two rates are the same to all digits
        root = (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T
        draws = np.random.Generator(np.random.PCG64(seed)).standard_normal((_DRAWS, count))
        largest = np.sort((draws @ root).max(axis=1))
        return cls(largest.reshape(_POINTS, -1).mean(axis=1), count, df)

    def exceeded(self, t: float) -> float:
        """The chance of a larger one."""
        from scipy.special import chdtr, stdtr  # scipy.stats takes a second to import

        if self.maxima is None:
            return float(stdtr(self.df, -t))
        if abs(t) < _NOTHING:
            return float(np.mean(self.maxima > 0))
        # z/s > t > 0 where s < z/t; z/s < t < 0 where s < |z/t|
        same_sign = self.maxima * t > 0
        inside = total(chdtr(self.df, self.df * (self.maxima[same_sign] / t) ** 2)) / len(self.maxima)
        return inside if t > 0 else 1 - inside

    def quantile(self, probability: float) -> float:
        """Exceeded with the chance 1 - `probability`, which is below a half."""
        low = t_quantile(probability, self.df)
        if self.maxima is None:
            return low
        high = t_quantile(1 - (1 - probability) / self.count, self.df)  # Bonferroni's
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.exceeded(middle) > 1 - probability else (low, middle)
        return high


def correlations(items: Sequence[Texts], totals: Sequence[Estimated], shared: float = 0.0) -> list[list[float]]:
    """Between comparisons on the same documents: covariance / total standard errors.

    `shared`: variance of a run that stands in all of them; by default they have no run in common.
    """
    count = len(items)
    matrix = [[1.0] * count for _ in range(count)]
    alone = [level(texts).variance for texts in items]
    for one, other in itertools.combinations(range(count), 2):
        # of a - b: var a + var b - 2 cov
        covariance = shared + (alone[one] + alone[other] - difference(items[one], items[other]).variance) / 2
        scale = totals[one].standard_error * totals[other].standard_error
        matrix[one][other] = matrix[other][one] = min(1.0, max(-1.0, covariance / scale)) if scale else 0.0
    return matrix
