"""An experiment of thousands of trials in the middle of its work, as an operator meets it that was started anew.

190 datasets x 4 rates x 3 rungs, screening, durations      5,564 trials
in the middle of the last rung's arms                       4,788 trials: 4,022 have ended, 8 run, the others wait
"""

from __future__ import annotations

import json
from typing import Any

from cpt_api.conditions import ConditionType
from cpt_api.experiment import CPTExperimentSpec
from cpt_api.layout import result_key
from cpt_api.trial import CPTTrialSpec
from cpt_operator import rfc3339
from cpt_operator.children import expanded, manifest
from cpt_operator.kinds import Kind
from cpt_operator.plan import Outcome, PlannedTrial, Succeeded
from make import make_decision, make_experiment, make_result
from planned import CONTEXT
from planned import World as Planning
from world import NAMESPACE, START, World

RATES = ("1e-5", "3e-5", "1e-4", "3e-4")
RUNNING = 8
_TRIALS_MAX = 10_000


def crowded_experiment(datasets: int) -> CPTExperimentSpec:
    """Three rungs, screening, durations."""
    return make_experiment(
        datasets=[{"name": f"d{number}", "uri": f"s3://cpt/sources/d{number}"} for number in range(datasets)],
        recipe={
            "learningRateSweep": {"learningRates": list(RATES), "rungs": ["10240", "20480", "40960"]},
            "screening": {},
            "durationSweep": {"durations": ["81920", "163840"]},
        },
    )


def nothing_drops(spec: CPTTrialSpec) -> Outcome:
    """No rate leaves the race: the most trials that a recipe can have."""
    if spec.decide is None or not (decision := make_decision(spec.decide)).rates:
        return Succeeded(make_result(spec))
    staying = [
        choice.model_copy(update={"survivors": tuple(arm.learning_rate for arm in choice.arms)})
        for choice in decision.rates
    ]
    return Succeeded(make_result(spec, decision=decision.model_copy(update={"rates": tuple(staying)})))


def crowded(datasets: int) -> World:
    """A world in which half of what could run in the last rung has ended, and some is at work."""
    spec = crowded_experiment(datasets)
    planning = Planning(spec, answer=nothing_drops)
    assert spec.recipe.learning_rate_sweep
    assert spec.recipe.learning_rate_sweep.rungs
    last = spec.recipe.learning_rate_sweep.rungs[-1]
    while not any(trial.spec.train and trial.spec.train.stop_tokens == last for trial in planning.plan().trials):
        planning.step()
    planning.step(lambda ready: ready // 2)
    world = World(caps={"trialsPerExperiment": _TRIALS_MAX})
    record = world.add(Kind.EXPERIMENT, "sweep", spec.to_dict(), uid=CONTEXT.experiment_uid)
    expansion = expanded(record, planning.plan())
    waiting = 0
    for order, (name, trial) in enumerate(expansion.planned.items()):
        outcome = planning.outcomes.get(trial.digest)
        waiting += outcome is None
        body = manifest(record, trial, order, expansion.runs[name])
        status = _status(trial, has_ended=outcome is not None, runs=outcome is None and waiting <= RUNNING)
        world.put(Kind.TRIAL, body | {"status": status})
        if isinstance(outcome, Succeeded):
            world.s3.objects[result_key(NAMESPACE, trial.digest)] = json.dumps(outcome.result.to_dict()).encode()
    return world


def _status(trial: PlannedTrial, *, has_ended: bool, runs: bool) -> dict[str, Any]:
    """As the operator writes it."""
    now = rfc3339.text(START)
    reason = "Completed" if has_ended else "Running" if runs else "WaitingForInput"
    status: dict[str, Any] = {
        "observedGeneration": 1,
        "digest": trial.digest,
        "conditions": [
            {
                "type": ConditionType.SUCCEEDED,
                "status": "True" if has_ended else "Unknown",
                "reason": reason,
                "message": "waits for what it reads" if reason == "WaitingForInput" else reason,
                "lastTransitionTime": now,
                "observedGeneration": 1,
            }
        ],
    }
    if not has_ended and not runs:
        return status | {"attempts": {"total": 0, "fruitless": 0, "disruptions": 0, "gpuSeconds": 0, "last": []}}
    attempt = {"number": 1, "jobUid": f"job-{trial.digest.short}", "startTime": now, "runningTime": now}
    ended = {"completionTime": now, "cause": "Completed", "exitCode": 0, "gpuSeconds": 60} if has_ended else {}
    totals = {"total": 1, "fruitless": 0, "disruptions": 0, "gpuSeconds": 60, "last": [attempt | ended]}
    trained = {"tokens": str(trial.tokens)} if trial.tokens and has_ended else {}
    scores = [{"suite": "linux", "score": "1.5000", "stderr": "0.0100"}] if has_ended and trial.tokens else []
    return status | trained | {"attempts": totals, "startTime": now, "gpuSeconds": 60, "scores": scores}
