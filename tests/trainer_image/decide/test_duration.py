"""The document that answers the question Duration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_api.layout import RESULT_MAX_BYTES
from cpt_api.model import canonical_json
from cpt_api.result import Decision, DurationChoice
from cpt_api.trial import DecideWork
from cpt_api.values import Tokens
from cpt_trainer.decide.duration import Rule, climb, decide
from cpt_trainer.decide.estimates import Estimated, TextSums
from cpt_trainer.decide.noise import RunNoise
from questions import DOCUMENTS, Lasting, make_text

RUNS = {"1e-4": (2.5, 2.51, 2.49), "1e-3": (2.5, 2.51, 2.49)}
"""Run noise of 0.01: two durations differ with a standard error of 0.0143."""
RULE = Rule(threshold=0.02, rates=1, picked_at=Tokens(1), seed=0)
SURE = RunNoise(0.01, 1000, Estimated(0.0, 0.0, 1000))


def answer(
    losses: Mapping[str, float | None],
    controls: Mapping[str, Sequence[float]] = RUNS,
    missing: Sequence[str] = (),
) -> DurationChoice:
    """For one dataset."""
    question = Lasting(losses, controls, missing=missing)
    (choice,) = decide(question.work, question.models).durations or ()
    return choice


def tokens(*texts: str) -> list[Tokens]:
    """Durations from text."""
    return [Tokens.parse(text) for text in texts]


class TestChoice:
    """Design 4: "its shortest member within `minimumEffect` of the best"."""

    def test_one_dataset(self) -> None:
        """The set, the chosen one, what the last step gained, and words."""
        choice = answer({"4M": 2.3, "8M": 2.01, "16M": 2.0})
        assert [arm.acceptable for arm in choice.arms] == [False, True, True]
        assert (choice.verdict, choice.chosen) == ("Chosen", tokens("8M")[0])
        assert choice.last_step is not None
        assert choice.last_step.value == pytest.approx(0.01)
        assert choice.gain is not None
        assert choice.gain.value == pytest.approx(0.99)
        assert choice.reason.startswith(
            "8M tokens are chosen: of 8M, 16M (one of which is the best, simultaneous 95 %), the shortest near the "
            "best, 0.01 behind 16M. From 8M to 16M it saves 0.01, at most 0.0"
        )
        assert "Conditional on its one trunk. Against the base it saves 0.99 bits per byte" in choice.reason

    def test_near_is_by_minimum_effect(self) -> None:
        """One that cannot be excluded, but is farther behind than what matters, is not chosen."""
        choice = answer({"4M": 2.025, "8M": 2.0})
        assert [arm.acceptable for arm in choice.arms] == [True, True]
        assert choice.chosen == tokens("8M")[0]
        assert "no shorter one is near enough" in choice.reason

    def test_all_others_are_worse(self) -> None:
        """Then the set is the best alone."""
        assert "every other duration is worse (simultaneous 95 %)" in answer({"4M": 2.3, "8M": 2.0}).reason

    def test_one_duration(self) -> None:
        """It is chosen; of longer ones nothing is known."""
        choice = answer({"8M": 2.0})
        assert (choice.chosen, choice.last_step, choice.go_on) == (tokens("8M")[0], None, True)

    @pytest.mark.parametrize(
        ("last", "go_on"),
        [
            pytest.param(1.9, True, id="gains"),
            pytest.param(2.0, True, id="may gain"),
            pytest.param(2.1, False, id="loses"),
        ],
    )
    def test_going_on(self, last: float, *, go_on: bool) -> None:
        """As long as the upper bound of the last step is above minimumEffect (0.02)."""
        choice = answer({"4M": 2.3, "8M": 2.0, "16M": last})
        assert choice.go_on is go_on
        assert ("longer is not worth it" in choice.reason) is not go_on


class TestPicked:
    """The arm for which the rate was picked looks better than it is."""

    def test_its_luck_is_allowed_for(self) -> None:
        """4M was the best of many rates: what a later duration may save against it is more than it seems."""
        losses = {"4M": 2.0, "8M": 2.04}
        question = Lasting(losses, RUNS, rates=8)
        (picked,) = decide(question.work, question.models).durations or ()
        plain = answer(losses)
        assert plain.last_step is not None
        assert plain.last_step.upper is not None
        assert picked.last_step is not None
        assert picked.last_step.upper is not None
        assert plain.last_step.upper < 0 < picked.last_step.upper
        assert [arm.acceptable for arm in plain.arms] == [True, False]
        assert [arm.acceptable for arm in picked.arms] == [True, True]

    def test_later_durations_were_not_picked(self) -> None:
        """Between them nothing changes."""
        losses = {"4M": 2.3, "8M": 2.0, "16M": 2.01}
        question = Lasting(losses, RUNS, rates=8)
        (picked,) = decide(question.work, question.models).durations or ()
        assert picked.last_step == answer(losses).last_step


class TestDoubt:
    """What is missing is named."""

    def test_without_replicates(self) -> None:
        """A duration is chosen, and nothing is sure."""
        choice = answer({"4M": 2.3, "8M": 2.0}, controls={})
        assert (choice.verdict, choice.chosen) == ("Undecided", tokens("8M")[0])
        assert choice.gain is not None
        assert choice.gain.lower is None
        assert "Undecided: there is no estimate of the run noise." in choice.reason

    def test_a_failed_arm(self) -> None:
        """The trunk does not go on."""
        choice = answer({"4M": 2.3, "8M": 2.0}, missing=["16M"])
        assert (choice.verdict, choice.go_on) == ("Undecided", False)
        assert "these arms failed: 16M tokens" in choice.reason

    def test_diverged(self) -> None:
        """It is a result: the others are compared, and the trunk does not go on."""
        choice = answer({"4M": 2.3, "8M": 2.0, "16M": None})
        assert (choice.verdict, choice.chosen, choice.go_on) == ("Chosen", tokens("8M")[0], False)
        assert [arm.outcome for arm in choice.arms] == ["Completed", "Completed", "Diverged"]
        assert "The trunk diverged before 16M tokens." in choice.reason

    def test_all_diverged(self) -> None:
        """The only case without a choice."""
        choice = answer({"4M": None, "8M": None})
        assert (choice.verdict, choice.chosen, choice.go_on) == ("AllDiverged", None, False)


class TestSet:
    """Multiple comparisons with the best."""

    @given(st.lists(st.integers(200, 230).map(lambda n: n / 100), min_size=1, max_size=5))
    @settings(max_examples=20, deadline=None)
    def test_never_without_the_best(self, losses: list[float]) -> None:
        """Whatever the losses are; and what is chosen is in it, or is the best."""
        targets = {Tokens(2**n): [make_text(loss, n)] for n, loss in enumerate(losses)}
        found = climb(targets, SURE, RULE)
        assert found.best in found.acceptable
        assert found.chosen in found.acceptable

    def test_holds_the_best(self) -> None:
        """Of four durations one is best by a hair: it is excluded in at most 5 of 100 sweeps (3 standard errors)."""
        random, lost, sweeps = np.random.default_rng(5), 0, 60
        sizes, strata = np.full(DOCUMENTS, 100.0), (slice(0, DOCUMENTS),)
        for _ in range(sweeps):
            noise = RunNoise(0.01 * float(np.sqrt(random.chisquare(8) / 8)), 8, Estimated(0.0, 0.0, 8))
            losses = 2 + random.normal(0, 0.01, 4)
            targets = {
                Tokens(2**n): [TextSums((loss + np.linspace(-1, 1, DOCUMENTS)) * sizes, sizes, strata)]
                for n, loss in enumerate(losses)
            }
            lost += Tokens(4) not in climb(targets, noise, RULE).acceptable
        assert lost / sweeps <= 0.05 + 3 * (0.05 * 0.95 / sweeps) ** 0.5


class TestDocument:
    """Laws of the whole."""

    @given(st.randoms(use_true_random=False))
    @settings(max_examples=10, deadline=None)
    def test_order_of_inputs_changes_no_byte(self, random: object) -> None:
        """However arms and controls are listed."""
        question = Lasting({"4M": 2.3, "8M": 2.01, "16M": 2.0}, RUNS)
        work = question.work.model_dump(by_alias=True, mode="json", exclude_none=True)
        ordered = decide(DecideWork.model_validate(work), question.models)
        for part in (work["datasets"][0]["arms"], work["controls"], work["controls"][0]["trials"]):
            random.shuffle(part)  # type: ignore[attr-defined]
        shuffled = decide(DecideWork.model_validate(work), question.models)
        assert canonical_json(shuffled.to_dict()) == canonical_json(ordered.to_dict())

    def test_survives_the_store(self) -> None:
        """Nine digits are read as they were written."""
        question = Lasting({"4M": 2.3, "8M": 2.0}, RUNS)
        decision = decide(question.work, question.models)
        assert Decision.model_validate_json(canonical_json(decision.to_dict())) == decision

    def test_size(self) -> None:
        """The largest question that the planner asks (24 datasets of ten durations) has an answer that is read."""
        losses = {f"{2**n}M": 3 - n / 10 for n in range(10)}
        question = Lasting(losses, RUNS)
        (one,) = decide(question.work, question.models).durations or ()
        assert 24 * (len(canonical_json(one.to_dict())) + 70 * 10) < RESULT_MAX_BYTES
