"""The stage screening: which controls are trained, what is asked, what becomes of the answers."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_api.conditions import Reason
from cpt_api.experiment import CPTExperimentSpec
from cpt_api.result import Outcome as ResultOutcome
from cpt_api.result import Verdict
from cpt_api.trial import CPTTrialSpec, DecideWork, Question, TrialType
from cpt_api.values import Digest
from cpt_operator.plan import Failed, Outcome, Plan, Succeeded
from make import make_decision, make_experiment, make_result, make_screened, outcome_diverged
from planned import CONTEXT, World, good

RUNGS = ["10240", "20480", "40960"]


def screened(rungs: list[str] = RUNGS, *, policy: dict[str, str] | None = None, **changes: Any) -> CPTExperimentSpec:
    """Two datasets at two rates, then screening."""
    sweep = {"learningRates": ["1e-4", "1e-3"], "rungs": rungs}
    return make_experiment(recipe={"learningRateSweep": sweep, "screening": policy or {}}, **changes)


def verdicts(**words: Verdict) -> Any:
    """Answers every question, a screening with these verdicts in the order of the datasets' digests."""

    def answer(spec: CPTTrialSpec) -> Outcome:
        if spec.decide is None or spec.decide.question is not Question.SCREENING:
            return good(spec)
        document = make_screened(spec.decide, words.get("all", Verdict.HELPS))
        return Succeeded(make_result(spec, decision=document))

    return answer


def controls(plan: Plan) -> set[tuple[str, int, bool]]:
    """(rate, end, cooled) of every control with the first seed."""
    return {
        (str(work.schedule.peak_learning_rate), int(work.stop_tokens), work.schedule.cooldown is not None)
        for trial in plan.trials
        if (work := trial.spec.train) and len(work.phases[0].mixture) == 1 and work.seed == 0
    }


def question(plan: Plan) -> DecideWork:
    """The only one of the screening."""
    (work,) = (t.spec.decide for t in plan.trials if t.spec.decide and t.spec.decide.question is Question.SCREENING)
    return work


class TestControls:
    """Design 4: "for exactly each (rate, rung) at which a dataset's arm is judged there is a control segment"."""

    def test_where_an_arm_is_judged(self) -> None:
        """1e-3 is dropped at the first rung and has its control there; 1e-4 has its at the last, none between."""
        done = World(screened()).run()
        cooled = {(rate, end) for rate, end, is_cooled in controls(done) if is_cooled}
        assert cooled == {("1e-4", 10240), ("1e-3", 10240), ("1e-4", 40960)}
        assert done.complete

    def test_dropped_between(self) -> None:
        """A rate that is dropped at the second rung has its control there, and not beyond."""
        sweep = {"learningRates": ["1e-4", "3e-4", "1e-3"], "rungs": RUNGS}
        done = World(make_experiment(recipe={"learningRateSweep": sweep, "screening": {}})).run()
        ends = {(rate, end) for rate, end, _ in controls(done)}
        assert max(end for rate, end in ends if rate == "3e-4") == 20480
        assert max(end for rate, end in ends if rate == "1e-3") == 10240

    def test_only_when_asked_for(self) -> None:
        """Without screening controls end at the first rung; with it every trial of the sweep is the same."""
        without = World(
            make_experiment(recipe={"learningRateSweep": {"learningRates": ["1e-4", "1e-3"], "rungs": RUNGS}})
        )
        plain, more = without.run(), World(screened()).run()
        assert {end for _, end, is_cooled in controls(plain) if is_cooled} == {10240}
        assert {t.digest for t in plain.trials if not t.spec.report} < {t.digest for t in more.trials}

    def test_no_time_is_lost(self) -> None:
        """Controls of the last rung are planned beside its arms, before anything of that rung is decided."""
        world = World(screened())
        while not any(t.spec.train and t.spec.train.stop_tokens == 40960 for t in world.plan().trials):
            assert world.step()
        assert ("1e-4", 40960, True) in controls(world.plan())

    def test_diverged_arms_need_none(self) -> None:
        """What diverged before the last rung is compared with nothing."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            work = spec.train
            if work and len(work.phases[0].mixture) == 2 and 10240 < work.stop_tokens < 20480:
                return Succeeded(outcome_diverged(spec))
            if spec.decide and spec.decide.rung_tokens == 20480:
                document = make_decision(spec.decide)
                none = tuple(c.model_copy(update={"chosen": None, "survivors": ()}) for c in document.rates)
                return Succeeded(make_result(spec, decision=document.model_copy(update={"rates": none})))
            return good(spec)

        done = World(screened(), answer=answer).run()
        assert {end for _, end, _ in controls(done)} == {8192, 10240}
        assert done.complete

    def test_ahead_never_grows(self) -> None:
        """Known tokens and those ahead never grow together, controls among them."""
        world = World(screened())
        totals = world.totals()
        assert totals == sorted(totals, reverse=True)
        assert world.plan().tokens_ahead == 0


class TestQuestion:
    """What the Decide trial gets."""

    def test_arms_where_they_ended(self) -> None:
        """Every rate at the tokens where its race ended, and a control for each; replicates where there are some."""
        work = question(World(screened()).run())
        assert len(work.datasets) == work.family == 2
        assert [[(str(a.learning_rate), a.tokens) for a in entry.arms] for entry in work.datasets] == [
            [("1e-4", 40960), ("1e-3", 10240)]
        ] * 2
        runs = {(str(c.learning_rate), c.tokens): len(c.trials) for c in work.controls}
        assert runs == {("1e-4", 10240): 2, ("1e-3", 10240): 2, ("1e-4", 40960): 1}
        assert (str(work.error_rate), str(work.target.threshold)) == ("0.05", "0.02")
        assert work.retention is not None

    def test_a_failed_arm_is_named(self) -> None:
        """It is missing, wherever it failed; so is a dataset without any arm from the question, and from its family."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            work = spec.train
            lost = work and len(work.phases[0].mixture) == 2 and work.stop_tokens > 10240
            if spec.prepare and spec.prepare.source.uri == "s3://cpt/sources/perl.jsonl":
                return Failed("DataError", "no documents")
            return Failed("Hang", "lost") if lost else good(spec)

        done = World(screened(), answer=answer).run()
        assert done.finding is not None  # the sweep itself has no arm left at the second rung
        assert done.finding.reason is Reason.FAILED

    def test_one_failed_arm(self) -> None:
        """The other rate is asked about, and the failed one is named."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            work = spec.train
            hot = work and str(work.schedule.peak_learning_rate) == "1e-3" and len(work.phases[0].mixture) == 2
            return Failed("Hang", "lost") if hot else good(spec)

        work = question(World(screened(["10240"]), answer=answer).run())
        assert [[str(rate) for rate in entry.missing] for entry in work.datasets] == [["1e-3"], ["1e-3"]]

    def test_a_failed_control(self) -> None:
        """It is not in the question, and the stage says why."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            work = spec.train
            late = work and len(work.phases[0].mixture) == 1 and work.stop_tokens == 40960
            return Failed("Hang", "lost") if late else good(spec)

        done = World(screened(), answer=answer).run()
        assert {(str(c.learning_rate), c.tokens) for c in question(done).controls} == {("1e-4", 10240), ("1e-3", 10240)}
        stage = next(stage for stage in done.stages if stage.name == "screening")
        assert "the control at 1e-4, 40960 tokens: Hang: lost" in (stage.reason or "")

    def test_without_replay(self) -> None:
        """It is asked all the same, so that the document says that there is no control."""
        evaluation = {"target": {"suite": "Heldout", "data": [{"name": "linux", "uri": "s3://cpt/sources/linux"}]}}
        done = World(screened(replay=None, evaluation=evaluation)).run()
        assert done.complete
        assert question(done).controls == ()

    def test_many_datasets(self) -> None:
        """Several questions, each small enough for its answer to be read; Holm counts all datasets in each."""
        datasets = [{"name": f"d{number}", "uri": f"s3://cpt/sources/d{number}"} for number in range(100)]
        done = World(screened(["10240"], datasets=datasets)).run()
        works = [t.spec for t in done.trials if t.spec.decide and t.spec.decide.question is Question.SCREENING]
        assert [(len(s.decide.datasets), s.decide.family) for s in works if s.decide] == [
            (48, 100),
            (48, 100),
            (4, 100),
        ]
        assert max(len(json.dumps(spec.to_dict())) for spec in works) < 40_000
        assert done.complete


class TestAnswers:
    """Survivors, status, and the policy for what is undecided."""

    @pytest.mark.parametrize(
        ("verdict", "policy", "best"),
        [
            pytest.param(Verdict.HELPS, "Drop", True, id="what helps survives"),
            pytest.param(Verdict.HURTS, "Keep", False, id="what hurts never does"),
            pytest.param(Verdict.UNAFFECTED, "Keep", False, id="nor what does nothing"),
            pytest.param(Verdict.UNDECIDED, "Drop", False, id="undecided, dropped"),
            pytest.param(Verdict.UNDECIDED, "Keep", True, id="undecided, kept"),
        ],
    )
    def test_survivors(self, verdict: Verdict, policy: str, *, best: bool) -> None:
        """Best is an arm of a survivor; where there is none the experiment is complete and the base is best."""
        done = World(screened(policy={"onUndecided": policy}), answer=verdicts(all=verdict)).run()
        assert done.complete
        assert (done.best is not None) is best
        assert f"python: {verdict}" in done.message
        words = (
            "is known to help, so the base stays" if verdict is Verdict.UNDECIDED else "survived screening: the base is"
        )
        assert (f"no dataset {words}" in done.message) is not best

    def test_stop(self) -> None:
        """Somebody must act: nothing is complete, and the message names the datasets and what they would take."""
        stop = {"onUndecided": "Stop"}
        done = World(screened(policy=stop), answer=verdicts(all=Verdict.UNDECIDED)).run()
        assert not done.complete
        assert done.finding is not None
        assert done.finding.reason is Reason.UNDECIDED
        assert "perl" in done.finding.message
        assert "a reason" in done.finding.message
        assert World(screened(policy=stop)).run().complete

    def test_status(self) -> None:
        """Verdict, effect against the control with its bounds, and the rate that the sweep chose."""
        world = World(screened())
        while ("screening", "Decided") not in {(stage.name, stage.state) for stage in world.plan().stages}:
            words = {dataset.verdict for dataset in world.plan().datasets}
            assert words <= {None, "Chosen"}
            assert world.step()
        done = world.plan()
        (python, _) = done.datasets
        assert (python.verdict, python.effect, python.interval) == ("Helps", "+0.3000", "+0.1000 to +0.5000")
        assert str(python.best_learning_rate) == "1e-4"

    def test_a_failed_decision(self) -> None:
        """It ends the experiment, with its words."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            is_last = spec.decide and spec.decide.question is Question.SCREENING
            return Failed("DataError", "cannot be paired") if is_last else good(spec)

        done = World(screened(), answer=answer).run()
        assert done.finding is not None
        assert done.finding.reason is Reason.FAILED
        assert "screening cannot be decided: the decision failed: DataError: cannot be paired" in done.finding.message

    def test_must_answer_what_it_was_asked(self) -> None:
        """A document about other arms is not believed."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            if spec.decide is None or spec.decide.question is not Question.SCREENING:
                return good(spec)
            document = make_screened(spec.decide)
            fewer = tuple(one.model_copy(update={"arms": one.arms[:1]}) for one in document.screened or ())
            return Succeeded(make_result(spec, decision=document.model_copy(update={"screened": fewer})))

        done = World(screened(), answer=answer).run()
        assert done.finding is not None
        assert "does not answer what it was asked" in done.finding.message

    def test_every_rate_diverged(self) -> None:
        """Nothing was compared, and the experiment ends."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            result = make_result(spec)
            diverged = {"outcome": ResultOutcome.DIVERGED, "held_out": ()}
            return Succeeded(result.model_copy(update=diverged) if spec.train else result)

        world = World(screened(), answer=answer)
        assert question(world.run()).datasets


class TestLaws:
    """Design 4: "killing the planner after any step gives the same trials"."""

    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 10_000), rates=st.sets(st.sampled_from(["1e-5", "3e-5", "1e-4", "3e-4"]), min_size=1))
    def test_any_order_of_answers(self, seed: int, rates: set[str]) -> None:
        """Whatever finishes first, and whoever plans, the trials are the same; none ever leaves the plan."""
        sweep = {"learningRates": sorted(rates), "rungs": RUNGS}
        spec = make_experiment(recipe={"learningRateSweep": sweep, "screening": {}})
        rng, slow = random.Random(seed), World(spec)
        seen: set[Digest] = set()
        while slow.step(lambda count: rng.randint(1, count) if count else 0):
            now = {trial.digest for trial in slow.plan().trials}
            assert seen <= now
            seen = now
        assert seen == {trial.digest for trial in World(spec).run().trials}

    def test_order_of_the_manifest(self) -> None:
        """Datasets the other way round: the same question."""
        turned = screened(datasets=make_experiment().to_dict()["datasets"][::-1])
        looks = TrialType.PREFLIGHT
        same, other = (
            {t.digest for t in World(spec).run().trials if t.spec.type is not looks} for spec in (screened(), turned)
        )
        assert same == other

    def test_an_appended_dataset(self) -> None:
        """Nothing that was trained changes; only its own arms are new, and one question."""
        world = World(screened())
        before = {t.digest for t in world.run().trials if t.spec.train}
        more = [*world.spec.to_dict()["datasets"], {"name": "sql", "uri": "s3://cpt/sources/sql.jsonl"}]
        world.spec = screened(datasets=more)
        done = world.run()
        assert done.complete
        fresh = [t for t in done.trials if t.spec.train and t.digest not in before]
        assert before <= {t.digest for t in done.trials}
        assert all(t.title.startswith("sql ") for t in fresh)
        assert question(done).family == 3

    def test_reuse_by_another_experiment(self) -> None:
        """An equal experiment has the same digests, question and all."""
        first = {t.digest for t in World(screened()).run().trials if t.spec.type is not TrialType.PREFLIGHT}
        other = World(screened(), CONTEXT)
        assert first <= {t.digest for t in other.run().trials}
