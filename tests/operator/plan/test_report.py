"""The report's place in a plan, what its digest depends on, and the bill that it shows."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cpt_api.conditions import Reason
from cpt_api.result import Flops, Verdict
from cpt_api.trial import Bill, CPTTrialSpec, Legend, Question, TrialType
from cpt_api.values import LearningRate
from cpt_operator.plan import Failed, Outcome, Plan, PlannedTrial, Succeeded
from make import make_decision, make_experiment, make_result, make_screened, outcome_diverged
from planned import CONTEXT, World, good

RENAMED = [
    {"name": "b", "uri": "s3://cpt/sources/perl.jsonl"},
    {"name": "a", "uri": "s3://cpt/sources/python.jsonl"},
]
ABOVE = LearningRate.parse("5e-2")
TWO_RUNGS = {"learningRateSweep": {"learningRates": ["1e-4", "1e-3"], "rungs": ["10240", "20480"]}}


def report_of(plan: Plan) -> PlannedTrial:
    (found,) = [trial for trial in plan.trials if trial.spec.type is TrialType.REPORT]
    return found


def legend_of(plan: Plan) -> Legend:
    legend = report_of(plan).spec.run.legend
    assert legend is not None
    return legend


def bill_of(plan: Plan) -> Bill:
    bill = legend_of(plan).bill
    assert bill is not None
    return bill


class TestPlace:
    """The last trial, on which nothing hangs."""

    def test_comes_when_everything_is_decided(self) -> None:
        """It reads every rung's decision and the base's scores; only then is the experiment complete."""
        world = World(make_experiment(recipe=TWO_RUNGS))
        while TrialType.REPORT not in {trial.spec.type for trial in world.plan().trials}:
            assert world.step()
        before = world.plan()
        assert (before.complete, before.report, before.stages[-1].state) == (False, None, "Running")
        work = report_of(before).spec.report
        assert work is not None
        assert [str(answered.tokens) for answered in work.answered] == ["10240", "20480"]
        done = world.run()
        assert (done.complete, done.report) == (True, report_of(done).digest)
        assert (done.trials[-1], done.stages[-1].state) == (report_of(done), "Decided")

    def test_reads_every_decision(self) -> None:
        """Of a rung that was asked about twice, since its grid was widened, both: the last one counts."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            if spec.decide is None:
                return good(spec)
            decision = make_decision(spec.decide)
            rates = [choice.model_copy(update={"fitted_vertex": ABOVE}) for choice in decision.rates]
            return Succeeded(make_result(spec, decision=decision.model_copy(update={"rates": tuple(rates)})))

        done = World(make_experiment(), answer=answer).run()
        work = report_of(done).spec.report
        assert work is not None
        (answered,) = work.answered
        asked = [trial.digest for trial in done.trials if trial.spec.decide]
        assert [reference.digest for reference in answered.decisions] == asked
        assert len(asked) == 2

    def test_shows_the_screening_too(self) -> None:
        """It comes after the last stage of the recipe, whichever that is."""
        world = World(make_experiment(recipe=TWO_RUNGS | {"screening": {}}))
        done = world.run()
        work = report_of(done).spec.report
        assert work is not None
        assert [answered.question.value for answered in work.answered] == ["LearningRate", "LearningRate", "Screening"]
        assert (done.complete, done.stages[-1].name, done.stages[-1].state) == (True, "report", "Decided")

    def test_comes_where_somebody_must_decide(self) -> None:
        """An experiment that is stalled because a dataset is undecided has its page: it says what it would take."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            if spec.decide and spec.decide.question is Question.SCREENING:
                return Succeeded(make_result(spec, decision=make_screened(spec.decide, Verdict.UNDECIDED)))
            return good(spec)

        recipe = {**TWO_RUNGS, "screening": {"onUndecided": "Stop"}}
        done = World(make_experiment(recipe=recipe), answer=answer).run()
        assert (done.complete, done.finding is None) == (False, False)
        assert done.report == report_of(done).digest

    def test_a_failed_one_fails_nothing(self) -> None:
        """The experiment is complete with its answer, and says that there is no report, and why."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            return Failed("DataError", "bad luck") if spec.report else good(spec)

        done = World(make_experiment(), answer=answer).run()
        assert (done.complete, done.finding, done.report) == (True, None, None)
        assert done.best is not None
        assert (done.stages[-1].state, done.stages[-1].reason) == ("Failed", "no report: DataError: bad luck")
        assert done.message.endswith("; no report: DataError: bad luck")

    def test_none_where_nothing_could_be_decided(self) -> None:
        """An experiment that failed has its reason, and nothing to show."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            return Failed("DataError", "bad luck") if spec.decide else good(spec)

        done = World(make_experiment(), answer=answer).run()
        assert done.finding is not None
        assert done.finding.reason is Reason.FAILED
        assert TrialType.REPORT not in {trial.spec.type for trial in done.trials}
        assert done.stages[-1].state == "Waiting"


class TestDigest:
    """Of what was found, for one experiment."""

    @pytest.mark.parametrize(
        ("changes", "context", "is_equal"),
        [
            pytest.param({}, {"experiment": "renamed"}, True, id="the experiment's name"),
            pytest.param({"datasets": RENAMED}, {}, True, id="names and order of datasets"),
            pytest.param({}, {"experiment_uid": "uid-2"}, False, id="the experiment itself"),
            pytest.param({"recipe": TWO_RUNGS}, {}, False, id="another decision"),
        ],
    )  # fmt: skip
    def test_depends_on(self, changes: dict[str, object], context: dict[str, str], is_equal: bool) -> None:
        """Results and the experiment, not what anything is called."""
        first = World(make_experiment()).run()
        other = World(make_experiment(**changes), replace(CONTEXT, **context)).run()  # type: ignore[arg-type]
        assert (report_of(first).digest == report_of(other).digest) is is_equal

    def test_does_not_depend_on_who_paid(self) -> None:
        """A trial that comes back as reused changes the bill, and makes no new report."""
        world = World(make_experiment())
        paid = world.run()
        world.outcomes = {
            digest: replace(outcome, reused=True) if isinstance(outcome, Succeeded) else outcome
            for digest, outcome in world.outcomes.items()
        }
        reused = world.plan()
        assert report_of(paid).digest == report_of(reused).digest
        assert bill_of(reused).reused_tokens == bill_of(paid).arm_tokens + bill_of(paid).control_tokens

    def test_fits_into_a_pod(self) -> None:
        """With the most datasets that a Preflight can look at."""
        datasets = [{"name": f"{'d' * 59}{n:04}", "uri": f"s3://cpt/sources/d{n}"} for n in range(252)]
        sweep = {"learningRates": ["1e-4"], "rungs": ["10240"]}
        done = World(make_experiment(datasets=datasets, recipe={"learningRateSweep": sweep})).run()
        assert len(legend_of(done).names) == 254
        assert len(json.dumps(report_of(done).spec.to_dict())) < 64 * 1024


class TestLegend:
    """Names, and what it cost."""

    def test_names(self) -> None:
        """Every dataset and text that results refer to has the name that the manifest gives it."""
        done = World(make_experiment(), replace(CONTEXT, experiment="sweep")).run()
        legend = legend_of(done)
        assert legend.title == "sweep"
        assert sorted(entry.name for entry in legend.names) == ["linux", "perl", "python", "speeches"]

    def test_best(self) -> None:
        """The very model that the status names, and where its base lies; nothing where the base is best."""
        spec = make_experiment()
        done = World(spec).run()
        legend = legend_of(done)
        assert done.best is not None
        assert legend.best is not None
        assert (legend.best.trial, legend.best.target) == (done.best.digest, done.best.target)
        assert legend.base == spec.model.uri

    def test_bill(self) -> None:
        """Arms and control are what was trained; separate are the same points without shared trunks."""
        done = World(make_experiment(recipe=TWO_RUNGS)).run()
        bill = bill_of(done)
        # of each dataset both rates have a point at the first rung, the lower one goes on to the second
        assert bill.naive_tokens == 2 * 2 * 20480
        assert bill.separate_tokens == 2 * (2 * 10240 + 20480)
        assert bill.arm_tokens == bill.separate_tokens - 2 * 8192
        assert bill.control_tokens == 2 * 2 * 10240
        assert bill.arm_tokens + bill.control_tokens == sum(trial.tokens for trial in done.trials)
        assert bill.reused_tokens == 0

    def test_a_diverged_trunk_is_billed_as_far_as_it_came(self) -> None:
        """By its result, and never for more than was planned."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            hot = spec.train and str(spec.train.schedule.peak_learning_rate) == "1e-3"
            if not hot:
                return good(spec)
            return Succeeded(outcome_diverged(spec).model_copy(update={"numbers": {"tokens": 512.0}}))

        bill = bill_of(World(make_experiment(), answer=answer).run())
        assert bill.arm_tokens == bill.separate_tokens == 2 * 10240 + 2 * 512
        assert bill.control_tokens == 2 * 10240 + 2 * 512

    def test_what_others_paid_is_left_out(self) -> None:
        """GPU-seconds and operations are those of results that this experiment's own attempts committed."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            cost = {"gpu_seconds": 10.0, "flops": Flops(total=2e9, convention="as counted")}
            return Succeeded(make_result(spec, **cost), reused=spec.type is not TrialType.TRAIN)

        done = World(make_experiment(), answer=answer).run()
        trains = sum(trial.spec.type is TrialType.TRAIN for trial in done.trials)
        assert (bill_of(done).gpu_seconds, bill_of(done).training_gigaflops) == (10 * trains, 2 * trains)
        assert (done.operations.training, done.operations.evaluation) == (2e9 * trains, 0)
        assert bill_of(done).evaluation_gigaflops == 0

    def test_evaluation_has_its_share(self) -> None:
        """What Evaluate trials took stands beside training; the plan knows it as soon as a result is there."""

        def answer(spec: CPTTrialSpec) -> Outcome:
            counted = spec.type in (TrialType.TRAIN, TrialType.EVALUATE)
            flops = Flops(total=2e9, convention="as counted") if counted else None
            return Succeeded(make_result(spec, flops=flops))

        done = World(make_experiment(), answer=answer).run()
        evaluations = sum(trial.spec.type is TrialType.EVALUATE for trial in done.trials)
        assert bill_of(done).evaluation_gigaflops == 2 * evaluations > 0
        assert done.operations.total == 1e9 * (bill_of(done).training_gigaflops + 2 * evaluations)
