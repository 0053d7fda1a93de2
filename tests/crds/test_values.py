"""Laws of the quantities: what is printed parses to the same value, and equal values are one digest."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt_api.model import canonical_json, identity_of
from cpt_api.values import Amount, Digest, LearningRate, Share, Tokens

counts = st.integers(min_value=0, max_value=10**18 - 1).map(Tokens)
rates = st.decimals(min_value=Decimal("1e-12"), max_value=Decimal(999), allow_nan=False, places=12).filter(bool)
shares = st.integers(min_value=0, max_value=10**12).map(lambda n: Decimal(n) / 10**12)


class TestTokens:
    @given(counts)
    def test_printed_form_parses_to_the_same_value(self, tokens: Tokens) -> None:
        """parse(str(x)) == x."""
        assert Tokens.parse(str(tokens)) == tokens

    @given(counts)
    def test_printed_form_is_normal(self, tokens: Tokens) -> None:
        """str(parse(str(x))) == str(x)."""
        assert str(Tokens.parse(str(tokens))) == str(tokens)

    @pytest.mark.parametrize(
        ("text", "want"),
        [("500M", 500_000_000), ("1B", 10**9), ("1.5B", 1_500_000_000), ("2T", 2 * 10**12), ("4096", 4096), ("0", 0)],
    )
    def test_reads(self, text: str, want: int) -> None:
        """Suffixes are decimal; without one the count is in tokens."""
        assert Tokens.parse(text) == want

    @pytest.mark.parametrize(
        ("text", "want"), [("1000M", "1B"), ("1.50B", "1.5B"), ("1234567", "1234567"), ("0.5T", "500B")]
    )
    def test_prints(self, text: str, want: str) -> None:
        """Equal counts have one printed form."""
        assert str(Tokens.parse(text)) == want

    @pytest.mark.parametrize("text", ["1K", "1.5", "-1", "1e9", "", "B", "1 B", "1G", "0.0000001M", "٣B"])
    def test_refuses(self, text: str) -> None:
        """What is not a whole number of tokens is refused, and the message gives an example."""
        with pytest.raises(ValueError, match=r"token count .*'1.5B'"):
            Tokens.parse(text)


class TestLearningRate:
    @given(rates)
    def test_printed_form_parses_to_the_same_value(self, rate: Decimal) -> None:
        """parse(str(x)) == x."""
        parsed = LearningRate.parse(format(rate, "f"))
        assert LearningRate.parse(str(parsed)) == parsed == rate

    @given(rates)
    def test_equal_values_have_one_identity(self, rate: Decimal) -> None:
        """However a rate is written, digests hash the same bytes."""
        plain, scientific = LearningRate.parse(format(rate, "f")), LearningRate.parse(f"{rate:e}".replace("e+", "e"))
        assert canonical_json(identity_of(plain)) == canonical_json(identity_of(scientific))

    @pytest.mark.parametrize("text", ["1e-5", "10e-6", "0.00001", "1.0E-5", "0.000010"])
    def test_spellings(self, text: str) -> None:
        """These are one learning rate."""
        assert str(LearningRate.parse(text)) == "1e-5"

    @pytest.mark.parametrize("text", ["0", "0.0", "-1e-5", "1e5", "nan", "inf", "1e", "1_0e-5", "", "1e-500"])
    def test_refuses(self, text: str) -> None:
        """Positive and below 1000."""
        with pytest.raises(ValueError, match=r"learning rate .*'3e-5'"):
            LearningRate.parse(text)


class TestShare:
    @given(shares)
    def test_printed_form_parses_to_the_same_value(self, share: Decimal) -> None:
        """parse(str(x)) == x."""
        parsed = Share.parse(format(share, "f"))
        assert Share.parse(str(parsed)) == parsed == share

    def test_fraction_is_exact(self) -> None:
        """Arithmetic that must not round starts from here."""
        assert Share.parse("0.1").fraction * 10 == 1

    @pytest.mark.parametrize("text", ["1.1", "-0.1", "5%", "1e-1", ".5", "2"])
    def test_refuses(self, text: str) -> None:
        """From 0 to 1, as a plain decimal."""
        with pytest.raises(ValueError, match="from 0 to 1"):
            Share.parse(text)


class TestAmount:
    @given(st.decimals(min_value=0, max_value=10**9, allow_nan=False, places=6))
    def test_printed_form_parses_to_the_same_value(self, amount: Decimal) -> None:
        """parse(str(x)) == x."""
        parsed = Amount.parse(format(amount, "f"))
        assert Amount.parse(str(parsed)) == parsed == amount


class TestDigest:
    @pytest.mark.parametrize("text", ["a" * 63, "A" * 64, "g" * 64, "a" * 65, "../" + "a" * 61, ""])
    def test_refuses(self, text: str) -> None:
        """64 lower-case hexadecimal digits: it becomes a part of keys."""
        with pytest.raises(ValueError, match="SHA-256"):
            Digest.parse(text)
