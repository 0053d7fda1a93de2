"""One experiment from `kubectl apply` to its choice, on a real API server, under the chart's rights."""

from __future__ import annotations

from collections import Counter

from cpt_operator.kinds import Kind
from cpt_operator.status import reason_of
from cluster.harness import Lab, Team, kubelet
from make import make_experiment


async def test_from_apply_to_its_choice(lab: Lab, team: Team) -> None:
    """It ends with a rate per dataset; every trial and job is made once."""
    with lab.operator(team.namespace):
        async with kubelet(team) as node:
            await team.apply("sweep", make_experiment())
            await team.until_reason("Completed", seconds=90)
    status = await team.status()
    assert {d["name"]: d["bestLearningRate"] for d in status["datasets"]} == {"python": "1e-4", "perl": "1e-4"}
    trials = await team.trials("sweep")
    assert len(trials) == 23
    assert {reason_of(trial.status) for trial in trials} == {"Completed"}
    assert {trial.status["attempts"]["total"] for trial in trials} == {1}
    assert max(Counter(node.seen.values()).values()) == 1
    assert len(node.seen) == len(await team.bodies(Kind.JOB)) == 23
