"""The document that answers the question LearningRate."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_api.layout import RESULT_MAX_BYTES
from cpt_api.model import canonical_json
from cpt_api.result import Decision, RateChoice
from cpt_api.trial import DecideWork
from cpt_trainer.decide.learning_rate import decide
from questions import Question, rates

CURVE = {"1e-5": 2.3, "1e-4": 2.0, "1e-3": 1.99, "1e-2": None}


def answer(question: Question) -> RateChoice:
    """For its only dataset."""
    return decide(question.work, question.models).rates[0]


class TestChoice:
    """What is said about a dataset."""

    def test_one_rung(self) -> None:
        """Chosen, dropped, diverged, gained and forgotten, with numbers."""
        choice = answer(Question(CURVE))
        assert (choice.verdict, choice.chosen) == ("Chosen", rates("1e-4")[0])
        assert choice.survivors == rates("1e-4", "1e-3")
        assert [arm.outcome for arm in choice.arms] == ["Completed", "Completed", "Completed", "Diverged"]
        assert [arm.dropped for arm in choice.arms] == [True, False, False, False]
        assert choice.arms[2].behind_best is None
        assert choice.arms[1].behind_best is not None
        assert choice.arms[1].behind_best.value == pytest.approx(0.01)
        assert choice.gain is not None
        assert choice.gain.value == pytest.approx(1.0)
        assert choice.retention_loss is not None
        assert choice.reason.startswith("1e-4 is chosen: the lowest rate within one standard error (0.0")
        assert "Dropped: 1e-5 (0.31 behind). Diverged: 1e-2." in choice.reason
        assert "not shown to be within the margin of 0.02" in choice.reason

    def test_without_replicates(self) -> None:
        """A rate is chosen, none is dropped, and both document and sentence say that it is not sure."""
        question = Question(CURVE, replicates={"1e-4": [2.5]})
        choice, whole = answer(question), decide(question.work, question.models)
        assert (choice.verdict, choice.chosen) == ("Undecided", rates("1e-3")[0])
        assert choice.survivors == rates("1e-5", "1e-4", "1e-3")
        assert choice.gain is not None
        assert (choice.gain.standard_error, choice.gain.lower) == (None, None)
        assert "Undecided: there is no estimate of the run noise." in choice.reason
        assert whole.run_noise is None
        assert "set training.replicates" in whole.sentence

    def test_diverged_controls(self) -> None:
        """A control that diverged is no replicate; two that did not still say something."""
        question = Question(CURVE, replicates={"1e-4": [2.5, 2.52, None], "1e-2": [None, None, None]})
        noise = decide(question.work, question.models).run_noise
        assert noise is not None
        assert noise.degrees_of_freedom == 1

    def test_all_diverged(self) -> None:
        """The only case without a choice."""
        choice = answer(Question({"1e-3": None, "1e-2": None}))
        assert (choice.verdict, choice.chosen, choice.survivors) == ("AllDiverged", None, ())
        assert "Add lower rates" in choice.reason

    def test_missing(self) -> None:
        """An arm that failed is named, and the choice is not sure."""
        choice = answer(Question({"1e-5": 2.3, "1e-4": 2.0}, missing=["1e-3"]))
        assert (choice.verdict, choice.chosen) == ("Undecided", rates("1e-4")[0])
        assert "these arms failed and might have been better: 1e-3" in choice.reason

    def test_one_rate(self) -> None:
        """It is chosen, and compared with the base."""
        choice = answer(Question({"1e-4": 2.0}))
        assert (choice.verdict, choice.chosen, choice.survivors) == ("Chosen", rates("1e-4")[0], rates("1e-4"))
        assert "the only rate with a score" in choice.reason

    def test_worse_than_the_base(self) -> None:
        """A rate is chosen all the same, and the loss is called a loss."""
        choice = answer(Question({"1e-4": 2.0, "1e-3": 2.5}, base=1.5))
        assert choice.gain is not None
        assert choice.gain.value == pytest.approx(-0.5)
        assert "it loses 0.5 bits per byte (95 % interval 0.4" in choice.reason

    def test_last_rung(self) -> None:
        """Nothing is dropped any more."""
        choice = answer(Question(CURVE, last=True))
        assert choice.survivors == rates("1e-5", "1e-4", "1e-3")
        assert choice.chosen == rates("1e-4")[0]

    def test_grid_to_be_extended(self) -> None:
        """The fitted optimum lies above the grid where the loss still falls."""
        choice = answer(Question({"1e-5": 3.0, "1e-4": 2.0, "1e-3": 1.4}))
        assert choice.fitted_vertex is not None
        assert choice.fitted_vertex > rates("1e-3")[0]


class TestDocument:
    """Laws of the whole."""

    @given(st.randoms(use_true_random=False))
    @settings(max_examples=20, deadline=None)
    def test_order_of_inputs_changes_no_byte(self, random: object) -> None:
        """However arms, controls and datasets are listed."""
        question = Question(CURVE)
        work = question.work.model_dump(by_alias=True, mode="json", exclude_none=True)
        work["datasets"].append({**work["datasets"][0], "dataset": {"digest": "0" * 64}})
        ordered = decide(DecideWork.model_validate(work), question.models)
        for part in (work["datasets"], work["datasets"][0]["arms"], work["controls"], work["controls"][0]["trials"]):
            random.shuffle(part)  # type: ignore[attr-defined]
        shuffled = decide(DecideWork.model_validate(work), question.models)
        assert canonical_json(shuffled.to_dict()) == canonical_json(ordered.to_dict())

    def test_survives_the_store(self) -> None:
        """Nine digits are read as they were written."""
        question = Question(CURVE)
        decision = decide(question.work, question.models)
        assert Decision.model_validate_json(canonical_json(decision.to_dict())) == decision

    def test_size(self) -> None:
        """The largest question that the planner asks (five datasets of 64 rates) has an answer that is read."""
        question = Question({f"{number}e-6": 2.0 + number / 100 for number in range(1, 65)})
        data = canonical_json(decide(question.work, question.models).to_dict())
        inputs = 70 * (5 * 64 + 3 * 64)  # arms and controls: the result names them as well
        assert 5 * len(data) + inputs < RESULT_MAX_BYTES

    def test_sentences_are_short(self) -> None:
        """A sentence names a few rates and counts the rest."""
        question = Question({f"{number}e-6": None if number > 32 else 2.0 + number / 10 for number in range(1, 65)})
        assert "and 29 more" in answer(question).reason
