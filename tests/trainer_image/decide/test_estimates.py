"""Estimates: by hand where that is possible, against the truth where it is not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cpt_api.result import BITS_MAX
from cpt_trainer.decide.document import estimate
from cpt_trainer.decide.estimates import (
    Estimated,
    TextSums,
    difference,
    level,
    rounded,
    satterthwaite,
    t_quantile,
    text_sums,
)
from cpt_trainer.errors import DataError
from cpt_trainer.tables import heldout_items
from make import make_digest

BITS = st.lists(st.floats(0, 1e5), min_size=2, max_size=30)


def make_text(bits: list[float], sizes: list[float] | None = None, strata: int = 1) -> TextSums:
    """One text; strata of equal length."""
    width = len(bits) // strata
    slices = tuple(slice(number * width, (number + 1) * width) for number in range(strata))
    return TextSums(np.array(bits), np.array(sizes or [10.0] * len(bits)), slices)


class TestLevel:
    """Bits per byte of one model."""

    def test_equal_sizes_are_the_textbook(self) -> None:
        """Mean, s^2 / C and C - 1 degrees of freedom."""
        bits = [10.0, 20.0, 40.0, 50.0]
        found = level([make_text(bits)])
        assert found.value == 3.0
        assert found.variance == pytest.approx(np.var(bits, ddof=1) / 4 / 100)
        assert found.df == pytest.approx(3)

    def test_one_long_document_leaves_few_degrees_of_freedom(self) -> None:
        """A thousand short documents beside a long one that has half of the bytes say little about it."""
        sizes = [1.0] * 1000 + [1000.0]
        found = level([make_text(list(np.linspace(1, 2, 1001) * sizes), sizes)])
        assert 1 < found.df < 4

    @given(BITS)
    @settings(deadline=None)
    def test_equal_bits_per_byte_have_no_variance(self, sizes: list[float]) -> None:
        """Whatever the sizes: what is the same everywhere is known."""
        sizes = [size + 1 for size in sizes]
        found = level([make_text([2 * size for size in sizes], sizes)])
        assert found.value == pytest.approx(2)
        assert found.variance == pytest.approx(0, abs=1e-20)

    def test_mean_over_texts(self) -> None:
        """A metric of two texts counts them equally, whatever their size."""
        small, large = make_text([10.0, 30.0]), make_text([400.0] * 20)
        found = level([small, large])
        assert found.value == (2 + 40) / 2
        assert found.variance == pytest.approx(level([small]).variance / 4)

    def test_strata_are_fixed(self) -> None:
        """A difference between strata is no noise."""
        apart = [10.0, 12.0, 110.0, 112.0]
        near = [10.0, 12.0, 10.0, 12.0]
        assert level([make_text(apart, strata=2)]).variance == pytest.approx(
            level([make_text(near, strata=2)]).variance
        )
        assert level([make_text(apart)]).variance > 100 * level([make_text(apart, strata=2)]).variance

    def test_stratum_of_one(self) -> None:
        """One cluster says nothing about how sure it is."""
        with pytest.raises(DataError, match="one document"):
            level([make_text([10.0, 12.0], strata=2)])

    @pytest.mark.parametrize("size_spread", [0.0, 0.8, 1.5], ids="sizes spread {}".format)
    def test_coverage(self, size_spread: float) -> None:
        """A 95 % interval covers the truth in 93 to 97 of 100 draws of 40 documents; 1,000 draws are within 1.8."""
        random, covered, draws = np.random.default_rng(5), 0, 1000
        for _ in range(draws):
            sizes = np.exp(random.normal(0, size_spread, 40))
            bits = sizes * random.normal(3, 0.5, 40)
            lower, upper = level([TextSums(bits, sizes, (slice(0, 40),))]).interval()
            covered += lower <= 3 <= upper
        assert 0.93 - 0.018 < covered / draws < 0.97 + 0.018


class TestDifference:
    """Two models, paired by item."""

    @given(BITS)
    @settings(deadline=None)
    def test_what_is_hard_for_both_cancels(self, bits: list[float]) -> None:
        """A constant shift is seen without noise, however much documents differ."""
        one, other = make_text([value + 5 for value in bits]), make_text(bits)
        found = difference([one], [other])
        assert found.value == pytest.approx(0.5)
        assert found.standard_error == pytest.approx(0, abs=1e-9)

    @given(BITS)
    @example([0.0, 1.885233193017243e-106])  # its squared variance is no number any more
    @settings(deadline=None)
    def test_antisymmetric(self, bits: list[float]) -> None:
        """Better by so much is worse by so much, equally sure."""
        one, other = make_text(bits), make_text(bits[::-1])
        there, back = difference([one], [other]), difference([other], [one])
        assert (there.value, there.variance, there.df) == (-back.value, back.variance, back.df)


class TestTextSums:
    """From rows to clusters."""

    @given(st.permutations(range(12)))
    @settings(deadline=None)
    def test_order_of_rows_changes_no_bit(self, order: list[int]) -> None:
        """Sums are exact."""
        random = np.random.default_rng(3)
        bits, sizes = random.random(12) * 1e3, random.integers(1, 99, 12)
        sections = [str(row) for row in order]
        documents = [str(row // 3) for row in order]
        found = text_sums(heldout_items(make_digest("t"), sections, documents, bits[order], sizes[order]))
        assert found.bits.tolist() == [math.fsum(bits[3 * n : 3 * n + 3]) for n in range(4)]
        assert found.bytes.tolist() == [sizes[3 * n : 3 * n + 3].sum() for n in range(4)]
        assert found.strata == (slice(0, 4),)


class TestDegreesOfFreedom:
    """Welch and Satterthwaite."""

    def test_equal_parts_add_up(self) -> None:
        """Two equal variances with 4 degrees each have 8."""
        assert satterthwaite([(1.0, 4), (1.0, 4)]) == 8

    def test_the_larger_part_rules(self) -> None:
        """A part without weight brings no certainty."""
        assert satterthwaite([(1.0, 4), (1e-9, 1e6)]) == pytest.approx(4)

    def test_subtraction_makes_unsure(self) -> None:
        """What is left after a subtraction is known worse than before."""
        assert satterthwaite([(2.0, 8), (-1.0, 100)]) < 8 / 4 + 1

    def test_quantiles(self) -> None:
        """Of a table of Student's t."""
        assert t_quantile(0.975, 8) == pytest.approx(2.306004, abs=1e-6)
        assert t_quantile(0.95, 1e9) == pytest.approx(1.644854, abs=1e-6)
        assert Estimated(1.0, 4.0, 8).interval(picked_from=1) == pytest.approx(
            (1 - 2 * 2.306004, 1 + 2 * 2.306004), abs=1e-5
        )

    def test_picked(self) -> None:
        """What was picked for being high may be lower than it looks; it is not more often higher."""
        plain, picked = Estimated(1.0, 4.0, 8).interval(), Estimated(1.0, 4.0, 8).interval(picked_from=4)
        assert picked[0] == pytest.approx(1 - 2 * t_quantile(1 - 0.025 / 4, 8))
        assert picked[0] < plain[0]
        assert picked[1] == plain[1]


@given(st.floats(-BITS_MAX, BITS_MAX))
def test_rounded_twice_is_rounded_once(number: float) -> None:
    """Nine significant digits survive reading and writing."""
    assert rounded(rounded(number)) == rounded(number)
    assert rounded(number) == pytest.approx(number, rel=1e-8)


@pytest.mark.parametrize("df", [1e-3, 0.05, 0.3])
def test_hardly_a_degree_of_freedom(df: float) -> None:
    """A bound that may be any number ends where a document ends; seen in a world of 40 documents, a few long."""
    found = estimate(Estimated(value=0.1, variance=0.01, df=df))
    assert found.lower is not None
    assert found.upper is not None
    assert -BITS_MAX <= found.lower < -100
    assert 100 < found.upper <= BITS_MAX


def test_what_is_no_number_stays_none() -> None:
    """It is refused where the document is made."""
    assert math.isnan(rounded(math.nan))
