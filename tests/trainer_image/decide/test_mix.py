"""Question Mix: when a proposal is kept, when it is replaced, and when nothing can be said."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_api.model import canonical_json
from cpt_api.result import MixChoice
from cpt_trainer.decide.mix import decide
from questions import Mixes

NOISE = {"1e-4": (2.5, 2.51, 2.49), "3e-4": (2.4, 2.39, 2.41)}


def choice_of(question: Mixes) -> MixChoice:
    """The answer."""
    found = decide(question.work, question.models).mix
    assert found is not None
    return found


class TestChoice:
    """Design 4: "not … detectably worse than the trained controls …; else the best control is taken"."""

    @pytest.mark.parametrize(
        ("losses", "chosen", "verdict"),
        [
            pytest.param({"0.2": 2.0, "0.5": 2.1, "0.7": 2.2}, "0.2", "Kept", id="the best"),
            pytest.param({"0.2": 2.01, "0.5": 2.0, "0.7": 2.2}, "0.2", "Kept", id="not detectably worse"),
            pytest.param({"0.2": 2.3, "0.5": 2.0, "0.7": 2.29}, "0.5", "Replaced", id="worse than one"),
            pytest.param({"0.2": 2.3, "0.5": 2.01, "0.7": 2.0}, "0.7", "Replaced", id="the best of those better"),
            pytest.param({"0.2": None, "0.5": 2.1, "0.7": 2.2}, "0.5", "Replaced", id="diverged"),
            pytest.param({"0.2": 2.5, "0.5": None}, "0.2", "Undecided", id="nothing to compare"),
            pytest.param({"0.2": None, "0.5": None}, "0.2", "Undecided", id="all diverged"),
        ],
    )
    def test_verdict(self, losses: dict[str, float | None], chosen: str, verdict: str) -> None:
        """By loss and noise."""
        question = Mixes(losses, NOISE)
        found = choice_of(question)
        assert (found.chosen, found.verdict) == (question.digests[chosen], verdict)
        assert found.proposal == question.digests["0.2"]
        assert (found.gain is None) == (losses[chosen] is None)

    def test_without_run_noise(self) -> None:
        """However far behind, nothing can be claimed."""
        found = choice_of(Mixes({"0.2": 2.5, "0.5": 2.0}, {"1e-4": (2.5,)}))
        assert found.verdict == "Undecided"
        assert found.chosen == found.proposal
        assert "no estimate of the run noise" in found.reason

    def test_a_failed_control(self) -> None:
        """It might have been better; one that is there may still replace the proposal."""
        assert choice_of(Mixes({"0.2": 2.0, "0.5": 2.1}, NOISE, failed=1)).verdict == "Undecided"
        assert choice_of(Mixes({"0.2": 2.3, "0.5": 2.0}, NOISE, failed=1)).verdict == "Replaced"

    def test_a_failed_proposal(self) -> None:
        """The best of the others is taken."""
        question = Mixes({"0.5": 2.1, "0.7": 2.0}, NOISE, failed=1)
        found = choice_of(question)
        assert (found.chosen, found.verdict) == (question.digests["0.7"], "Replaced")
        assert "has no score" in found.reason

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.floats(1.8, 2.4), min_size=2, max_size=3))
    def test_bounds_and_verdict_agree(self, losses: list[float]) -> None:
        """A lower bound above zero is what replaces, and only that."""
        found = choice_of(Mixes(dict(zip(("0.2", "0.5", "0.7"), losses, strict=False)), NOISE))
        lowers = [arm.ahead.lower for arm in found.arms if arm.ahead]
        assert any(lower is not None and lower > 0 for lower in lowers) == (found.verdict == "Replaced")


class TestDocument:
    """What is written."""

    def test_sentence(self) -> None:
        """It says what was seen, and what could have been."""
        found = choice_of(Mixes({"0.2": 2.0, "0.5": 2.1}, NOISE))
        assert found.reason.startswith("The proposal is kept: no other mix is detectably better (0.0")
        assert "is 0.1 behind it. Against the base it saves 1 bits per byte" in found.reason
        assert found.detectable is not None
        assert found.detectable < 0.1

    def test_parts(self) -> None:
        """Every arm says what it reads."""
        found = choice_of(Mixes({"0.2": 2.0, "0.5": 2.1}, NOISE))
        assert sorted(sorted(str(part.weight) for part in arm.parts) for arm in found.arms) == [
            ["0.2", "0.8"],
            ["0.5", "0.5"],
        ]

    def test_order_of_inputs_changes_no_byte(self) -> None:
        """Neither that of the mixes nor of the controls."""
        question = Mixes({"0.2": 2.0, "0.5": 2.1, "0.7": 2.05}, NOISE)
        turned = question.work.model_copy(
            update={"datasets": question.work.datasets[::-1], "controls": question.work.controls[::-1]}
        )
        documents = [decide(work, question.models).to_dict() for work in (question.work, turned)]
        assert canonical_json(documents[0]) == canonical_json(documents[1])
