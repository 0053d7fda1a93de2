"""One rung: who is best, who is as good, who is out, and where a parabola has its minimum."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_api.values import LearningRate
from cpt_trainer.decide.estimates import Estimated, TextSums
from cpt_trainer.decide.noise import RunNoise
from cpt_trainer.decide.race import fitted_vertex, race
from questions import DOCUMENTS, make_text, rates

FOUR = rates("1e-5", "1e-4", "3e-4", "1e-3")
SURE = RunNoise(0.01, 1000, Estimated(0.0, 0.0, 1000))
"""Run noise that is as good as known: a difference of two runs has a standard error of 0.0141, with items 0.0143."""
LOSSES = st.lists(st.integers(200, 400).map(lambda n: n / 100), min_size=1, max_size=8)


def make_targets(*losses: float) -> dict[LearningRate, list[TextSums]]:
    """Rates of a grid with these bits per byte."""
    grid = [LearningRate.parse(f"{10 ** (number / 2 - 5):.3g}") for number in range(len(losses))]
    return {rate: [make_text(loss, seed)] for seed, (rate, loss) in enumerate(zip(grid, losses, strict=True))}


class TestChoice:
    """Design 4: "the lowest whose paired loss to the rung's best is within one standard error of that difference"."""

    @pytest.mark.parametrize(
        ("losses", "chosen"),
        [
            pytest.param((2.5, 2.2, 2.0), 2, id="the best, when all others are worse"),
            pytest.param((2.5, 2.013, 2.0), 1, id="a lower one within one standard error"),
            pytest.param((2.5, 2.016, 2.0), 2, id="not one beyond it"),
            pytest.param((2.013, 2.5, 2.0), 0, id="the lowest, whatever lies between"),
            pytest.param((2.0, 2.0, 2.0), 0, id="of equals the lowest"),
            pytest.param((2.0, 2.001, 2.5), 0, id="never a higher one than the best"),
        ],
    )
    def test_chosen(self, losses: tuple[float, ...], chosen: int) -> None:
        """The standard error holds items and runs."""
        targets = make_targets(*losses)
        assert race(targets, SURE, 3, last=True).chosen == list(targets)[chosen]

    def test_without_run_noise_the_items_decide(self) -> None:
        """The standard error is that of the items alone (0.002): 0.013 is beyond it."""
        targets = make_targets(2.5, 2.013, 2.0)
        assert race(targets, None, 3, last=True).chosen == list(targets)[2]

    @given(LOSSES)
    @settings(deadline=None, max_examples=40)
    def test_order_means_nothing(self, losses: list[float]) -> None:
        """The order in which rates are listed changes no answer."""
        targets = make_targets(*losses)
        there = race(targets, SURE, 3, last=False)
        back = race(dict(reversed(targets.items())), SURE, 3, last=False)
        assert (there.best, there.chosen, there.dropped) == (back.best, back.chosen, back.dropped)


class TestDropped:
    """Design 4: "behind the leader beyond a Bonferroni bound over (rates-1) x rungs, at most half per rung"."""

    def test_bound(self) -> None:
        """Three comparisons at three rungs: 2.54 standard errors of 0.0143, which is 0.0363."""
        targets = make_targets(2.0, 2.035, 2.038, 2.0)
        assert race(targets, SURE, 3, last=False).dropped == (list(targets)[2],)

    def test_more_comparisons_more_care(self) -> None:
        """At one rung of one the bound is lower: 2.13 standard errors."""
        targets = make_targets(2.0, 2.035, 2.038, 2.0)
        assert set(race(targets, SURE, 1, last=False).dropped) == set(list(targets)[1:3])

    @given(LOSSES)
    @settings(deadline=None, max_examples=40)
    def test_never_the_leader_at_most_half(self, losses: list[float]) -> None:
        """Whatever the losses are; and what is chosen stays in the race."""
        found = race(make_targets(*losses), SURE, 3, last=False)
        assert len(found.dropped) <= len(losses) // 2
        assert not {found.best, found.chosen} & set(found.dropped)

    def test_the_farthest_first(self) -> None:
        """Where more than half are beyond the bound, the worst of them go."""
        targets = make_targets(3.0, 2.6, 2.9, 2.0)
        assert race(targets, SURE, 3, last=False).dropped == tuple(list(targets)[0:3:2])

    @pytest.mark.parametrize(("noise", "last"), [(None, False), (SURE, True)], ids=["no run noise", "last rung"])
    def test_nobody(self, noise: RunNoise | None, *, last: bool) -> None:
        """Nothing is dropped on the word of items alone, nor where no rung follows."""
        assert race(make_targets(3.0, 2.0), noise, 3, last=last).dropped == ()

    def test_the_best_survives_noise(self) -> None:
        """Of four equal rates the one that is truly best by a hair is lost in at most 5 of 100 races of three rungs.

        Every rung has fresh noise here, which is the worst case. 300 races: at most 5 % + 3 standard errors.
        """
        random, lost, races = np.random.default_rng(7), 0, 300
        sizes, strata = np.full(DOCUMENTS, 100.0), (slice(0, DOCUMENTS),)
        for _ in range(races):
            measured = 0.01 * math.sqrt(random.chisquare(8) / 8)
            noise = RunNoise(measured, 8, Estimated(0.0, 0.0, 8))
            standing = set(FOUR)
            for rung in range(3):
                targets = {
                    rate: [
                        TextSums((2 + random.normal(0, 0.01) + np.linspace(-1, 1, DOCUMENTS)) * sizes, sizes, strata)
                    ]
                    for rate in sorted(standing)
                }
                standing -= set(race(targets, noise, 3, last=rung == 2).dropped)
            lost += FOUR[1] not in standing
        assert lost / races <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / races)


class TestFittedVertex:
    """For the figure, and to extend the grid."""

    @given(st.floats(-4.4, -3.1), st.floats(0.01, 10))
    @settings(deadline=None)
    def test_of_a_parabola(self, vertex: float, curvature: float) -> None:
        """Its minimum, to three digits."""
        losses = {rate: curvature * (math.log10(rate) - vertex) ** 2 for rate in FOUR}
        found = fitted_vertex(losses, ())
        assert found is not None
        assert float(found) == pytest.approx(10**vertex, rel=6e-3)

    def test_outside(self) -> None:
        """A loss that still falls at the edge has its minimum beyond, at most ten times beyond."""
        found = fitted_vertex(dict(zip(FOUR, (3.0, 2.0, 1.55, 1.1), strict=True)), ())
        assert found is not None
        assert FOUR[-1] < found <= 10 * FOUR[-1]

    @pytest.mark.parametrize(
        ("losses", "diverged"),
        [
            pytest.param((1.0, 2.0), (), id="two points"),
            pytest.param((1.0, 2.0, 2.1, 1.0), (), id="no minimum"),
            pytest.param((3.0, 2.0, 1.55), FOUR[3:], id="beyond a rate that diverged"),
        ],
    )
    def test_none(self, losses: tuple[float, ...], diverged: tuple[LearningRate, ...]) -> None:
        """Nothing is made up."""
        assert fitted_vertex(dict(zip(FOUR, losses, strict=False)), diverged) is None
