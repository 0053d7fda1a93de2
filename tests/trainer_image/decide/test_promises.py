"""A proposal that was found on merges: whether these order the mixes as training does."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from cpt_api.digest import subject_digest
from cpt_api.result import MixChoice
from cpt_api.values import Amount
from cpt_trainer.decide.mix import decide
from questions import Mixes

NOISE = {"1e-4": (2.5, 2.51, 2.49), "3e-4": (2.4, 2.39, 2.41)}
"""Of a proposal that is not 0.3 behind nobody can say that it is worse."""


def choice(losses: Mapping[str, float | None], promised: Mapping[str, str]) -> tuple[MixChoice, str]:
    """The answer, and the share of the mix that is taken; the proposal is 0.2."""
    question = Mixes(losses, NOISE)
    by_digest = {question.digests[share]: Amount.parse(bits) for share, bits in promised.items()}
    entries = [
        entry.model_copy(update={"expected": by_digest.get(subject_digest(entry))}) for entry in question.work.datasets
    ]
    found = decide(question.work.model_copy(update={"datasets": tuple(entries)}), question.models).mix
    assert found is not None
    return found, next(share for share, digest in question.digests.items() if digest == found.chosen)


@pytest.mark.parametrize(
    ("losses", "correlation", "taken", "verdict"),
    [
        pytest.param({"0.2": 2.0, "0.5": 2.01, "0.7": 2.02}, 1.0, "0.2", "Kept", id="the same order"),
        pytest.param({"0.2": 2.01, "0.5": 2.0, "0.7": 2.02}, 0.5, "0.2", "Kept", id="two neighbours are swapped"),
        pytest.param({"0.2": 2.02, "0.5": 2.0, "0.7": 2.01}, -0.5, "0.5", "Replaced", id="another order"),
        pytest.param({"0.2": 2.02, "0.5": 2.01, "0.7": 2.0}, -1.0, "0.7", "Replaced", id="the opposite"),
        pytest.param({"0.2": 2.004, "0.5": 2.0, "0.7": 2.002}, -0.5, "0.2", "Kept", id="another order, by chance"),
        pytest.param({"0.2": 2.02, "0.5": None, "0.7": 2.0}, None, "0.2", "Kept", id="two say nothing"),
    ],
)
def test_rank_agreement(losses: dict[str, float | None], correlation: float | None, taken: str, verdict: str) -> None:
    """Design 4: "rank agreement on the trained mixes is printed; below a threshold the best control is taken"."""
    found, share = choice(losses, {"0.2": "1.9", "0.5": "1.91", "0.7": "1.92"})
    assert found.rank_correlation == correlation
    assert (share, found.verdict) == (taken, verdict)
    assert ("is not believed" in found.reason) is (verdict == "Replaced")


def test_the_promises_are_shown() -> None:
    """Beside what the mixes scored."""
    found, _ = choice({"0.2": 2.0, "0.5": 2.01, "0.7": 2.02}, {"0.2": "1.9", "0.5": "1.91", "0.7": "1.92"})
    assert sorted(arm.expected or 0.0 for arm in found.arms) == [1.9, 1.91, 1.92]
    assert "Merges and trained mixes: rank correlation 1." in found.reason


def test_without_promises() -> None:
    """Nothing is said about merges."""
    found, _ = choice({"0.2": 2.0, "0.5": 2.01, "0.7": 2.02}, {})
    assert found.rank_correlation is None
    assert "erges" not in found.reason
