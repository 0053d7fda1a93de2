"""Whatever happens to the operator's process, nothing is made twice, nothing is lost, and the result is the same."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from cluster.harness import Lab, OperatorProcess, Team, kubelet
from cpt_operator.kinds import Kind
from cpt_operator.standing import reason_of
from make import make_experiment

KILLS = 20


async def completed_once(team: Team, name: str = "sweep", trials: int = 24) -> None:
    """As in an undisturbed run."""
    status = await team.status(name)
    assert {d["name"]: d["bestLearningRate"] for d in status["datasets"]} == {"python": "1e-4", "perl": "1e-4"}
    records = await team.trials(name)
    assert (len(records), {reason_of(trial.status) for trial in records}) == (trials, {"Completed"})
    assert {trial.status["attempts"]["total"] for trial in records} == {1}
    assert {*team.made(Kind.JOB).values(), *team.made(Kind.TRIAL).values()} == {1}


async def test_killed_at_20_moments(lab: Lab, team: Team) -> None:
    """`kill -9`, and Kubernetes starts it again."""
    moments = random.Random(7)
    with lab.operator(team.namespace) as process:
        async with kubelet(team):
            await team.apply("sweep", make_experiment(scheduling={"parallelTrials": 1}))
            for _ in range(KILLS):
                await working(process)
                await asyncio.sleep(moments.uniform(0, 1))  # the moment is what is tested
                process.kill()
                process.start()
            await team.until_reason("Completed")
    await completed_once(team)


async def working(process: OperatorProcess) -> None:
    """Until this start of the process has a turn behind it."""
    turns = "controller_runtime_reconcile_total"
    while True:
        try:
            if await asyncio.to_thread(process.metric, turns) > 0:
                return
        except OSError:
            pass
        await asyncio.sleep(0.05)


async def test_two_replicas_in_turn(lab: Lab, team: Team) -> None:
    """The leader is killed, the standby takes over; asked to end, it hands over at once."""
    one, other = (lab.operator(team.namespace, replica=name, lease_seconds=5) for name in ("replica-a", "replica-b"))
    with one, other:
        async with kubelet(team):
            await team.apply("sweep", make_experiment())
            for ends in (OperatorProcess.kill, OperatorProcess.terminate, OperatorProcess.kill):
                leader = await leading(one, other)
                await working(leader)
                await asyncio.to_thread(ends, leader)
                await leading(other if leader is one else one)
                leader.start()
            await team.until_reason("Completed", "sweep", 60, one, other)
    await completed_once(team)


async def leading(*processes: OperatorProcess) -> OperatorProcess:
    """The one that holds the Lease."""
    while True:
        for process in processes:
            try:
                if await asyncio.to_thread(process.metric, "leader_election_master_status") == 1:
                    return process
            except OSError:
                continue
        await asyncio.sleep(0.05)


async def test_two_leaders_at_once(lab: Lab, team: Team) -> None:
    """As after a forced Lease: both work at everything, and do no harm."""
    with lab.operator(team.namespace), lab.operator(team.namespace, lease=1):
        async with kubelet(team):
            await team.apply("sweep", make_experiment())
            await team.until_reason("Completed")
    await completed_once(team)


async def test_a_stolen_lease_ends_the_process(lab: Lab, team: Team) -> None:
    """Who finds another holder's name stops working at once, and stands by when it is started again."""
    with lab.operator(team.namespace, replica="robbed", lease_seconds=5) as process:
        await leading(process)
        path = f"/apis/coordination.k8s.io/v1/namespaces/cpt-system/leases/{lab.leases[0]}"
        steal: Any = {"op": "add", "path": "/spec/holderIdentity", "value": "thief"}
        await team.api.request("patch", path, body=[steal])

        async def ended() -> bool:
            return process.ended() == 1

        await team.until(ended)
        assert "thief has taken Lease" in process.log.read_text()


async def test_asked_to_end(lab: Lab, team: Team) -> None:
    """SIGTERM: exit code 0, and the Lease is free."""
    with lab.operator(team.namespace) as process:
        await leading(process)
        assert await asyncio.to_thread(process.terminate) == 0
    path = f"/apis/coordination.k8s.io/v1/namespaces/cpt-system/leases/{lab.leases[0]}"
    assert (await team.api.request("get", path))["spec"]["holderIdentity"] == ""
