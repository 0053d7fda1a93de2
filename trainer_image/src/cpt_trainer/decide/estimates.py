"""How good a model is on held-out text or on a suite, how much better than another, and how sure that is.

    a, b = text_sums(items_of_a), text_sums(items_of_b)        the same items, in the same order
    difference([a], [b])                                       Estimated(value=-0.031, variance=1.2e-6, df=212.4)

Bits per byte is a ratio, so a document counts by its bytes. Documents are the clusters: sections of one vary together.
The variance is the sandwich of the ratio with each document's residual divided by what it could not show (1 minus its
share of the bytes: CR2 of Bell and McCaffrey), unbiased when bits vary in proportion to bytes; for C documents of one
size it is the textbook s^2/C with C - 1 degrees of freedom, for a few long ones among many short it has fewer.
Strata are fixed: only what varies within them counts.

A metric is a mean over texts; or, of a suite, a sum of ratios with coefficients of their own (a share of wrong answers
is a ratio too, and an item its own document), to which a constant is added.

Comparisons are paired by item, so what is hard for both models cancels. Sums are `math.fsum`: exact in any order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cpt_trainer.decide.halves import picking_half
from cpt_trainer.errors import DataError

if TYPE_CHECKING:
    from cpt_trainer.tables import Items

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Estimated:
    """A number, the variance of its error, and how well that variance is known."""

    value: float
    variance: float
    df: float
    """Degrees of freedom of the variance."""

    @property
    def standard_error(self) -> float:
        """Square root of the variance."""
        return math.sqrt(self.variance)

    def interval(self, level: float = 0.95, *, picked_from: int = 1) -> tuple[float, float]:
        """Two-sided, by the t distribution.

        The best of several looks better than it is: `picked_from` so many, the lower end is Bonferroni's.
        """
        tail = (1 - level) / 2
        down, up = t_quantile(1 - tail / picked_from, self.df), t_quantile(1 - tail, self.df)
        return self.value - down * self.standard_error, self.value + up * self.standard_error


@dataclass(frozen=True, slots=True, eq=False)
class TextSums:
    """One model on one text: sums over the items of each cluster, strata one after another."""

    bits: Floats
    """By cluster."""
    bytes: Floats
    """By cluster; the same for all models on this text."""
    strata: tuple[slice, ...]
    """Which clusters belong together."""
    picks: Mask | None = None
    """Clusters of the half that picks among models (halves.py); absent from what was computed of several."""
    coefficient: float | None = None
    """Of its ratio in the metric; None: the metric is the mean over its texts."""
    constant: float = 0.0
    """That it adds to the metric beside its ratio; none is left in a difference."""


def text_sums(items: Items) -> TextSums:
    """Sum the rows of one text by cluster."""
    order = np.lexsort((items.cluster, items.stratum))
    stratum, cluster = items.stratum[order], items.cluster[order]
    new_stratum = np.append(True, stratum[1:] != stratum[:-1])
    starts = np.flatnonzero(new_stratum | np.append(True, cluster[1:] != cluster[:-1]))
    bits = np.split(items.bits[order], starts[1:])
    edges = [*np.flatnonzero(new_stratum[starts]), len(starts)]
    strata = tuple(slice(start, end) for start, end in itertools.pairwise(edges))
    return TextSums(
        bits=np.array([total(part) for part in bits]),
        bytes=np.add.reduceat(items.bytes[order], starts).astype(np.float64),
        strata=strata,
        picks=picking_half(cluster[starts].tolist(), strata),
    )


def level(texts: Sequence[TextSums]) -> Estimated:
    """The metric: of held-out texts the mean of their bits per byte."""
    count = len(texts)
    parts = [_ratio(text) for text in texts]
    own = [(text.coefficient, part) for text, part in zip(texts, parts, strict=True) if text.coefficient is not None]
    if own:
        assert len(own) == count, "all texts of a metric have a coefficient, or none"
        summed = combined(own)
        return replace(summed, value=math.fsum((summed.value, *(text.constant for text in texts))))
    return Estimated(
        value=math.fsum(part.value for part in parts) / count,
        variance=math.fsum(part.variance for part in parts) / count**2,
        df=satterthwaite((part.variance, part.df) for part in parts),
    )


def combined(parts: Sequence[tuple[float, Estimated]]) -> Estimated:
    """A sum of independent estimates, each with its coefficient."""
    return Estimated(
        value=math.fsum(coefficient * part.value for coefficient, part in parts),
        variance=math.fsum(coefficient**2 * part.variance for coefficient, part in parts),
        df=satterthwaite((coefficient**2 * part.variance, part.df) for coefficient, part in parts),
    )


def difference(texts: Sequence[TextSums], others: Sequence[TextSums]) -> Estimated:
    """The metric of a model minus that of another, paired by item."""
    return level(minus(texts, others))


def minus(texts: Sequence[TextSums], others: Sequence[TextSums]) -> list[TextSums]:
    """Bits of a model minus those of another, cluster by cluster."""
    pairs = zip(texts, others, strict=True)
    return [computed(one, one.bits - other.bits, one.constant - other.constant) for one, other in pairs]


def computed(text: TextSums, bits: Floats, constant: float) -> TextSums:
    """Of several models' sums on that text."""
    return replace(text, bits=bits, constant=constant, picks=None)


def satterthwaite(parts: Iterable[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of independent variances, each with its own (Welch and Satterthwaite).

    A part that is subtracted is negative: it makes the sum smaller and less certain.
    """
    parts = list(parts)
    whole = math.fsum(variance for variance, _ in parts)
    if whole == 0:
        return min(df for _, df in parts)
    return 1 / math.fsum((variance / whole) ** 2 / df for variance, df in parts)  # shares: squares of tiny ones vanish


def t_quantile(probability: float, df: float) -> float:
    """Of Student's t distribution."""
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    return float(stdtrit(df, probability))


def total(numbers: Floats) -> float:
    """Exact in any order; as a list, since a sum over an array's own elements takes eight times as long."""
    return math.fsum(numbers.tolist())


def rounded(number: float) -> float:
    """To 9 significant digits: what survives another machine."""
    return float(f"{number:.9g}")


def _ratio(text: TextSums) -> Estimated:
    """Sum of bits / sum of bytes of one text."""
    total_bytes = total(text.bytes)
    parts = [_within(text.bits[stratum], text.bytes[stratum], total_bytes) for stratum in text.strata]
    return Estimated(
        value=total(text.bits) / total_bytes,
        variance=math.fsum(variance for variance, _ in parts),
        df=satterthwaite(parts),
    )


def _within(bits: Floats, sizes: Floats, total_bytes: float) -> tuple[float, float]:
    """What one stratum adds to the variance of bits / total_bytes, and its degrees of freedom.

    The latter are 2 E[V]^2 / Var[V] for the quadratic form V when bits vary in proportion to bytes: with residuals
    R y, R = I - s 1'/S, and weights K = 1/(1 - s/S) it is tr(K R D R')^2 / tr((K R D R')^2) with D = diag(s).
    """
    if len(sizes) < 2:
        raise DataError(
            "a text, or a stratum of it, has one document (cluster), so nothing can be said about how sure its score "
            "is: hold out at least two, 40 or more are good"
        )
    own_bytes = total(sizes)
    residuals = bits - total(bits) / own_bytes * sizes
    weights = 1 / (1 - sizes / own_bytes)
    variance = total(weights * residuals**2) / total_bytes**2
    squares = sizes**2
    cross = total(weights * squares) ** 2 - total((weights * squares) ** 2)
    return variance, own_bytes**2 / (total(squares) + cross / own_bytes**2)
