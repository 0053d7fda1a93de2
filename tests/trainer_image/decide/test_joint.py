"""The largest of several t's, where its distribution is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cpt_trainer.decide.estimates import Estimated, TextSums, level
from cpt_trainer.decide.joint import MaximumNull, correlations

ALIKE = np.ones((3, 3)).tolist()
FREE = np.eye(3).tolist()
MANY = 1e7
"""Degrees of freedom with which s is 1."""


class TestMaximum:
    """Against what can be computed otherwise."""

    @pytest.mark.parametrize("t", [-2.0, 0.0, 1.5, 3.0])
    def test_of_one(self, t: float) -> None:
        """Student's t, exactly."""
        assert MaximumNull.of([[1.0]], 8.3, 0).exceeded(t) == pytest.approx(stats.t.sf(t, 8.3))

    @pytest.mark.parametrize("t", [-1.0, 0.0, 1.0, 2.0, 2.5])
    def test_of_three_that_are_free(self, t: float) -> None:
        """1 - (1 - p)^3, to the precision of the draws."""
        assert MaximumNull.of(FREE, MANY, 0).exceeded(t) == pytest.approx(1 - stats.norm.cdf(t) ** 3, rel=0.03)

    @pytest.mark.parametrize("t", [-1.0, 0.0, 1.5, 2.5])
    def test_of_three_that_are_alike(self, t: float) -> None:
        """The same as of one."""
        assert MaximumNull.of(ALIKE, 8.3, 0).exceeded(t) == pytest.approx(stats.t.sf(t, 8.3), rel=0.03)

    def test_against_dunnett(self) -> None:
        """Three arms against one control, one-sided: the textbook's critical value for 10 degrees of freedom is 2.34.

        Dunnett 1955, table 1a, 5 %: k = 3, 10 df; correlation one half.
        """
        half = [[1.0, 0.5, 0.5], [0.5, 1.0, 0.5], [0.5, 0.5, 1.0]]
        assert MaximumNull.of(half, 10, 0).quantile(0.95) == pytest.approx(2.34, abs=0.015)

    @pytest.mark.parametrize("matrix", [FREE, ALIKE], ids=["free", "alike"])
    @pytest.mark.parametrize("probability", [0.8, 0.95, 0.999])
    def test_quantile(self, matrix: list[list[float]], probability: float) -> None:
        """It is exceeded as often as it says, and lies between one t's and Bonferroni's."""
        null = MaximumNull.of(matrix, 8, 0)
        quantile = null.quantile(probability)
        assert null.exceeded(quantile) == pytest.approx(1 - probability, rel=0.01)
        assert stats.t.ppf(probability, 8) <= quantile <= stats.t.ppf(1 - (1 - probability) / 3, 8) + 1e-6

    def test_the_seed_makes_it(self) -> None:
        """Equal seeds give equal numbers, others hardly different ones."""
        quantiles = [MaximumNull.of(FREE, 8, seed).quantile(0.95) for seed in (1, 1, 2)]
        assert quantiles[0] == quantiles[1] != quantiles[2]
        assert quantiles[2] == pytest.approx(quantiles[0], rel=0.01)


class TestCorrelations:
    """What two comparisons on the same documents have in common."""

    @staticmethod
    def make_gains() -> tuple[list[list[TextSums]], list[Estimated]]:
        random, sizes, strata = np.random.default_rng(3), np.full(50, 10.0), (slice(0, 50),)
        one, other = random.normal(0, 1, (2, 50))
        texts = [[TextSums(bits * sizes, sizes, strata)] for bits in (one, one, other)]
        return texts, [level(text) for text in texts]

    def test_items_alone(self) -> None:
        """The same documents' gains are one variable; others are the sample's correlation."""
        texts, gains = self.make_gains()
        found = correlations(texts, gains)
        expected = np.corrcoef([text[0].bits for text in texts])
        assert np.array(found) == pytest.approx(expected)

    def test_runs_are_free(self) -> None:
        """Where three quarters of the variance are the runs', a quarter of the correlation is left."""
        texts, gains = self.make_gains()
        noisy = [Estimated(gain.value, 4 * gain.variance, gain.df) for gain in gains]
        assert correlations(texts, noisy)[0][1] == pytest.approx(0.25)
