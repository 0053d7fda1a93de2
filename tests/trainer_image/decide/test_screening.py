"""The document that answers the question Screening."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_api.layout import RESULT_MAX_BYTES
from cpt_api.model import canonical_json
from cpt_api.result import Decision, Screened, Verdict
from cpt_api.trial import DecideWork
from cpt_trainer.decide.screening import decide
from make import make_digest
from questions import TARGET, Screening, rates

RUNS = {"1e-4": (2.5, 2.51, 2.49), "1e-3": (2.5, 2.51, 2.49)}
"""The control: one run lies 0.01 from another."""
GOOD, BAD, SAME = ({"1e-4": loss, "1e-3": loss} for loss in (2.3, 2.7, 2.5))


def answers(question: Screening) -> Mapping[str, Screened]:
    """By the first letters of the dataset's digest."""
    return {one.dataset: one for one in decide(question.work, question.models).screened or ()}


def answer(losses: Mapping[str, float | None], controls: Mapping[str, Sequence[float | None]] = RUNS) -> Screened:
    """For one dataset alone."""
    return answers(Screening({"python": losses}, controls))[make_digest("python")]


class TestVerdicts:
    """What is said about a dataset."""

    def test_three_kinds(self) -> None:
        """Helps, hurts, and nothing sure; each with its effect against the mean of the control at the same rate."""
        found = answers(Screening({"good": GOOD, "bad": BAD, "same": SAME}, RUNS))
        kinds = {name: found[make_digest(name)].target for name in ("good", "bad", "same")}
        assert [kind.verdict for kind in kinds.values()] == [Verdict.HELPS, Verdict.HURTS, Verdict.UNDECIDED]
        effects = [kind.effect.value for kind in kinds.values() if kind.effect]
        assert effects == pytest.approx([0.2, -0.2, 0.0], abs=1e-9)

    def test_the_largest_of_its_rates(self) -> None:
        """The rate with the largest t is named; all that follows is about that arm."""
        one = answer({"1e-4": 2.4, "1e-3": 2.2})
        assert (one.learning_rate, one.tokens) == (rates("1e-3")[0], 1_000_000)
        assert one.target.effect is not None
        assert one.target.effect.value == pytest.approx(0.3)
        assert [arm.gain.value for arm in one.arms if arm.gain] == pytest.approx([0.1, 0.3])

    def test_unaffected(self) -> None:
        """Within a threshold that is wide enough."""
        question = Screening({"python": SAME}, RUNS, threshold="0.1")
        assert answers(question)[make_digest("python")].target.verdict is Verdict.UNAFFECTED

    def test_sentence(self) -> None:
        """Effect, bounds, what could be seen, and what was forgotten, with numbers."""
        reason = answer(GOOD).reason
        assert reason.startswith("Helps: at 1e-4 and 1M tokens it saves 0.2 bits per byte against the control (one-si")
        assert "adjusted for 2 rates and 1 dataset: 0.1" in reason
        assert "would be seen with 80 % power (50 documents, " in reason
        assert "Retention against the control: Unaffected, it " in reason
        assert "within the margin of 0.02; another run of the recipe" in reason

    def test_what_it_would_take(self) -> None:
        """Where runs differ by more than what matters, more documents do not help, and it is said."""
        assert "longer rungs or more replicates may do, or a larger minimumEffect" in answer(SAME).reason


class TestDoubt:
    """Design 4: "a failed or missing arm makes the verdict *Undecided* and names it"."""

    def test_a_failed_arm(self) -> None:
        """However good the others are."""
        question = Screening({"python": GOOD}, RUNS, missing={"python": ["1e-2"]})
        one = answers(question)[make_digest("python")]
        assert one.target.verdict is Verdict.UNDECIDED
        assert one.reason.startswith("Undecided (these arms failed: 1e-2): at 1e-4 and 1M tokens it saves 0.2")

    def test_no_control(self) -> None:
        """Nothing is compared, and the sentence says what to do."""
        question = Screening({"python": GOOD}, {})
        one = answers(question)[make_digest("python")]
        assert (one.target.verdict, one.target.effect, one.cells) == (Verdict.UNDECIDED, None, ())
        assert one.reason == "Undecided (no control)."
        assert "name replay data (replay.dataset)" in decide(question.work, question.models).sentence

    def test_a_control_is_missing(self) -> None:
        """At one rate: the other one is compared, and nothing is sure."""
        one = answer(GOOD, {"1e-4": RUNS["1e-4"]})
        assert [arm.outcome for arm in one.arms] == ["Compared", "ControlMissing"]
        assert one.reason.startswith("Undecided (no control at 1e-3): at 1e-4")

    def test_no_replicates(self) -> None:
        """There are numbers and no claims; retention as a claim about the model stands."""
        one = answer(GOOD, {rate: runs[:1] for rate, runs in RUNS.items()})
        assert one.target.verdict is Verdict.UNDECIDED
        assert one.target.effect is not None
        assert one.target.effect.value == pytest.approx(0.2)
        assert one.target.effect.lower is None
        assert one.reason.startswith("Undecided (no run-noise estimate: set training.replicates to 3)")
        assert one.forgotten is not None
        assert one.forgotten_by_recipe is None

    def test_a_diverged_arm(self) -> None:
        """It is a result: the rest is judged, and it is named."""
        one = answer({"1e-4": 2.3, "1e-3": None})
        assert one.target.verdict is Verdict.HELPS
        assert [arm.outcome for arm in one.arms] == ["Compared", "Diverged"]
        assert "Diverged: 1e-3." in one.reason

    def test_a_diverged_control(self) -> None:
        """There is nothing to compare with at that rate, and it is named."""
        one = answer(GOOD, {"1e-4": RUNS["1e-4"], "1e-3": [None, None, None]})
        assert one.target.verdict is Verdict.HELPS
        assert [arm.outcome for arm in one.arms] == ["Compared", "ControlDiverged"]
        assert "Its control diverged: 1e-3." in one.reason

    def test_all_diverged(self) -> None:
        """Nothing to compare, and no verdict."""
        one = answer({"1e-4": None, "1e-3": None})
        assert (one.target.verdict, one.learning_rate, one.forgotten) == (Verdict.UNDECIDED, None, None)
        assert one.reason.startswith("Undecided (no rate at which both arm and control have a score).")


class TestRetention:
    """What must not get worse."""

    def test_against_the_control_and_the_base(self) -> None:
        """A verdict as on the target, and whether this model keeps the margin."""
        question = Screening({"keeps": GOOD, "forgets": GOOD}, RUNS, retention={"forgets": 2.3})
        found = answers(question)
        keeps, forgets = (found[make_digest(name)] for name in ("keeps", "forgets"))
        assert keeps.retention is not None
        assert forgets.retention is not None
        assert (keeps.retention.verdict, forgets.retention.verdict) == (Verdict.UNAFFECTED, Verdict.HURTS)
        assert (keeps.forgotten_within_margin, forgets.forgotten_within_margin) == (True, False)
        assert forgets.forgotten is not None
        assert forgets.forgotten.value == pytest.approx(0.3)
        assert "not shown to be within the margin of 0.02" in forgets.reason


class TestMatrix:
    """Every dataset on every text."""

    def test_cells(self) -> None:
        """Target first; an effect that stands out is marked, on the text where it does."""
        question = Screening({"good": GOOD, "same": SAME}, RUNS)
        document = decide(question.work, question.models)
        assert document.texts is not None
        assert document.texts[0] == TARGET
        rows = {one.dataset: one.cells for one in document.screened or ()}
        assert [cell.marked for cell in rows[make_digest("good")]] == [True, False]
        assert [cell.marked for cell in rows[make_digest("same")]] == [False, False]
        assert rows[make_digest("good")][0].effect == pytest.approx(0.2)
        assert rows[make_digest("good")][0].interval is not None


class TestDocument:
    """Laws of the whole."""

    @given(st.randoms(use_true_random=False))
    @settings(max_examples=10, deadline=None)
    def test_order_of_inputs_changes_no_byte(self, random: object) -> None:
        """However arms, controls and datasets are listed."""
        question = Screening({"good": GOOD, "bad": {"1e-4": 2.7, "1e-3": None}}, RUNS)
        work = question.work.model_dump(by_alias=True, mode="json", exclude_none=True)
        ordered = decide(DecideWork.model_validate(work), question.models)
        for part in (work["datasets"], work["datasets"][0]["arms"], work["controls"], work["controls"][0]["trials"]):
            random.shuffle(part)  # type: ignore[attr-defined]
        shuffled = decide(DecideWork.model_validate(work), question.models)
        assert canonical_json(shuffled.to_dict()) == canonical_json(ordered.to_dict())

    def test_survives_the_store(self) -> None:
        """Nine digits are read as they were written."""
        question = Screening({"good": GOOD}, RUNS)
        decision = decide(question.work, question.models)
        assert Decision.model_validate_json(canonical_json(decision.to_dict())) == decision

    def test_size(self) -> None:
        """The largest question that the planner asks (48 datasets, 5 rates, 16 texts) has an answer that is read.

        Here a dataset has two texts; each text more costs a cell.
        """
        grid = [f"{number}e-5" for number in range(1, 6)]
        question = Screening({"a": dict.fromkeys(grid, 2.3)}, dict.fromkeys(grid, (2.5, 2.51)))
        document = decide(question.work, question.models)
        (one,) = document.screened or ()
        cell = len(canonical_json(one.cells[0].to_dict())) + 1
        inputs = 70 * (48 * 5 + 3 * 5)
        assert 48 * (len(canonical_json(one.to_dict())) + 14 * cell) + inputs < RESULT_MAX_BYTES

    def test_counts(self) -> None:
        """The sentence counts verdicts, and tells the run noise."""
        question = Screening({"good": GOOD, "bad": BAD}, RUNS)
        sentence = decide(question.work, question.models).sentence
        assert sentence.startswith("Of 2 datasets: Helps 1, Hurts 1. Run noise: 0.01 bits per byte")
