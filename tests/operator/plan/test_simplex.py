"""Which mixtures merges are made for."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt_operator.plan.simplex import UNITS, mixtures, thousandths

SIZES = (2, 3, 5, 24)


@pytest.mark.parametrize("datasets", SIZES)
def test_enough(datasets: int) -> None:
    """Design 4: "K >= 3(m+1) merges with sum 1"; all of them different."""
    found = mixtures(datasets)
    assert len(found) == len(set(found)) == 3 * (datasets + 1)
    assert all(sum(mixture) == UNITS and min(mixture) >= 0 for mixture in found)


@pytest.mark.parametrize("datasets", SIZES)
def test_every_dataset_alone(datasets: int) -> None:
    """And one in which all are alike."""
    found = mixtures(datasets)
    assert {mixture.index(UNITS) for mixture in found if UNITS in mixture} == set(range(datasets))
    assert any(max(mixture) - min(mixture) <= 1 for mixture in found)


@pytest.mark.parametrize("datasets", SIZES)
def test_spread(datasets: int) -> None:
    """No dataset is left out of what lies between: each has more than half of its fair part on average."""
    between = [mixture for mixture in mixtures(datasets) if mixture.count(0) < datasets - 2]
    if datasets > 2:
        assert min(map(sum, zip(*between, strict=True))) > len(between) * UNITS / datasets / 2


def test_two_datasets() -> None:
    """Between the ends no gap is wider than a quarter."""
    firsts = sorted(mixture[0] for mixture in mixtures(2))
    assert max(after - before for before, after in itertools.pairwise(firsts)) <= 250


def test_what_is_wanted_too() -> None:
    """It takes the place of another; what is among them anyway adds nothing."""
    wanted = (200, 300, 500)
    assert wanted in mixtures(3, (wanted,))
    assert len(mixtures(3, (wanted,))) == len(mixtures(3))
    assert set(mixtures(3, ((1000, 0, 0),))) == set(mixtures(3))


def test_golden() -> None:
    """Weights are part of digests: other ones would evaluate every merge again."""
    assert mixtures(3) == (
        (1000, 0, 0),
        (0, 1000, 0),
        (0, 0, 1000),
        (334, 333, 333),
        (500, 500, 0),
        (0, 500, 500),
        (500, 0, 500),
        (414, 318, 268),
        (464, 364, 172),
        (196, 47, 757),
        (657, 271, 72),
        (71, 589, 340),
    )


@given(st.lists(st.fractions(0, 1), min_size=1, max_size=24).filter(any))
def test_thousandths(weights: list[Fraction]) -> None:
    """They sum to one, and none is off by a thousandth."""
    found, total = thousandths(weights), sum(weights)
    assert sum(found) == UNITS
    assert all(abs(unit - weight * UNITS / total) < 1 for unit, weight in zip(found, weights, strict=True))
