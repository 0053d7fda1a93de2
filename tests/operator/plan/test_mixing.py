"""The stage mixing: what is proposed, what is trained, and what becomes of the answer."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_api.conditions import Reason
from cpt_api.digest import mix_digest, subject_digest
from cpt_api.result import Verdict
from cpt_api.trial import CPTTrialSpec, DecideWork, Question, TrialType
from cpt_api.values import Digest, LearningRate, Tokens
from cpt_operator.plan import Failed, Outcome, Plan, PlannedTrial, Succeeded
from cpt_operator.plan.lengths import InvalidRecipeError
from cpt_operator.plan.recipe import resolve
from make import make_experiment, make_mix, make_result, make_screened, outcome_diverged
from mixes import DURATIONS, SWEEP, answering, explicit, mixed, name_of, sized, weights
from planned import World, good, reason_of


def questions(plan: Plan) -> list[DecideWork]:
    """Of this stage."""
    works = [trial.spec.decide for trial in plan.trials if trial.spec.decide]
    return [work for work in works if work.question is Question.MIX]


def arms(plan: Plan) -> list[PlannedTrial]:
    """Cooled ones."""
    return [t for t in plan.trials if t.stage == "mixing" and t.spec.train and t.spec.train.schedule.cooldown]


class TestProposals:
    """Design 4: "weights ∝ optimal tokens …, `Uniform`, `Proportional`"."""

    def test_mixes_that_are_trained(self) -> None:
        """The proposal and both controls, at one rate to the first rung, with a little replay data."""
        done = World(mixed(), answer=sized).run()
        found = {trial.title: weights(done, trial) for trial in arms(done)}
        chosen = {dataset.name: dataset.optimal_tokens for dataset in done.datasets}
        third = (
            {"python": "0.3166", "perl": "0.6333"}
            if chosen["perl"] == 40960
            else {"python": "0.6333", "perl": "0.3166"}
        )
        optimal = found["OptimalTokens mix 1e-4 seed 0 cooled @ 10240"]
        assert {name: weight[:6] for name, weight in optimal.items() if name != "speeches"} == third
        assert optimal["speeches"] == "0.05"
        assert found["Uniform mix 1e-4 seed 0 cooled @ 10240"] == {
            "python": "0.475",
            "perl": "0.475",
            "speeches": "0.05",
        }
        assert found["Proportional mix 1e-4 seed 0 cooled @ 10240"]["perl"] == "0.665"
        assert len(found) == 3

    def test_the_question(self) -> None:
        """It holds all mixes, the proposal by its digest, and the control's replicates for the run noise."""
        (work,) = questions(World(mixed(), answer=sized).run())
        assert work.mixes == 3
        assert work.proposal in {subject_digest(entry) for entry in work.datasets}
        assert [control.tokens for control in work.controls] == [10240, 10240]
        assert all(entry.phases and mix_digest(entry.phases) == subject_digest(entry) for entry in work.datasets)

    @pytest.mark.parametrize(
        ("strategy", "first", "count"), [("Uniform", "Uniform", 2), ("Proportional", "Proportional", 2)]
    )
    def test_simple_proposals(self, strategy: str, first: str, count: int) -> None:
        """They are held against each other; no durations are needed."""
        done = World(mixed({"strategy": strategy}, {"durationSweep": None}), answer=sized).run()
        titles = [trial.title for trial in arms(done)]
        assert done.complete
        assert titles[0].startswith(f"{first} mix")
        assert len(titles) == count

    def test_equal_proposals_are_one(self) -> None:
        """Datasets of one size that are worth the same: nothing to compare, nothing to train."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            return Succeeded(make_result(spec, numbers={"trainTokens": 5e6})) if spec.prepare else good(spec)

        done = World(mixed(), answer=answer).run()
        assert done.complete
        assert not arms(done)
        assert [str(share.weight) for share in done.mix] == ["0.5", "0.5"]
        assert "All strategies say the same" in reason_of(done, "mixing")

    def test_a_small_dataset(self) -> None:
        """No mix reads it more than 16 times at the longest duration that is asked for."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            if spec.prepare and name_of(spec) == "python":
                return Succeeded(make_result(spec, numbers={"trainTokens": 4000.0}))
            return sized(spec)

        stages = {"mixSweep": {"durations": ["655360"]}}
        done = World(mixed(stages=stages), answer=answer).run()
        for trial in arms(done):
            assert float(weights(done, trial)["python"]) * 655360 <= 16 * 4000
        assert "python is repeated" in reason_of(done, "mixing")

    def test_the_rate(self) -> None:
        """The best over all datasets at the first rung, of those that every one has."""

        def decision(work: DecideWork) -> Any:
            document = good_decision(work)
            choices = tuple(
                choice.model_copy(
                    update={
                        "arms": tuple(
                            arm.model_copy(
                                update={"target": 1.2 if arm.learning_rate == LearningRate.parse("1e-3") else 1.5}
                            )
                            for arm in choice.arms
                        )
                    }
                )
                for choice in document.rates
            )
            return document.model_copy(update={"rates": choices})

        done = World(mixed(), answer=answering(Question.LEARNING_RATE, decision)).run()
        assert {str(t.spec.train.schedule.peak_learning_rate) for t in arms(done) if t.spec.train} == {"1e-3"}


def good_decision(work: DecideWork) -> Any:
    """As `make_result` has it."""
    spec = CPTTrialSpec(type=TrialType.DECIDE, decide=work)
    return make_result(spec).decision


class TestSurvivors:
    """Datasets that go into the mix."""

    @pytest.mark.parametrize(("word", "stage"), [(Verdict.HURTS, "nothing to mix")])
    def test_none(self, word: Verdict, stage: str) -> None:
        """The experiment is complete, and the base is best."""
        hurt = answering(Question.SCREENING, lambda work: make_screened(work, word))
        done = World(mixed(stages={"screening": {}, "mixSweep": {}}), answer=hurt).run()
        assert done.complete
        assert done.best is None
        assert stage in reason_of(done, "mixing")
        assert "There is no mix" in reason_of(done, "mixSweep")

    def test_one(self) -> None:
        """Its mix is itself, with the mix's replay share: nothing to compare, but something to train."""

        def one(work: DecideWork) -> Any:
            document = make_screened(work)
            answers = list(document.screened or ())
            hurts = make_screened(work, Verdict.HURTS).screened or ()
            return document.model_copy(update={"screened": (answers[0], hurts[1])})

        stages = {"screening": {}, "mixSweep": {"learningRates": ["1e-4"], "durations": ["40960"]}}
        done = World(mixed(stages=stages), answer=answering(Question.SCREENING, one)).run()
        assert done.complete
        assert not arms(done)
        assert [str(share.weight) for share in done.mix] == ["1"]
        (arm,) = [t for t in done.trials if t.stage == "mixSweep" and t.spec.train and t.spec.train.schedule.cooldown]
        assert sorted(weights(done, arm).values()) == ["0.05", "0.95"]


class TestAnswers:
    """Kept, replaced, or no answer."""

    def test_kept(self) -> None:
        """The proposal is the mix, in the status and in the sentence."""
        done = World(mixed(), answer=sized).run()
        assert done.complete
        assert sorted(str(share.weight) for share in done.mix) == ["0.3333", "0.6667"]
        assert "the mix (" in done.message
        assert ("mixing", "Decided") in {(stage.name, stage.state) for stage in done.stages}

    def test_replaced(self) -> None:
        """A control is taken, and trained on."""

        def other(work: DecideWork) -> Any:
            uniform = next(
                subject_digest(entry)
                for entry in work.datasets
                if entry.phases and sorted(str(part.weight) for part in entry.phases[0].mixture)[-2:] == ["0.475"] * 2
            )
            return make_mix(work, uniform)

        done = World(mixed(stages={"mixSweep": {}}), answer=answering(Question.MIX, other)).run()
        assert done.complete
        assert [str(share.weight) for share in done.mix] == ["0.5", "0.5"]
        swept = [t for t in done.trials if t.stage == "mixSweep" and t.spec.train]
        assert swept
        assert all(weights(done, trial)["python"] == "0.475" for trial in swept)

    def test_a_failed_mix(self) -> None:
        """It is missing from the question, which knows how many there were."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            uniform = spec.train and [str(part.weight) for part in spec.train.phases[0].mixture].count("0.475") == 2
            return Failed("Hang", "lost") if uniform else sized(spec)

        done = World(mixed(), answer=answer).run()
        (work,) = questions(done)
        assert (len(work.datasets), work.mixes) == (2, 3)
        assert "the Uniform mix: Hang: lost" in reason_of(done, "mixing")
        assert done.complete

    def test_all_failed(self) -> None:
        """It ends, and says why."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            return Failed("Hang", "lost") if spec.train and len(spec.train.phases[0].mixture) == 3 else sized(spec)

        done = World(mixed(), answer=answer).run()
        assert done.finding is not None
        assert done.finding.message.startswith("mixing cannot be decided: no mix is left; the OptimalTokens mix: Hang")

    def test_diverged_mixes(self) -> None:
        """They are results: the question is asked all the same."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            if spec.train and len(spec.train.phases[0].mixture) == 3:
                return Succeeded(outcome_diverged(spec))
            return sized(spec)

        done = World(mixed(), answer=answer).run()
        (work,) = questions(done)
        assert len(work.datasets) == 3
        assert done.complete

    @pytest.mark.parametrize("what", ["failed", "another proposal", "an unknown mix", "a wrong word"])
    def test_a_bad_decision(self, what: str) -> None:
        """It ends the experiment, with its words: answers are written under a user's identity."""

        def decision(work: DecideWork) -> Any:
            document = make_mix(work)
            assert document.mix
            other = next(arm.mix for arm in document.mix.arms if arm.mix != work.proposal)
            updates: dict[str, dict[str, Any]] = {
                "another proposal": {"proposal": other},
                "an unknown mix": {"chosen": work.baseline.digest, "verdict": "Replaced"},
                "a wrong word": {"chosen": other, "verdict": "Kept"},
            }
            changed = document.model_copy(update={"mix": document.mix.model_copy(update=updates.get(what, {}))})
            return Failed("DataError", "cannot be paired") if what == "failed" else changed

        done = World(mixed(), answer=answering(Question.MIX, decision)).run()
        assert done.finding is not None
        assert done.finding.reason is Reason.FAILED
        assert done.finding.message.startswith("mixing cannot be decided: the decision ")


class TestLaws:
    """What holds for every plan."""

    def test_ahead_never_grows(self) -> None:
        """Known tokens and those ahead never grow together."""
        swept = {"rungs": ["10240", "20480"], "durations": ["40960", "81920"]}
        recipes: list[dict[str, Any]] = [{}, {"screening": {}, "mixSweep": swept}]
        for stages in recipes:
            totals = World(mixed(stages=stages), answer=sized).totals()
            assert totals == sorted(totals, reverse=True)

    @settings(max_examples=8, deadline=None)
    @given(seed=st.integers(0, 10_000))
    def test_any_order_of_answers(self, seed: int) -> None:
        """Whatever finishes first, and whoever plans, the trials are the same; none ever leaves the plan."""
        spec = mixed(stages={"mixSweep": {"durations": ["40960", "81920"]}})
        rng, slow = random.Random(seed), World(spec, answer=sized)
        seen: set[Digest] = set()
        while slow.step(lambda count: rng.randint(1, count) if count else 0):
            now = {trial.digest for trial in slow.plan().trials}
            assert seen <= now
            seen = now
        assert seen == {trial.digest for trial in World(spec, answer=sized).run().trials}

    def test_order_of_the_manifest(self) -> None:
        """Datasets the other way round: the same trials."""
        turned = mixed(datasets=make_experiment().to_dict()["datasets"][::-1])
        same, other = (
            {t.digest for t in World(spec, answer=sized).run().trials if t.spec.type is not TrialType.PREFLIGHT}
            for spec in (mixed(), turned)
        )
        assert same == other

    def test_the_stages_before_stay_what_they_are(self) -> None:
        """Every trial of theirs is the same with and without a mix."""
        plain = make_experiment(recipe={"learningRateSweep": SWEEP, "durationSweep": DURATIONS})
        before = {t.digest for t in World(plain, answer=sized).run().trials if not t.spec.report}
        assert before < {t.digest for t in World(mixed(), answer=sized).run().trials}


class TestRecipe:
    """What is refused, with what to do."""

    @pytest.mark.parametrize(
        ("mixing", "stages", "words"),
        [
            pytest.param({}, {"durationSweep": None}, "weighs datasets by their chosen durations", id="no durations"),
            pytest.param({"strategy": "Explicit"}, {}, "phases go with strategy Explicit", id="no phases"),
            pytest.param(
                {"phases": [{"weights": [{"dataset": "perl", "weight": "1"}]}]}, {}, "phases go with", id="phases"
            ),
            pytest.param(
                {"strategy": "Uniform"}, {"learningRateSweep": None}, "nothing to do but an Explicit", id="sweep"
            ),
        ],
    )
    def test_refused(self, mixing: dict[str, Any], stages: dict[str, Any], words: str) -> None:
        """By the planner, also where the API server's rules are not there."""
        with pytest.raises(InvalidRecipeError, match=words):
            resolve(mixed(mixing, stages))

    @pytest.mark.parametrize(
        ("phases", "words"),
        [
            pytest.param([[("cobol", "1")]], "names 'cobol', which is none of spec.datasets", id="unknown"),
            pytest.param([[("perl", "1"), ("perl", "2")]], "names 'perl' twice", id="twice"),
            pytest.param([[("perl", "0")]], "gives 'perl' a weight of 0", id="nothing"),
        ],
    )
    def test_phases(self, phases: list[list[tuple[str, str]]], words: str) -> None:
        """Their datasets."""
        with pytest.raises(InvalidRecipeError, match=words):
            resolve(explicit([(None, weights) for weights in phases]))

    @pytest.mark.parametrize("ends", [(None, None), ("10240", "20480"), ("20480", "10240", None)])
    def test_ends_of_phases(self, ends: tuple[str | None, ...]) -> None:
        """All but the last have one, and they rise."""
        with pytest.raises(InvalidRecipeError, match="untilTokens"):
            resolve(explicit([(end, [("perl", "1")]) for end in ends]))

    def test_mix_sweep_needs_mixing(self) -> None:
        """Else there is no mix to sweep."""
        with pytest.raises(InvalidRecipeError, match=r"add recipe\.mixing"):
            resolve(make_experiment(recipe={"learningRateSweep": SWEEP, "mixSweep": {}}))

    def test_defaults(self) -> None:
        """The rates of the sweep at its first rung; a twentieth of replay data."""
        mix = resolve(mixed(stages={"mixSweep": {}})).mix
        assert mix is not None
        assert [str(rate) for rate in mix.rates] == ["1e-4", "1e-3"]
        assert (mix.rungs, mix.durations, float(mix.share)) == ((Tokens(10240),), (), 0.05)
