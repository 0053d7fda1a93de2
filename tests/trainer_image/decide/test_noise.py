"""Run noise, on worlds in which it is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cpt_trainer.decide.estimates import TextSums, difference
from cpt_trainer.decide.noise import run_noise, with_runs

DOCUMENTS = 60


def make_runs(random: np.random.Generator, count: int, run: float, item: float) -> list[list[TextSums]]:
    """Runs of one recipe: each is off by `run` as a whole, and by `item` on each document."""
    difficulty = random.normal(3, 0.5, DOCUMENTS)
    sizes, strata = np.full(DOCUMENTS, 100.0), (slice(0, DOCUMENTS),)
    return [
        [TextSums((difficulty + random.normal(0, run) + random.normal(0, item, DOCUMENTS)) * sizes, sizes, strata)]
        for _ in range(count)
    ]


class TestRunNoise:
    """What replicates say."""

    def test_pooled_by_hand(self) -> None:
        """Deviations within each rate, over replicates minus rates."""
        sizes, strata = np.full(2, 1.0), (slice(0, 2),)
        runs = [[TextSums(np.array([x, x]), sizes, strata)] for x in (1.0, 3.0, 10.0, 10.0, 13.0)]
        noise = run_noise([runs[:2], runs[2:]])
        assert noise is not None
        assert noise.degrees_of_freedom == 3
        assert noise.standard_deviation == pytest.approx(math.sqrt((2 + 6) / 3))
        assert noise.variance == pytest.approx(8 / 3)  # the runs differ as a whole, not by item

    def test_no_replicates(self) -> None:
        """One run a rate says nothing, and nothing is made up."""
        runs = make_runs(np.random.default_rng(0), 4, 0.1, 0.1)
        assert run_noise([[run] for run in runs]) is None
        assert run_noise([]) is None

    def test_not_what_items_say_already(self) -> None:
        """Runs that differ item by item but not as a whole have no run noise on average."""
        random = np.random.default_rng(1)
        found = [run_noise([make_runs(random, 3, 0.0, 0.1) for _ in range(4)]) for _ in range(150)]
        variances = [noise.variance for noise in found if noise]
        assert abs(np.mean(variances)) < 4 * np.std(variances) / math.sqrt(150)

    def test_unbiased(self) -> None:
        """On average the variance is that of the runs as a whole."""
        random = np.random.default_rng(2)
        found = [run_noise([make_runs(random, 3, 0.05, 0.1) for _ in range(4)]) for _ in range(150)]
        variances = [noise.variance for noise in found if noise]
        assert abs(np.mean(variances) - 0.05**2) < 4 * np.std(variances) / math.sqrt(150)

    @pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0, 3.0], ids="run noise {} x item noise".format)
    def test_coverage(self, ratio: float) -> None:
        """Intervals of recipes cover in 93 to 97 of 100, whichever noise is larger.

        Without runs they cover in 36 to 96, with all of the replicates' spread in 95 to 99.6. 400 draws are within 2.8.
        """
        random, covered, draws = np.random.default_rng(3), 0, 400
        item = 0.1
        run = ratio * item * math.sqrt(2 / DOCUMENTS)
        for _ in range(draws):
            noise = run_noise([make_runs(random, 3, run, item) for _ in range(4)])
            assert noise
            one, other = make_runs(random, 2, run, item)
            lower, upper = with_runs(difference(one, other), noise, runs=2).interval()
            covered += lower <= 0 <= upper
        assert 0.93 - 0.028 < covered / draws < 0.97 + 0.028
