"""Queues of the real Kueue: why a trial waits, preemption, deactivation, deadlines, and what is left behind."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from chart import rendered
from cluster.conftest import install, pytorchjob_crd
from cluster.controlplane import control_plane
from cluster.harness import TINY, Lab, OperatorProcess, Team, commits
from cluster.queueing import QUEUE, URGENT, make_queue, pods_run, running_kueue, training_operator, workload_of
from cluster.seaweed import seaweed
from cluster.test_plugin import cpt
from cpt_api.result import Result
from cpt_api.trial import TrialDocument
from cpt_local import programs
from cpt_operator.kinds import Kind
from make import make_experiment

pytestmark = pytest.mark.slow  # Kueue takes minutes to build

KUEUE = "kueue.enabled=true"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def queues(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A control plane of its own: elsewhere Kueue's webhooks would see every job of the other tests."""
    folder = tmp_path_factory.mktemp("queues")
    binaries = programs.folder("kubernetes")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", f"{programs.folder('helm')}:{os.environ['PATH']}")
        with control_plane(binaries, folder) as plane, seaweed(folder) as store:
            token = asyncio.run(install(plane, pytorchjob_crd(), values=[KUEUE]))
            with training_operator(plane, folder / "training-operator"), running_kueue(plane, folder / "kueue"):
                yield Lab(plane, store, folder, token)


@pytest.fixture
async def team(queues: Lab) -> AsyncIterator[Team]:
    """A namespace of the test's own, with a queue for one CPU."""
    async with Team(queues, f"queue-{next(_numbers)}") as team:
        await make_queue(team)
        yield team


def operator(team: Team, **changes: Any) -> OperatorProcess:
    """With the chart's settings."""
    chart = rendered("--set", KUEUE)
    allowed = {"priorityClasses": [URGENT]}
    return team.lab.operator(team.namespace, kueue=chart.config["kueue"], allowed=allowed, **changes)


def look(name: str, queue: str = QUEUE, **run: Any) -> dict[str, Any]:
    """A trial of a CPU; trials of other names do other work."""
    inputs = [{"name": name, "kind": "Dataset", "uri": f"s3://cpt/{name}"}]
    return {
        "type": "Preflight",
        "preflight": {"inputs": inputs},
        "run": {"queueName": queue, "resources": {"cpu": "1"}} | run,
    }


class Holding:
    """A commit function: trials end when they may."""

    def __init__(self) -> None:
        self.may_end: set[str] = set()

    def __call__(self, document: TrialDocument) -> Result | None:
        return commits(document) if document.name in self.may_end else None


async def until_reason(team: Team, trial: str, *reasons: str, type_: str = "Succeeded", seconds: float = 60) -> str:
    """The message, when the trial's condition has one of these reasons."""
    found: dict[str, Any] = {}

    async def has() -> bool:
        found.update(await team.condition(Kind.TRIAL, trial, type_))
        return found.get("reason") in reasons

    await team.until(has, seconds)
    return str(found["message"])


async def until_message(team: Team, trial: str, words: str, reason: str = "Queued") -> str:
    """The message, when it has those words."""
    found: dict[str, Any] = {}

    async def has() -> bool:
        found.update(await team.condition(Kind.TRIAL, trial, "Succeeded"))
        return found.get("reason") == reason and words in found.get("message", "")

    await team.until(has)
    return str(found["message"])


async def until_gone(team: Team, kind: Kind) -> None:
    """No object of that kind is left."""

    async def gone() -> bool:
        return not await team.bodies(kind)

    await team.until(gone)


async def test_a_quota_that_is_used_up(team: Team) -> None:
    """The second trial says in Kueue's words why it waits, and starts when the first has ended."""
    holding = Holding()
    with operator(team):
        async with pods_run(team, holding):
            await team.create(Kind.TRIAL, "first", look("first"))
            await until_reason(team, "first", "Running")
            await team.create(Kind.TRIAL, "second", look("second"))
            message = await until_message(team, "second", "insufficient unused quota for cpu")
            assert message.startswith("Kueue: couldn't assign flavors to pod set")
            assert "Stalled" not in {c["type"] for c in (await _status(team, "second"))["conditions"]}
            holding.may_end.add("first")
            await until_reason(team, "second", "Running")
            holding.may_end.add("second")
            await until_reason(team, "second", "Completed")
    assert team.made(Kind.JOB) == {"first-1": 1, "second-1": 1}


async def test_preemption(team: Team) -> None:
    """A more urgent trial takes the place. The attempt goes on afterwards: the same job, nothing is counted."""
    holding = Holding()
    with operator(team):
        async with pods_run(team, holding) as node:
            await team.create(Kind.TRIAL, "patient", look("patient"))
            await until_reason(team, "patient", "Running")
            job = await team.get(Kind.JOB, "patient-1")
            node.lingers = True
            await team.create(Kind.TRIAL, "urgent", look("urgent", priorityClassName=URGENT))
            message = await until_reason(team, "patient", "Queued")
            assert "patient-1-master-0" in node.ended

            async def ended_pod_was_seen() -> bool:
                pods = await team.bodies(Kind.POD)
                return any(p["status"]["phase"] == "Failed" for p in pods) and bool(await _is_queued(team, "patient"))

            await team.until(ended_pod_was_seen)
            node.lingers = False
            await until_reason(team, "urgent", "Running")
            holding.may_end.add("urgent")
            await until_reason(team, "urgent", "Completed")
            await until_reason(team, "patient", "Running")
            holding.may_end.add("patient")
            await until_reason(team, "patient", "Completed")
    after = await team.get(Kind.JOB, "patient-1")
    assert job
    assert after
    assert job["metadata"]["uid"] == after["metadata"]["uid"]
    attempts = (await _status(team, "patient"))["attempts"]
    assert attempts["total"] == 1
    assert attempts.get("fruitless", 0) == attempts.get("disruptions", 0) == 0
    assert team.made(Kind.JOB) == {"patient-1": 1, "urgent-1": 1}
    assert message


async def test_a_queue_that_does_not_exist(team: Team) -> None:
    """The trial names it, and goes on when somebody makes it."""
    with operator(team):
        async with pods_run(team):
            await team.create(Kind.TRIAL, "lost", look("lost", "nowhere"))
            await until_message(team, "lost", "LocalQueue nowhere doesn't exist")
            await make_queue(team, "nowhere")
            await until_reason(team, "lost", "Completed")


async def test_deactivated_and_retried(team: Team) -> None:
    """Nothing goes on until somebody acts: the message says how, and it works."""
    holding = Holding()
    with operator(team):
        async with pods_run(team, holding):
            await team.create(Kind.TRIAL, "off", look("off"))
            await until_reason(team, "off", "Running")
            await _activate(team, "off-1", active=False)
            message = await until_reason(team, "off", "QueueDeactivated", type_="Stalled")
            assert "`kubectl cpt retry off`" in message
            said = await cpt(team, "retry", "off")
            assert (said.code, said.err) == (0, "")
            holding.may_end.add("off")
            await until_reason(team, "off", "Completed")
    assert (await _status(team, "off"))["attempts"]["total"] == 1
    await team.delete(Kind.TRIAL, "off")
    await until_gone(team, Kind.WORKLOAD)


async def test_deactivated_and_activated(team: Team) -> None:
    """The attempt goes on."""
    holding = Holding()
    with operator(team):
        async with pods_run(team, holding):
            await team.create(Kind.TRIAL, "off", look("off"))
            await until_reason(team, "off", "Running")
            await _activate(team, "off-1", active=False)
            await until_reason(team, "off", "QueueDeactivated", type_="Stalled")
            await _activate(team, "off-1", active=True)
            await until_reason(team, "off", "Running")
            holding.may_end.add("off")
            await until_reason(team, "off", "Completed")
    assert (await _status(team, "off"))["attempts"]["total"] == 1


async def test_admitted_again_too_soon(team: Team) -> None:
    """Its former pods have not gone: the training-operator takes their end for the job's. The next attempt is free."""
    holding = Holding()
    with operator(team):
        async with pods_run(team, holding) as node:
            await team.create(Kind.TRIAL, "off", look("off"))
            await until_reason(team, "off", "Running")
            node.lingers = True
            await _activate(team, "off-1", active=False)
            await until_reason(team, "off", "QueueDeactivated", type_="Stalled")
            await _activate(team, "off-1", active=True)

            async def again() -> bool:
                return await team.get(Kind.JOB, "off-2") is not None

            await team.until(again)
            node.lingers = False
            holding.may_end.add("off")
            await until_reason(team, "off", "Completed")
    attempts = (await _status(team, "off"))["attempts"]
    assert (attempts["total"], attempts.get("fruitless", 0)) == (2, 0)
    assert attempts["last"][0]["cause"] == "Terminated"


async def test_kueue_counts_the_time(team: Team) -> None:
    """An attempt that Kueue ends for its time is one whose deadline is over: it is counted, and the next one begins."""
    with operator(team):
        async with pods_run(team, lambda document: commits(document) if document.attempt == 2 else None):
            await team.create(Kind.TRIAL, "slow", look("slow", activeDeadlineSeconds=4))
            await until_reason(team, "slow", "Completed", seconds=90)
    (first, _) = (await _status(team, "slow"))["attempts"]["last"]
    assert first["cause"] == "DeadlineExceeded"


IN_QUEUE: dict[str, Any] = TINY | {
    "scheduling": {"queueName": QUEUE, "cpuQueueName": QUEUE},
    "resources": {"cpu": "1"},
}


async def test_an_experiment_in_a_queue(team: Team) -> None:
    """It says in Kueue's words what it waits for, and all its trials go through; deleted, it leaves no Workload.

    Small trials, such as Preflight, ask for no CPU and pass; Evaluate waits for another's.
    """
    with operator(team):
        async with pods_run(team, lambda document: None if document.name == "other" else commits(document)) as node:
            await team.create(Kind.TRIAL, "other", look("other"))
            await until_reason(team, "other", "Running")
            await team.apply("sweep", make_experiment(**IN_QUEUE))

            async def told() -> bool:
                ready = await team.condition(Kind.EXPERIMENT, "sweep", "Ready")
                return ready.get("reason") == "Queued" and "insufficient unused quota" in ready["message"]

            await team.until(told)
            node.commit = commits
            await team.until_reason("Completed", seconds=120)
            assert {body["spec"]["queueName"] for body in await team.bodies(Kind.WORKLOAD)} == {QUEUE}
            await team.delete(Kind.EXPERIMENT, "sweep")
            await team.delete(Kind.TRIAL, "other")
            await until_gone(team, Kind.WORKLOAD)
    assert set(team.made(Kind.JOB).values()) == {1}


async def test_an_experiment_that_kueue_has_given_up(team: Team) -> None:
    """It is stalled as its trial is, and `retry` takes it up."""
    holding = Holding()
    with operator(team):
        async with pods_run(team, holding) as node:
            await team.apply("sweep", make_experiment(**IN_QUEUE))

            async def at_work() -> bool:
                return any(job.name.endswith("-1") for job in await team.jobs()) and bool(await team.bodies(Kind.POD))

            await team.until(at_work)
            (job,) = await team.jobs()
            await _activate(team, job.name, active=False)
            await team.until_reason("QueueDeactivated")
            stalled = await team.condition(Kind.EXPERIMENT, "sweep", "Stalled")
            assert stalled["status"] == "True"
            assert "`kubectl cpt retry " in stalled["message"]
            assert (await cpt(team, "retry", "sweep")).code == 0
            node.commit = commits
            await team.until_reason("Completed", seconds=120)


async def test_more_than_the_queue_ever_has(team: Team) -> None:
    """Two CPUs of a queue of one: Kueue's words say that waiting will not help."""
    with operator(team):
        await team.create(Kind.TRIAL, "wide", look("wide", resources={"cpu": "2"}))
        await until_message(team, "wide", "maximum capacity")


async def test_without_the_right_to_look(team: Team) -> None:
    """The chart's default: the trial waits and goes on, and says only that its queue has not admitted it."""
    with team.lab.operator(team.namespace):
        async with pods_run(team):
            await team.create(Kind.TRIAL, "lost", look("lost", "nowhere"))
            await until_message(team, "lost", "the queue has not admitted the attempt yet")
            await make_queue(team, "nowhere")
            await until_reason(team, "lost", "Completed")


def test_rights(queues: Lab) -> None:
    """No call was forbidden, and Workloads were listed and watched: not more than the chart grants."""
    calls = queues.plane.audit(user="cpt-operator")
    assert [event["requestURI"] for event in calls if event["responseStatus"]["code"] == 403] == []
    places = [(event["objectRef"]["resource"], event["verb"]) for event in calls if "objectRef" in event]
    assert {verb for resource, verb in places if resource == Kind.WORKLOAD.plural} == {"list", "watch"}


async def _status(team: Team, trial: str) -> dict[str, Any]:
    status: dict[str, Any] = (await team.get(Kind.TRIAL, trial) or {})["status"]
    return status


async def _is_queued(team: Team, trial: str) -> bool:
    return (await team.condition(Kind.TRIAL, trial, "Succeeded")).get("reason") == "Queued"


async def _activate(team: Team, job: str, *, active: bool) -> None:
    name = (await workload_of(team, job))["metadata"]["name"]
    await team.patch(Kind.WORKLOAD, name, {"op": "add", "path": "/spec/active", "value": active})
