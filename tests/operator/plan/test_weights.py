"""Weights of a mix: what they add up to, and what they never exceed."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt_api.values import Digest
from cpt_operator.plan.weights import UNITS, Weights, capped, proportional, rounded, uniform
from make import make_digest

A, B, C = sorted(make_digest(name) for name in "abc")
amounts = st.dictionaries(
    st.sampled_from([make_digest(f"data {n}") for n in range(20)]), st.integers(1, 10**13), min_size=1
)


def parts(*weights: str) -> Weights:
    """Of A, B and so on."""
    return {name: Fraction(weight) for name, weight in zip((A, B, C), weights, strict=False)}


class TestProposals:
    """Design 4: "weights ∝ optimal tokens (8:40 → 16/84)"."""

    def test_the_study(self) -> None:
        """To four digits, which add up to one."""
        assert rounded(proportional({A: 8, B: 40})) == parts("0.1667", "0.8333")

    def test_uniform(self) -> None:
        """What is left over goes to the first by digest: any rule would do, as long as it is one."""
        assert rounded(uniform([C, A, B])) == parts("0.3334", "0.3333", "0.3333")

    @given(amounts)
    def test_whole_units(self, given_amounts: dict[Digest, int]) -> None:
        """Everyone has some, and together they are one."""
        weights = rounded(proportional(given_amounts))
        assert sum(weights.values()) == 1
        assert all(weight * UNITS >= 1 and (weight * UNITS).denominator == 1 for weight in weights.values())

    @given(amounts)
    def test_order(self, given_amounts: dict[Digest, int]) -> None:
        """The order of a manifest means nothing."""
        turned = dict(reversed(given_amounts.items()))
        assert rounded(proportional(given_amounts)) == rounded(proportional(turned))


class TestCaps:
    """Design 4: "Epochs per dataset: … refused above 16": the mix takes no more of a small dataset."""

    @pytest.mark.parametrize(
        ("weights", "caps", "want"),
        [
            pytest.param(("1/6", "5/6"), ("1/10", "2"), ("1/10", "9/10"), id="the other takes what is freed"),
            pytest.param(("1/2", "1/4", "1/4"), ("1/5", "3/10", "1"), ("1/5", "3/10", "1/2"), id="one after another"),
            pytest.param(("1/6", "5/6"), ("1/5", "1"), ("1/6", "5/6"), id="nothing to cap"),
            pytest.param(("1/6", "5/6"), ("1/10", "3/10"), ("1/4", "3/4"), id="no place for all"),
        ],
    )
    def test_capped(self, weights: tuple[str, ...], caps: tuple[str, ...], want: tuple[str, ...]) -> None:
        """In proportion, as far as caps allow."""
        assert capped(parts(*weights), parts(*caps)) == parts(*want)

    @given(amounts, st.data())
    def test_laws(self, given_amounts: dict[Digest, int], data: st.DataObject) -> None:
        """The sum stays one, and none is above its cap where that can be; rounding keeps both."""
        weights = proportional(given_amounts)
        caps = {name: data.draw(st.fractions(Fraction(1, 1000), 2)) for name in weights}
        found = capped(weights, caps)
        assert sum(found.values()) == 1
        if sum(caps.values()) > 1:
            assert all(found[name] <= caps[name] for name in found)
        assert sum(rounded(found, caps).values()) == 1

    def test_rounding_stays_below_the_cap(self) -> None:
        """The remainder goes to those that may have it, however small theirs is."""
        assert rounded(parts("1/3", "2/3"), parts("1/3", "1")) == parts("0.3333", "0.6667")
        assert rounded(parts("2/3", "1/3"), parts("2/3", "1")) == parts("0.6666", "0.3334")
