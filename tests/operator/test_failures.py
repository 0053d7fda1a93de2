"""Everything that can be wrong with a study ends in a clear state, with a reason and with what to do; nothing hangs.

The first half goes through the real planner and the real decisions (tests/simulator), the second through the operator
on a cluster in memory.
"""

from __future__ import annotations

import pytest

from cpt_api.experiment import CPTExperimentSpec
from cpt_api.layout import result_key
from cpt_operator.kinds import Key, Kind
from cpt_operator.plan import Plan
from cpt_operator.records import JobRecord, TrialRecord
from make import make_experiment, make_result
from simulator.experiment import experiment_spec, run_experiment
from simulator.truth import Curve, Truth
from world import NAMESPACE, World, works

STAGES = {"screening": {}, "durationSweep": {"durations": ["8M", "16M"]}}
GOOD, BAD = Curve(best_rate=1e-4, curvature=0.01), Curve(best_rate=1e-4, curvature=0.01, gain=-0.3)
SWEEP = Key(Kind.EXPERIMENT, NAMESPACE, "sweep")


def studied(truth: Truth, spec: CPTExperimentSpec | None = None) -> Plan:
    """The end of an experiment in a world of that truth."""
    done = run_experiment(truth, 1, spec or experiment_spec(sorted(truth.curves), STAGES)).plan
    assert done.finding is None
    assert done.complete
    return done


class TestScience:
    """It is completed, and its message says what that means."""

    def test_a_diverged_rate(self) -> None:
        """It is a result: another rate is chosen."""
        done = studied(Truth({"a": GOOD, "b": GOOD}, diverges_above=5e-4))
        assert {dataset.verdict for dataset in done.datasets} == {"Helps"}
        assert done.best is not None
        assert float(done.best.learning_rate) <= 3e-4

    @pytest.mark.parametrize("stages", [{}, STAGES], ids=["sweep only", "all stages"])
    def test_a_base_that_diverges_at_once(self, stages: dict[str, object]) -> None:
        """At every rate, the control too: the base stays, and lower rates are asked for."""
        truth = Truth({"a": GOOD, "b": GOOD}, diverges_above=0)
        done = studied(truth, experiment_spec(["a", "b"], stages))
        assert done.best is None
        assert "every rate of a, b diverged: append lower ones to learningRateSweep.learningRates" in done.message

    def test_all_datasets_hurt(self) -> None:
        """The base is best; nothing is trained longer."""
        done = studied(Truth({"a": BAD, "b": BAD}))
        assert {dataset.verdict for dataset in done.datasets} == {"Hurts"}
        assert done.best is None
        assert "no dataset survived screening: the base is best" in done.message
        assert not [trial for trial in done.trials if trial.stage == "durationSweep"]

    def test_no_replay_data(self) -> None:
        """No control, so no verdict: the message names what is missing."""
        done = studied(Truth({"a": GOOD}), experiment_spec(["a"], STAGES, replay=False))
        assert {dataset.verdict for dataset in done.datasets} == {"Undecided"}
        assert "no dataset is known to help, so the base stays" in done.message
        assert "No control: name replay data (replay.dataset)" in done.message

    def test_no_retention_data(self) -> None:
        """The target alone decides; nothing is said about what was forgotten."""
        spec = experiment_spec(["a"], STAGES)
        without = spec.evaluation.model_copy(update={"retention": None})
        done = studied(Truth({"a": GOOD}), spec.model_copy(update={"evaluation": without}))
        assert done.best is not None
        assert (done.best.target is not None, done.best.retention) == (True, None)


# --- on a cluster ---------------------------------------------------------------------------------------------------


def begun(**changes: object) -> World:
    """An experiment on a cluster on which every trial works."""
    world = World(kubelet=works)
    world.add(Kind.EXPERIMENT, "sweep", make_experiment(**changes).to_dict())
    return world


def ready(world: World) -> tuple[str, str, str]:
    condition = world.condition(Kind.EXPERIMENT, "sweep", "Ready")
    assert condition is not None
    return condition


def first(world: World, type_: str) -> TrialRecord:
    return next(trial for trial in world.store.trials(NAMESPACE) if trial.spec["type"] == type_)


class TestCluster:
    """Conditions, with what to do."""

    async def test_a_budget_too_small_for_the_first_rung(self) -> None:
        """It stops at once after the first trials, says how much was asked for, and goes on when it is raised."""
        world = begun(budget={"tokens": "1"})
        await world.settle(300)
        status, reason, message = ready(world)
        assert (status, reason) == ("False", "BudgetExhausted")
        assert "budget.tokens is 1, 12 trials are left: raise it, and they go on from their checkpoints" in message
        assert world.jobs_at_work() == []
        world.change(Kind.EXPERIMENT, "sweep", lambda spec: spec.update(budget={"tokens": "1M"}))
        await world.settle(300)
        assert ready(world)[:2] == ("True", "Completed")

    async def test_a_dataset_too_small(self) -> None:
        """Nothing is left of it to train on: it is named, the others have their rates."""

        def empty(world: World, job: JobRecord) -> None:
            work = world.document(job).spec.prepare
            if work and "perl" in str(work.source.uri) and world.store.pods_of(job.uid):
                world.finish(job, 4, message="no document is left to train on: give it more")
            else:
                works(world, job)

        world = begun()
        world.kubelet = empty
        await world.settle(600)
        assert ready(world)[:2] == ("True", "Completed")
        body = world.objects[SWEEP]["status"]
        assert {d["name"]: d["verdict"] for d in body["datasets"]} == {"python": "Chosen", "perl": "Undecided"}
        (sweep,) = [stage for stage in body["stages"] if stage["name"] == "learningRateSweep"]
        assert "perl at 1e-4: DataError: exit 4: no document is left to train on: give it more" in sweep["reason"]

    async def test_a_missing_result(self) -> None:
        """A trial exits well and leaves none: it is tried again, and then given up with its name."""

        def forgetful(world: World, job: JobRecord) -> None:
            if job.labels["cpt.dev/type"] != "Evaluate" or not world.store.pods_of(job.uid):
                works(world, job)
            else:
                world.finish(job, 0)

        world = begun()
        world.kubelet = forgetful
        await world.settle(3000)
        status, reason, message = ready(world)
        assert (status, reason) == ("False", "InputFailed")
        name = first(world, "Evaluate").name
        assert f"trial {name} failed; read its conditions, delete it, and it is made again" in message
        assert world.trial(name).conditions[0].reason == "AttemptsExhausted"
        assert world.jobs_at_work() == []
        world.kubelet = works
        world.remove(Key(Kind.TRIAL, NAMESPACE, name))
        await world.settle(600)
        assert ready(world)[:2] == ("True", "Completed")

    async def test_a_result_with_a_wrong_digest(self) -> None:
        """It is not believed, nothing is trained over it, and it is named; removed, the trial runs."""

        def lies(world: World, job: JobRecord) -> None:
            document = world.document(job)
            if document.spec.evaluate is None or not world.store.pods_of(job.uid):
                works(world, job)
                return
            other = document.spec.model_copy(update={"salt": "another"})
            world.write(result_key(NAMESPACE, document.digest), make_result(other).to_dict())
            world.finish(job, 0)

        world = begun()
        world.kubelet = lies
        await world.settle(600)
        status, reason, message = ready(world)
        assert (status, reason) == ("False", "ResultInvalid")
        assert "it is not believed: remove it from the store" in message
        evaluate = first(world, "Evaluate")
        assert evaluate.name in message
        assert evaluate.digest
        del world.s3.objects[result_key(NAMESPACE, evaluate.digest)]
        world.kubelet = works
        await world.settle(600)
        assert ready(world)[:2] == ("True", "Completed")

    async def test_a_failed_report(self) -> None:
        """The answer stands, and says that there is no page, and why."""

        def kubelet(world: World, job: JobRecord) -> None:
            if job.labels["cpt.dev/type"] == "Report" and world.store.pods_of(job.uid):
                world.finish(job, 4, message="no figures")
            else:
                works(world, job)

        world = begun()
        world.kubelet = kubelet
        await world.settle(300)
        status, reason, message = ready(world)
        assert (status, reason) == ("True", "Completed")
        assert "no report: DataError: exit 4: no figures" in message
