"""Many tests at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt_trainer.decide.holm import holm, stands_out

PS = st.lists(st.floats(0, 1), min_size=1, max_size=8)


class TestHolm:
    """Step down from the clearest."""

    def test_by_hand(self) -> None:
        """0.001 against 5 % / 3, 0.02 against 5 % / 2, 0.03 against 5 % / 1: all are rejected."""
        assert [step.p for step in holm([0.001, 0.03, 0.02], 3, 0.05)] == pytest.approx([0.003, 0.04, 0.04])
        assert [step.level for step in holm([0.001, 0.03, 0.02], 3, 0.05)] == pytest.approx([0.05 / 3, 0.05, 0.025])

    def test_the_first_that_stands_stops_it(self) -> None:
        """0.03 alone would pass at 5 %, but 0.04 before it does not pass at 2.5 %."""
        steps = holm([0.001, 0.045, 0.04], 3, 0.05)
        assert [step.p <= 0.05 for step in steps] == [True, False, False]
        assert steps[1].level == steps[2].level == pytest.approx(0.025)

    @given(PS, st.integers(0, 3), st.sampled_from([0.01, 0.05, 0.2]))
    def test_level_and_p_say_the_same(self, ps: list[float], unseen: int, error: float) -> None:
        """A hypothesis passes at its level if and only if its adjusted p passes at the error rate, but for rounding."""
        for p, step in zip(ps, holm(ps, len(ps) + unseen, error), strict=True):
            if step.p != pytest.approx(error):
                assert (p <= step.level) == (step.p <= error)

    @given(PS, st.integers(1, 3))
    def test_unseen_members_make_it_more_careful(self, ps: list[float], unseen: int) -> None:
        """A part of a family gets no lower p than it would alone."""
        alone, part = holm(ps, len(ps), 0.05), holm(ps, len(ps) + unseen, 0.05)
        assert all(one.p <= other.p for one, other in zip(alone, part, strict=True))


class TestStandsOut:
    """Benjamini and Hochberg."""

    def test_by_hand(self) -> None:
        """0.04 of four is beyond 3/4 of 5 %, 0.02 is within 2/4."""
        assert stands_out([0.001, 0.2, 0.02, 0.04], 0.05) == [True, False, True, False]

    def test_a_later_one_pulls_an_earlier_one(self) -> None:
        """0.03 of two is beyond 1/2 of 5 %, but 0.04 is within 2/2."""
        assert stands_out([0.03, 0.04], 0.05) == [True, True]

    def test_nothing(self) -> None:
        """No cells, no marks."""
        assert stands_out([], 0.05) == []
