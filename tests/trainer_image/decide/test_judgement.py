"""From effects to words."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_api.result import Judgement, Verdict
from cpt_trainer.decide.estimates import Estimated
from cpt_trainer.decide.joint import MaximumNull
from cpt_trainer.decide.judgement import Evidence, Rule, judge, t_of, undecided
from make import make_digest

DF = 8.0
NULLS = {
    count: MaximumNull.of([[float(i == j) for i in range(count)] for j in range(count)], DF, 0) for count in (1, 3)
}
FOUR = Rule(threshold=0.02, family=4, error_rate=0.05, documents=100)


def make_evidence(*effects: float, error: float = 0.01, complete: bool = True) -> Evidence:
    """At one rate or three, in bits per byte."""
    every = [Estimated(effect, error**2, DF) for effect in effects]
    return Evidence(max(every, key=t_of), every, NULLS[len(effects)], complete)


def verdict(evidence: Evidence, rule: Rule = FOUR) -> Judgement:
    """On the only dataset that is seen."""
    return judge({make_digest("x"): evidence}, rule)[make_digest("x")]


class TestWords:
    """Design 4: "*Helps* …, *Hurts* …, *Unaffected* (90 % interval inside ± minimumEffect), else *Undecided*"."""

    @pytest.mark.parametrize(
        ("evidence", "word"),
        [
            pytest.param(make_evidence(0.05), Verdict.HELPS, id="five standard errors"),
            pytest.param(make_evidence(0.025), Verdict.UNDECIDED, id="two and a half, of four datasets"),
            pytest.param(make_evidence(-0.05), Verdict.HURTS, id="five to the other side"),
            pytest.param(make_evidence(-0.05, -0.05, 0.0), Verdict.UNDECIDED, id="harm at some rates only"),
            pytest.param(make_evidence(-0.05, -0.05, -0.05), Verdict.HURTS, id="harm at every rate"),
            pytest.param(make_evidence(0.0, error=0.005), Verdict.UNAFFECTED, id="nothing, and sure of it"),
            pytest.param(make_evidence(0.0), Verdict.UNAFFECTED, id="nothing, 1.86 errors are just inside"),
            pytest.param(make_evidence(0.005), Verdict.UNDECIDED, id="reaches out of what does not matter"),
            pytest.param(make_evidence(0.05, error=0.0), Verdict.HELPS, id="no doubt at all"),
            pytest.param(make_evidence(0.05, complete=False), Verdict.UNDECIDED, id="an arm is missing"),
        ],
    )
    def test_verdict(self, evidence: Evidence, word: Verdict) -> None:
        """By the bounds, and the bounds say so."""
        assert verdict(evidence).verdict is word

    def test_the_largest_of_three_needs_more(self) -> None:
        """3.3 standard errors at the only rate help; as the largest of three they do not."""
        assert verdict(make_evidence(0.033)).verdict is Verdict.HELPS
        assert verdict(make_evidence(0.033, 0.0, 0.0)).verdict is Verdict.UNDECIDED

    def test_a_clear_one_makes_it_easier_for_the_next(self) -> None:
        """Holm: of two datasets the second is tested at 5 %, once the first is rejected."""
        second, rule = make_evidence(0.02), Rule(0.02, 2, 0.05, 100)
        found = judge({make_digest("a"): make_evidence(0.08), make_digest("b"): second}, rule)
        assert found[make_digest("b")].verdict is Verdict.HELPS
        assert verdict(second, rule).verdict is Verdict.UNDECIDED

    def test_without_claims(self) -> None:
        """A number at most."""
        assert undecided(0.1, FOUR).effect is not None
        assert undecided(None, FOUR).effect is None
        assert undecided(None, FOUR).verdict is Verdict.UNDECIDED


class TestNumbers:
    """What stands beside the word."""

    def test_detectable(self) -> None:
        """Quantile of the null at 5 % / 4, and of the power: 2.75 + 0.89 standard errors with 8 degrees of freedom."""
        found = verdict(make_evidence(0.05)).detectable
        assert found == pytest.approx(0.01 * (2.751524 + 0.888890), rel=1e-5)

    @settings(deadline=None, max_examples=40)
    @given(st.lists(st.floats(-0.1, 0.1), min_size=3, max_size=3))
    def test_bounds_p_and_word_agree(self, effects: list[float]) -> None:
        """A bound is beyond zero where the adjusted p is at most 5 %, and only there."""
        found = verdict(make_evidence(*effects))
        assert found.effect is not None
        assert found.effect.lower is not None
        assert found.effect.upper is not None
        assert found.p_helps is not None
        assert found.p_hurts is not None
        assert found.effect.lower <= found.effect.value <= found.effect.upper
        if not math.isclose(found.p_helps, 0.05, rel_tol=1e-4):
            assert (found.effect.lower > 0) == (found.p_helps <= 0.05) == (found.verdict is Verdict.HELPS)
        if not math.isclose(found.p_hurts, 0.05, rel_tol=1e-4):
            assert (found.effect.upper < 0) == (found.p_hurts <= 0.05) == (found.verdict is Verdict.HURTS)
