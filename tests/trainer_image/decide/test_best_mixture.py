"""The best weights of a law: exact, within the caps, drawn towards the prior."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_trainer.decide.best_mixture import UNITS, best_mixture
from cpt_trainer.decide.law import Bend, Floats, Law

EVEN = (0.25,) * 4
FREE = (1.0,) * 4


def law(linear: list[float], bent: list[float] | None = None, bend: Bend = "Square") -> Law:
    """Without having been fitted."""
    return Law(bend, np.array(linear), np.array(bent or [0.0] * len(linear)), np.zeros(1))


def test_the_best_alone() -> None:
    """A law without bend, nobody's prior: all of the best dataset."""
    assert best_mixture(law([0.3, 0.1, 0.2, 0.4]), EVEN, FREE, pull=0.0) == (0, 1000, 0, 0)


def test_caps() -> None:
    """What the best may not have goes to the next."""
    assert best_mixture(law([0.3, 0.1, 0.2, 0.4]), EVEN, (1, 0.5, 0.2, 1), pull=0.0) == (300, 500, 200, 0)


def test_no_room_to_choose() -> None:
    """Caps that just sum to one are the answer."""
    assert best_mixture(law([0.3, 0.1, 0.2, 0.4]), EVEN, (0.1, 0.2, 0.3, 0.4), pull=0.05) == (100, 200, 300, 400)


def test_pull() -> None:
    """Where all are alike the prior is met; a strong pull outweighs the law."""
    prior = (0.1, 0.2, 0.3, 0.4)
    assert best_mixture(law([0.1] * 4), prior, FREE, pull=0.01) == (100, 200, 300, 400)
    assert best_mixture(law([0.3, 0.1, 0.2, 0.4]), prior, FREE, pull=100) == pytest.approx((100, 200, 300, 400), abs=1)


def test_the_bottom_of_a_parabola() -> None:
    """0.2 w + 0.1 (1-w) + 0.1 w^2 + 0.1 (1-w)^2 is least where its slope is zero, at a quarter."""
    assert best_mixture(law([0.2, 0.1], [0.1, 0.1]), (0.5, 0.5), (1, 1), pull=0.0) == (250, 750)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(-0.5, 0.5), min_size=3, max_size=3),
    st.lists(st.floats(-0.5, 0.5), min_size=3, max_size=3),
    st.sampled_from(get_args(Bend)),
    st.lists(st.floats(0.4, 1.0), min_size=3, max_size=3),
)
def test_nothing_is_better(linear: list[float], bent: list[float], bend: Bend, caps: list[float]) -> None:
    """However the law is bent: no mixture of a grid within the caps promises less."""
    fitted, prior, pull = law(linear, bent, bend), (0.5, 0.3, 0.2), 0.02
    found = np.array(best_mixture(fitted, prior, caps, pull)) / UNITS
    assert found.sum() == pytest.approx(1)
    assert all(found <= np.array(caps) + 1e-9)
    grid = np.array([(a, b, 100 - a - b) for a in range(101) for b in range(101 - a)]) / 100
    grid = grid[(grid <= np.floor(np.array(caps) * UNITS + 1e-9) / UNITS).all(axis=1)]
    assert cost(fitted, found[None], prior, pull)[0] <= cost(fitted, grid, prior, pull).min() + 1e-9


def cost(fitted: Law, weights: Floats, prior: tuple[float, ...], pull: float) -> Floats:
    """What is minimised."""
    ratio = np.where(weights > 0, weights / np.array(prior), 1.0)
    return np.asarray(fitted.log_loss(weights) + pull * (weights * np.log(ratio)).sum(axis=1))
