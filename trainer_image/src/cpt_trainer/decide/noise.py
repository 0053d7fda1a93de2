"""Run noise: how far two runs of one recipe lie apart when only the order of their data differs.

    noise = run_noise([[a1, a2, a3], [b1, b2, b3]])     3 replicates at each of 2 rates
    noise.degrees_of_freedom                            4
    with_runs(difference(x, y), noise, runs=2)          x against y as recipes: item and run variance

It comes from replicates only. The spread of one run's last checkpoints is no stand-in: in simulation it is 0.3 to 2.2
times the true run noise.

Replicates are scored on the same items, so their spread s^2 holds two things: how runs differ as a whole, and how each
run differs item by item. The latter is in every paired item variance already; counted again it would make intervals
up to 1.4 times too wide. So it is estimated (half the item variance of the difference of two replicates) and taken off.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from cpt_trainer.decide.estimates import Estimated, TextSums, difference, level, satterthwaite


@dataclass(frozen=True, slots=True)
class RunNoise:
    """The spread between replicates."""

    standard_deviation: float
    """Of one run's score among its replicates."""
    degrees_of_freedom: int
    """Replicates minus rates."""
    by_item: Estimated
    """The part of the squared deviation that item variances hold already; its value is not used."""

    @property
    def variance(self) -> float:
        """What one run adds to the item variance; the estimate may be negative."""
        return self.standard_deviation**2 - self.by_item.variance


def run_noise(rates: Sequence[Sequence[Sequence[TextSums]]]) -> RunNoise | None:
    """Pooled over the rates; None without any two replicates of one rate."""
    groups = [replicates for replicates in rates if len(replicates) > 1]
    if not groups:
        return None
    df = sum(len(replicates) - 1 for replicates in groups)
    squares: list[float] = []
    by_item: list[tuple[float, float]] = []
    for replicates in groups:
        scores = [level(texts).value for texts in replicates]
        mean = math.fsum(scores) / len(scores)
        squares += ((score - mean) ** 2 for score in scores)
        pairs = [difference(one, other) for one, other in itertools.combinations(replicates, 2)]
        share = (len(replicates) - 1) / df / len(pairs) / 2
        by_item += ((share * pair.variance, pair.df) for pair in pairs)
    return RunNoise(
        standard_deviation=math.sqrt(math.fsum(squares) / df),
        degrees_of_freedom=df,
        by_item=Estimated(0.0, math.fsum(variance for variance, _ in by_item), satterthwaite(by_item)),
    )


def with_runs(compared: Estimated, noise: RunNoise, runs: float) -> Estimated:
    """The same comparison as a claim about recipes, where `runs` of the models compared are one run of theirs.

    A mean over n runs counts as 1/n: an arm against the mean of three controls has 1 + 1/3.
    """
    if noise.variance <= 0:
        return compared
    between = runs * noise.standard_deviation**2
    by_item = runs * noise.by_item.variance
    parts = [
        (compared.variance, compared.df),
        (between, noise.degrees_of_freedom),
        (-by_item, noise.by_item.df),
    ]
    return Estimated(compared.value, compared.variance + between - by_item, satterthwaite(parts))
