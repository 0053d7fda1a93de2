"""An experiment of thousands of trials costs an operator little while nothing happens to it."""

from __future__ import annotations

import time

from cpt_api.conditions import Reason
from cpt_operator.experiments import reconcile_experiment
from cpt_operator.kinds import Key, Kind
from crowd import crowded, crowded_experiment, nothing_drops
from planned import World
from world import NAMESPACE

SWEEP = Key(Kind.EXPERIMENT, NAMESPACE, "sweep")


async def test_a_turn_with_nothing_new() -> None:
    """It reads and writes nothing and walks over no trial; the goal for 5,000 trials is 20 ms (benchmarks/plan)."""
    world = crowded(40)
    runtime = world.operators[0].runtime
    await reconcile_experiment(runtime, SWEEP)
    condition = world.condition(Kind.EXPERIMENT, "sweep")
    assert condition is not None
    assert condition[1] == Reason.RUNNING
    family, reads, writes = runtime.memory._work[SWEEP].family, world.s3.gets, len(world.writes)
    seconds = []
    for _ in range(5):
        began = time.process_time()
        await reconcile_experiment(runtime, SWEEP)
        seconds.append(time.process_time() - began)
    assert (runtime.memory._work[SWEEP].family, world.s3.gets, len(world.writes)) == (family, reads, writes)
    trials = len(world.store.trials(NAMESPACE))
    assert trials > 1000
    assert min(seconds) < 0.02 * trials / 1000  # five times the goal: other tests run beside this one


async def test_one_trial_that_changes_is_seen() -> None:
    """What is kept between turns is that of the trials as they are."""
    world = crowded(3)
    runtime = world.operators[0].runtime
    await reconcile_experiment(runtime, SWEEP)
    before = world.objects[SWEEP]["status"]["trials"]
    trial = next(t for t in world.store.trials(NAMESPACE) if t.standing.is_at_work)
    body = world.objects[trial.key]
    failed = body["status"]["conditions"][0] | {"status": "False", "reason": "ConfigError"}
    world.put(Kind.TRIAL, body | {"status": body["status"] | {"conditions": [failed]}})
    await reconcile_experiment(runtime, SWEEP)
    after = world.objects[SWEEP]["status"]["trials"]
    assert (after["running"], after["failed"]) == (before["running"] - 1, before["failed"] + 1)


def test_the_next_plan_is_what_it_would_be_without_the_last() -> None:
    """Segments are taken over from turn to turn; no trial, title or order depends on that."""
    kept, fresh = (World(crowded_experiment(4), answer=nothing_drops) for _ in range(2))
    while kept.step():
        fresh.earlier = type(fresh.earlier)()
        fresh.step()
        assert kept.plan() == fresh.plan()


def test_another_manifest_takes_nothing_over() -> None:
    """What was kept of the one is of no use for the other: another schedule, another digest."""
    world, other = World(crowded_experiment(2)), World(crowded_experiment(2))
    world.run()
    other.spec = world.spec.model_copy(update={"training": world.spec.training.model_copy(update={"seed": 7})})
    want = {trial.digest for trial in other.run().trials}
    world.spec = other.spec
    assert {trial.digest for trial in world.run().trials} == want
