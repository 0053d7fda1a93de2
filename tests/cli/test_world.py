"""What a run knows, without processes: looks at inputs, limits, and why nothing goes on."""

from __future__ import annotations

from typing import Any

from cpt_api.digest import trial_digest
from cpt_api.result import Finding, Outcome, Result
from cpt_api.trial import CPTTrialSpec, TrialType
from cpt_operator.plan import Failed, Succeeded
from kubectl_cpt.machine.memory import Memory
from kubectl_cpt.machine.world import World
from kubectl_cpt.manifest import Document, Manifests
from make import make_experiment, make_result, outcome_diverged


def make_world(memory: Memory | None = None, **changes: Any) -> World:
    document = Document("sweep", "default", make_experiment(**changes))
    return World(Manifests((document,), ()), memory or Memory())


def findings(spec: CPTTrialSpec) -> Result:
    """Preflight does not find one file."""
    result = make_result(spec)
    bad = Finding(input="perl", reason="Missing", message="no such object")
    return result.model_copy(
        update={
            "outcome": Outcome.FINDINGS,
            "findings": (bad,),
            "resolved": tuple(item for item in result.resolved if item.name != "perl"),
        }
    )


def look(world: World) -> None:
    """As a session does before anything starts."""
    while (spec := world.new_look()) is not None:
        world.remember(world.memory.with_look(spec))


def run(world: World, *, perl_is_there: bool = True, until: TrialType | None = None) -> None:
    """Every trial that can start runs, and ends well; stops before those of one type."""
    for _ in range(100):
        look(world)
        ready = [job for job in world.ready() if job.spec.type is not until]
        if not ready:
            return
        for job in ready:
            assert job.digest is not None
            world.remember(world.memory.with_attempt(job.digest))
            answer = findings if job.spec.preflight and not perl_is_there else make_result
            world.answer(job.digest, Succeeded(answer(job.spec)))
    raise AssertionError("it does not end")


class TestLooks:
    """What Preflight saw is kept for the next run."""

    def test_findings_end_a_run(self) -> None:
        """One look a run: nothing is asked again and again."""
        world = make_world()
        run(world, perl_is_there=False)
        assert not world.complete
        assert world.stuck() == ["PreflightFailed: perl: no such object"]
        assert len(world.memory.looks) == 1

    def test_the_next_run_looks_again(self) -> None:
        """At what was missing only, and then goes on."""
        world = make_world()
        run(world, perl_is_there=False)
        after = make_world(world.memory)
        first = world.memory.looks[0]
        after.answer(trial_digest(first), Succeeded(findings(first)))
        run(after)
        assert after.complete
        assert [i.name for i in after.memory.looks[1].preflight.inputs if after.memory.looks[1].preflight] == ["perl"]  # type: ignore[union-attr]

    def test_a_look_that_was_interrupted(self) -> None:
        """Is taken once, not twice."""
        interrupted = make_world()
        look(interrupted)
        after = make_world(interrupted.memory)
        run(after, perl_is_there=False)
        assert len(after.memory.looks) == 1


class TestLimits:
    """The experiment's own."""

    def test_budget(self) -> None:
        """Nothing starts any more while tokens are left to train, and the message says what to do."""
        world = make_world(budget={"tokens": "1000"})
        run(world, until=TrialType.TRAIN)
        first = next(job for job in world.ready() if job.tokens)
        assert first.digest is not None
        world.remember(world.memory.with_attempt(first.digest))
        world.answer(first.digest, Succeeded(make_result(first.spec)))
        stop = world.stop()
        assert stop is not None
        assert stop.reason == "BudgetExhausted"
        assert "raise it and run again" in world.stuck()[0]

    def test_a_decision_takes_no_tokens(self) -> None:
        """It is made whatever the budget."""
        world = make_world(budget={"tokens": "1000"})
        run(world, until=TrialType.DECIDE)
        assert world.stop() is None

    def test_gpu_hours(self) -> None:
        """Of the attempts that committed."""
        world = make_world(budget={"gpuHours": "0.5"})
        run(world, until=TrialType.DECIDE)
        assert world.stop() is None
        trained = next(job for job in world.jobs if job.spec.train)
        assert trained.digest is not None
        slow = make_result(trained.spec).model_copy(update={"gpu_seconds": 1800.0})
        world.answer(trained.digest, Succeeded(slow))
        stop = world.stop()
        assert stop is not None
        assert stop.message == "0.5 GPU-hours are used, budget.gpuHours is 0.5: raise it and run again"

    def test_equal_trials_of_others_cost_nothing(self) -> None:
        """Only what runs for this experiment have started is counted against the budget."""
        first = make_world()
        run(first)
        other = make_world(budget={"tokens": "1000"})
        look(other)
        for job in first.jobs:
            assert job.digest is not None
            other.answer(job.digest, first.outcomes[job.digest])
        assert other.tokens_trained == 0
        assert other.tokens_reused == first.tokens_trained > 0
        assert other.stop() is None

    def test_failures(self) -> None:
        """onTrialFailure: Stop."""
        world = make_world(scheduling={"onTrialFailure": "Stop"})
        run(world, until=TrialType.PREPARE)
        job = next(job for job in world.ready() if job.spec.prepare)
        assert job.digest is not None
        world.answer(job.digest, Failed("DataError", "no text"))
        stop = world.stop()
        assert stop is not None
        assert stop.reason == "TooManyFailures"


def test_a_base_that_diverged() -> None:
    """Nothing can start from it, and the run says so."""
    train = {
        "start": {"random": {"config": {"uri": "s3://cpt/base", "digest": "ab" * 32}}},
        "phases": [{"mixture": [{"dataset": {"digest": "cd" * 32}, "weight": "1"}]}],
        "schedule": {"peakLearningRate": "1"},
        "stopTokens": "1024",
        "sequenceLength": 64,
        "globalBatchSize": 8,
    }
    base = Document("base", "default", CPTTrialSpec.model_validate({"type": "Train", "train": train}))
    experiment = Document("sweep", "default", make_experiment(model={"trialName": "base"}))
    world = World(Manifests((experiment,), (base,)), Memory())
    (job,) = world.ready()
    assert job.digest is not None
    world.answer(job.digest, Succeeded(outcome_diverged(job.spec)))
    assert list(world.ready()) == []
    assert not world.complete
    assert world.stuck() == ["Train base: Diverged: take a lower learning rate"]
