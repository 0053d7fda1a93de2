"""One trial from its creation to its end, on a cluster in memory."""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest

from cpt_api.conditions import Reason
from cpt_api.layout import result_key
from cpt_operator import rfc3339, verdicts
from cpt_operator.cluster import EventRecord, Forbidden
from cpt_operator.kinds import Key, Kind
from cpt_operator.records import JobRecord
from make import make_digest
from world import NAMESPACE, World, works

LOOK: dict[str, Any] = {
    "type": "Preflight",
    "preflight": {"inputs": [{"name": "corpus", "kind": "Dataset", "uri": "s3://cpt/sources/corpus.jsonl"}]},
}


def make_world(**settings: Any) -> World:
    """With one trial, `look`, that has no inputs of its own."""
    world = World(**settings)
    world.add(Kind.TRIAL, "look", LOOK)
    return world


async def running(**settings: Any) -> tuple[World, JobRecord]:
    """A world in which the first attempt of `look` runs."""
    world = make_world(**settings)
    await world.settle()
    job = world.jobs()[0]
    world.start_pods(job)
    await world.settle()
    return world, job


def succeeded(world: World, name: str = "look") -> tuple[str, str]:
    condition = world.condition(Kind.TRIAL, name)
    assert condition is not None
    return condition[:2]


def message(world: World, name: str = "look") -> str:
    condition = world.condition(Kind.TRIAL, name)
    assert condition is not None
    return condition[2]


def last(world: World, name: str = "look") -> Any:
    return world.trial(name).attempts.last[-1]


def hold(world: World) -> None:
    """A queue suspends the first attempt of `look`."""
    world.change(Kind.JOB, "look-1", lambda spec: spec["runPolicy"].update(suspend=True))


def say(world: World, words: str, *, active: bool = True) -> None:
    """Kueue says that of the attempt."""
    owner = {"kind": "PyTorchJob", "name": "look-1", "uid": world.jobs()[0].uid, "controller": True}
    condition = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": words}
    body = {
        "metadata": {"namespace": NAMESPACE, "name": "pytorchjob-look-1", "ownerReferences": [owner]},
        "spec": {"active": active},
        "status": {"conditions": [condition]},
    }
    world.put(Kind.WORKLOAD, body)


def status_writes(world: World) -> int:
    return sum(verb == "status" and key.kind is Kind.TRIAL for verb, key in world.writes)


class TestLife:
    """Design 1: "gather, next action, status"."""

    async def test_a_trial_that_goes_well(self) -> None:
        """It starts, runs, and is completed with what its result says."""
        world, job = await running()
        assert succeeded(world) == ("Unknown", "Running")
        world.commit(job)
        world.finish(job, 0)
        await world.settle()
        assert succeeded(world) == ("True", "Completed")
        status = world.trial("look")
        assert (status.attempts.total, last(world).cause, last(world).exit_code) == (1, "Completed", 0)
        assert last(world).job_uid == job.uid
        assert status.result_digest is not None
        assert status.completion_time is not None

    async def test_it_costs_three_status_writes(self) -> None:
        """Starting, Running, Completed: nothing is written twice."""
        world, job = await running()
        world.commit(job)
        world.finish(job, 0)
        await world.settle(300)
        assert status_writes(world) == 3

    async def test_the_attempt_is_recorded_before_its_job_exists(self) -> None:
        """So that no number is used twice, wherever the operator dies."""
        world = make_world()
        await world.settle()
        verbs = [(verb, key.kind) for verb, key in world.writes]
        assert verbs == [("status", Kind.TRIAL), ("create", Kind.JOB)]

    async def test_a_job_that_was_not_created_is_created(self) -> None:
        """The operator died between the record and the job; the next one goes on with the same number."""
        world = make_world()
        await world.settle()
        world.remove(world.jobs()[0].key)
        await world.settle()
        assert [job.name for job in world.jobs()] == ["look-1"]
        assert world.trial("look").attempts.total == 1

    async def test_the_job_of_a_predecessor_is_waited_for(self) -> None:
        """A trial of the same name was deleted a moment ago: the garbage collector has not come yet."""
        world = World()
        owner = {"kind": "CPTTrial", "name": "look", "uid": "uid-before", "controller": True}
        job = world.add(Kind.JOB, "look-1", {}, ownerReferences=[owner], labels={"cpt.dev/trial": "look"})
        world.add(Kind.TRIAL, "look", LOOK)
        await world.settle(10)
        assert succeeded(world) == ("Unknown", "Starting")
        world.remove(job.key)
        await world.settle(10)
        assert [job.owner_uid for job in world.jobs()] == [world.store.trial(NAMESPACE, "look").uid]  # type: ignore[union-attr]
        assert world.trial("look").attempts.total == 1

    async def test_a_stranger_has_the_name_of_its_job(self) -> None:
        """Somebody must look after it."""
        world = World()
        world.add(Kind.JOB, "look-1", {}, labels={"cpt.dev/trial": "look"})
        world.add(Kind.TRIAL, "look", LOOK)
        await world.settle(10)
        assert succeeded(world) == ("Unknown", "NameTaken")

    async def test_an_invalid_spec_stalls(self) -> None:
        """The message says where."""
        world = World()
        world.add(Kind.TRIAL, "bad", {"type": "Train"})
        await world.settle()
        stalled = world.condition(Kind.TRIAL, "bad", "Stalled")
        assert stalled is not None
        assert stalled[:2] == ("True", "Invalid")

    async def test_what_is_not_allowed_gets_no_pod(self) -> None:
        """The allow-list is the administrator's."""
        world = World()
        world.add(Kind.TRIAL, "look", LOOK | {"run": {"resources": {"serviceAccountName": "admin"}}})
        await world.settle()
        assert succeeded(world) == ("Unknown", "NotAllowed")
        assert world.jobs() == []

    async def test_a_trial_of_an_experiment_that_is_gone_gets_nothing(self) -> None:
        """Its owner was deleted; the garbage collector will come for it."""
        world = World()
        owner = {"kind": "CPTExperiment", "name": "gone", "uid": "uid-gone", "controller": True}
        world.add(Kind.TRIAL, "look", LOOK, ownerReferences=[owner])
        await world.settle()
        assert world.writes == []

    async def test_a_trial_that_is_being_deleted_gets_nothing(self) -> None:
        """It has a deletionTimestamp."""
        world = World()
        world.add(Kind.TRIAL, "look", LOOK, deletionTimestamp="2026-11-24T12:00:00Z")
        await world.settle()
        assert world.writes == []

    async def test_an_unknown_protocol_is_refused(self) -> None:
        """Its digest means nothing to this operator."""
        world = World()
        world.add(Kind.TRIAL, "look", LOOK | {"protocol": 99})
        await world.settle()
        assert succeeded(world) == ("Unknown", "ProtocolUnsupported")


class TestReuse:
    """Design 2: "an equal trial in the namespace is reused"."""

    async def test_an_existing_result_is_taken(self) -> None:
        """No pod, no attempt, and who it came from."""
        world, job = await running()
        world.commit(job)
        world.finish(job, 0)
        await world.settle()
        world.add(Kind.TRIAL, "again", LOOK)
        await world.settle()
        assert succeeded(world, "again") == ("True", "Reused")
        status = world.trial("again")
        assert (status.attempts.total, status.reused_from) == (0, "look")
        assert len(world.jobs()) == 1

    async def test_a_deleted_trial_comes_back_as_reused(self) -> None:
        """The result is in the store still."""
        world, job = await running()
        world.commit(job)
        world.finish(job, 0)
        await world.settle()
        world.remove(Key(Kind.TRIAL, NAMESPACE, "look"))
        await world.settle()
        world.add(Kind.TRIAL, "look", LOOK)
        await world.settle()
        assert succeeded(world) == ("True", "Reused")

    async def test_equal_trials_run_once(self) -> None:
        """The older one has the attempt, the other waits and shares the result."""
        world = make_world()
        world.add(Kind.TRIAL, "twin", LOOK)
        await world.settle()
        assert [job.name for job in world.jobs()] == ["look-1"]
        assert succeeded(world, "twin") == ("Unknown", "WaitingForEqualTrial")
        world.start_pods(world.jobs()[0])
        world.commit(world.jobs()[0])
        world.finish(world.jobs()[0], 0)
        await world.settle()
        assert succeeded(world, "twin") == ("True", "Reused")
        assert len(world.jobs()) == 1

    async def test_a_suspended_holder_passes_on(self) -> None:
        """The oldest waiter goes on from its checkpoints."""
        world, job = await running()
        world.add(Kind.TRIAL, "twin", LOOK)
        world.change(Kind.TRIAL, "look", lambda spec: spec.update(run={"suspend": True}))
        await world.settle()
        for pod in world.store.pods_of(job.uid):
            world.remove(pod.key)
        await world.settle(70)
        assert succeeded(world) == ("Unknown", "Suspended")
        assert [job.name for job in world.jobs()] == ["twin-1"]

    async def test_a_result_that_is_not_believed_stalls(self) -> None:
        """Somebody must remove it; nothing is trained over it."""
        world = make_world()
        digest = world_digest(world)
        world.write(result_key(NAMESPACE, digest), {"protocol": 1, "digest": digest, "type": "Train"})
        await world.settle()
        assert succeeded(world) == ("Unknown", "ResultInvalid")
        assert world.jobs() == []


def world_digest(_: World) -> Any:
    from cpt_api.digest import trial_digest
    from cpt_api.trial import CPTTrialSpec

    return trial_digest(CPTTrialSpec.model_validate(LOOK))


class TestAttempts:
    """Design 6: an attempt ends, and what comes next."""

    async def test_the_result_counts_more_than_the_exit_code(self) -> None:
        """It was committed, whatever killed the process afterwards."""
        world, job = await running()
        world.commit(job)
        world.finish(job, 137)
        await world.settle()
        assert succeeded(world) == ("True", "Completed")
        assert last(world).cause == "Killed"

    async def test_a_counted_failure_is_retried_after_a_pause(self) -> None:
        """Ten seconds after the first one; its job stays for its logs."""
        world, job = await running()
        world.finish(job, 1, message="boom")
        await world.settle(5)
        assert succeeded(world) == ("Unknown", "Retrying")
        assert "exit 1: boom" in message(world)
        await world.settle(10)
        assert [job.name for job in world.jobs()] == ["look-1", "look-2"]
        assert ("look", "Exited", "attempt 1: exit 1: boom") in world.events

    async def test_a_disruption_is_retried_at_once(self) -> None:
        """And costs no retry."""
        world, job = await running()
        world.finish(job, 143, disruption="EvictionByEvictionAPI")
        await world.settle(3)
        assert [job.name for job in world.jobs()] == ["look-1", "look-2"]
        record = world.trial("look").attempts
        assert (record.fruitless, record.disruptions, record.last[0].cause) == (0, 1, "Disrupted")

    @pytest.mark.parametrize(("code", "reason"), [(3, "ConfigError"), (4, "DataError"), (6, "DoesNotFit")])
    async def test_a_permanent_failure_is_final(self, code: int, reason: str) -> None:
        """The trial fails at once and says why."""
        world, job = await running()
        world.finish(job, code, message='{"message": "the reason"}')
        await world.settle(400)
        assert succeeded(world) == ("False", reason)
        assert "the reason" in message(world)
        assert len(world.jobs()) == 1

    async def test_retries_end(self) -> None:
        """maxRetries 1: two attempts without progress."""
        world = World()
        world.add(Kind.TRIAL, "look", LOOK | {"run": {"maxRetries": 1}})
        for number in range(2):
            await world.settle(20)
            world.start_pods(world.jobs()[number])
            await world.settle()
            world.finish(world.jobs()[number], 211)
        await world.settle()
        assert succeeded(world) == ("False", "AttemptsExhausted")

    async def test_progress_starts_the_count_anew(self) -> None:
        """A new committed step, as progress.json tells."""
        world, job = await running()
        world.commit_step(job, 40)
        world.finish(job, 211)
        await world.settle()
        record = world.trial("look").attempts
        assert (record.fruitless, record.last[0].committed_step) == (0, 40)

    async def test_last_words_count_as_progress(self) -> None:
        """What was committed after progress.json was last written."""
        world, job = await running()
        world.commit_step(job, 40)
        world.finish(job, 143, message='{"reason": "Terminated", "message": "stopped", "committedStep": 47}')
        await world.settle(3)
        record = world.trial("look").attempts
        assert (record.disruptions, record.last[0].committed_step) == (0, 47)

    async def test_a_vanished_job_is_a_disruption(self) -> None:
        """Somebody deleted it while it ran; the next attempt waits until its pods have saved."""
        world, job = await running()
        world.remove(job.key)
        await world.settle(3)
        assert last(world).cause == "JobLost"
        assert world.jobs() == []
        for pod in world.store.pods_of(job.uid):
            world.remove(pod.key)
        await world.settle(3)
        assert [job.name for job in world.jobs()] == ["look-2"]

    async def test_a_deleted_pod_ends_the_attempt(self) -> None:
        """The training-operator would make it again: its job is deleted, and a new attempt begins."""
        world, job = await running()
        world.remove(world.store.pods_of(job.uid)[0].key)
        await world.settle(3)
        assert world.trial("look").attempts.last[0].cause == "PodLost"
        assert [job.name for job in world.jobs()] == ["look-2"]

    async def test_clocks_may_differ(self) -> None:
        """The API server's is ahead of ours: no pod seems to have been replaced."""
        world = make_world()
        await world.settle()
        job = world.jobs()[0]
        world.start_pods(job)
        ahead = {"creationTimestamp": rfc3339.text(world.now + timedelta(seconds=45))}
        world.pod(job, lambda body: body["metadata"].update(ahead))
        await world.settle(100)
        assert succeeded(world) == ("Unknown", "Running")
        assert world.trial("look").attempts.total == 1

    async def test_a_lost_node_is_not_waited_for(self) -> None:
        """Its pods never confirm; the next attempt avoids it."""
        world, job = await running()

        def lost(body: dict[str, Any]) -> None:
            body["metadata"]["deletionTimestamp"] = "2026-11-24T12:10:00Z"
            target = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}
            body["status"]["conditions"] = [target]

        world.pod(job, lost)
        await world.settle(3)
        first = world.trial("look").attempts.last[0]
        assert (first.cause, first.node, first.infrastructure_failure) == ("NodeLost", "node-1", True)
        assert [job.name for job in world.jobs()] == ["look-2"]
        spec = world.objects[world.jobs()[0].key]["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]
        assert "node-1" in str(spec["affinity"])

    async def test_exit_0_without_a_result_is_no_success(self) -> None:
        """A trial without result.json has not happened."""
        world, job = await running()
        world.finish(job, 0)
        await world.settle()
        assert succeeded(world) == ("Unknown", "Retrying")


class TestStop:
    """Suspend and cancel: SIGTERM, a checkpoint, then the pods are gone."""

    async def test_suspend_waits_for_the_checkpoint(self) -> None:
        """The job is deleted at once; the attempt ends when its pods have."""
        world, job = await running()
        world.commit_step(job, 40)
        world.change(Kind.TRIAL, "look", lambda spec: spec.update(run={"suspend": True}))
        await world.settle()
        assert world.jobs() == []
        assert last(world).completion_time is None
        for pod in world.store.pods_of(job.uid):
            world.remove(pod.key)
        await world.settle()
        assert succeeded(world) == ("Unknown", "Suspended")
        assert (last(world).cause, last(world).committed_step) == ("Suspended", 40)

    async def test_resume_goes_on(self) -> None:
        """With the next number."""
        world, job = await running()
        world.change(Kind.TRIAL, "look", lambda spec: spec.update(run={"suspend": True}))
        await world.settle()
        for pod in world.store.pods_of(job.uid):
            world.remove(pod.key)
        await world.settle()
        world.change(Kind.TRIAL, "look", lambda spec: spec.update(run={}))
        await world.settle()
        assert [job.name for job in world.jobs()] == ["look-2"]

    async def test_pods_that_do_not_end_are_not_waited_for_longer_than_their_grace(self) -> None:
        """Three minutes."""
        world, _ = await running()
        world.change(Kind.TRIAL, "look", lambda spec: spec.update(run={"suspend": True}))
        await world.settle(200)
        assert succeeded(world) == ("Unknown", "Suspended")

    async def test_cancel_is_final(self) -> None:
        """It ends without a result and is not stalled."""
        world, job = await running()
        world.change(Kind.TRIAL, "look", lambda spec: spec.update(run={"cancel": True}))
        await world.settle()
        for pod in world.store.pods_of(job.uid):
            world.remove(pod.key)
        await world.settle(400)
        assert succeeded(world) == ("False", "Cancelled")
        assert world.condition(Kind.TRIAL, "look", "Stalled") is None
        assert world.jobs() == []

    async def test_suspended_from_the_beginning(self) -> None:
        """It never gets an attempt."""
        world = World()
        world.add(Kind.TRIAL, "look", LOOK | {"run": {"suspend": True}})
        await world.settle()
        assert succeeded(world) == ("Unknown", "Suspended")
        assert world.jobs() == []


class TestCauses:
    """Design 6: "the cause text reaches conditions, events and `kubectl get` within 60 s"."""

    @pytest.mark.parametrize(
        ("waiting", "reason"),
        [
            ("ErrImagePull", Reason.IMAGE_PULL_FAILED),
            ("ImagePullBackOff", Reason.IMAGE_PULL_FAILED),
            ("CreateContainerConfigError", Reason.CONTAINER_CONFIG_ERROR),
        ],
    )
    async def test_containers_that_do_not_start(self, waiting: str, reason: Reason) -> None:
        """Condition and event say what the kubelet says."""
        world = make_world()
        await world.settle()
        world.start_pods(world.jobs()[0], waiting={"reason": waiting, "message": "the kubelet's words"})
        await world.settle()
        assert succeeded(world) == ("Unknown", reason)
        assert "the kubelet's words" in message(world)
        assert any(event[1] == reason for event in world.events)

    async def test_a_pull_that_is_tried_again_writes_once(self) -> None:
        """ErrImagePull and ImagePullBackOff alternate for ever."""
        world = make_world()
        await world.settle()
        job = world.jobs()[0]
        world.start_pods(job, waiting={"reason": "ErrImagePull", "message": "not found"})
        await world.settle()
        before = status_writes(world)

        def back_off(body: dict[str, Any]) -> None:
            state = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}}
            body["status"]["containerStatuses"][0]["state"] = state

        world.pod(job, back_off)
        await world.settle(60)
        assert status_writes(world) == before

    async def test_a_queue_that_counts_writes_once(self) -> None:
        """Kueue's words are told when they are other ones, not when they only count other numbers."""
        world = make_world()
        await world.settle()
        hold(world)
        for words, want_writes in (("1 more needed", 1), ("2 more needed", 0), ("LocalQueue x doesn't exist", 1)):
            before = status_writes(world)
            say(world, words)
            await world.settle(60)
            assert status_writes(world) - before == want_writes
        assert message(world) == "Kueue: LocalQueue x doesn't exist"

    async def test_a_deactivated_workload(self) -> None:
        """The trial is stalled until somebody acts; there is an event, and no further attempt meanwhile."""
        world, job = await running()
        hold(world)
        say(world, "The workload is deactivated", active=False)
        await world.settle(600)
        assert succeeded(world) == ("Unknown", "QueueDeactivated")
        assert world.condition(Kind.TRIAL, "look", "Stalled")
        assert [event[1] for event in world.events].count("QueueDeactivated") == 1
        assert last(world).completion_time is None
        (pod,) = [key for key in world.objects if key.kind is Kind.POD]
        world.remove(pod)
        say(world, "Quota reserved")
        world.change(Kind.JOB, "look-1", lambda spec: spec["runPolicy"].update(suspend=False))
        await world.settle()
        world.start_pods(job)
        await world.settle()
        assert succeeded(world) == ("Unknown", "Running")
        assert last(world).number == 1

    async def test_pods_that_may_not_be_created(self) -> None:
        """Quota speaks in events of the job only."""
        world = make_world()
        world.failures = [EventRecord("FailedCreatePod", "exceeded quota: pods=10", 3, "")]
        await world.settle(60)
        assert succeeded(world) == ("Unknown", "PodForbidden")
        assert "exceeded quota" in message(world)

    async def test_a_job_that_may_not_be_created(self) -> None:
        """The API server's words; it is tried again, and nothing else is written."""
        world = make_world()
        world.refuse_create = Forbidden("quota count/pytorchjobs")
        await world.settle(10)
        assert succeeded(world) == ("Unknown", "PodForbidden")
        writes = len(world.writes)
        await world.settle(120)
        assert len(world.writes) == writes
        world.refuse_create = None
        await world.settle(60)
        assert [job.name for job in world.jobs()] == ["look-1"]

    async def test_an_unschedulable_pod_waits_with_a_reason(self) -> None:
        """It holds nothing, so it is not ended."""
        world = make_world()
        await world.settle()
        job = world.jobs()[0]
        world.start_pods(job, node="", nothing={})

        def unschedulable(body: dict[str, Any]) -> None:
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
            body["status"] = {"phase": "Pending", "conditions": [condition]}

        world.pod(job, unschedulable)
        await world.settle(2000)
        assert succeeded(world) == ("Unknown", "Unschedulable")
        assert world.trial("look").attempts.total == 1

    async def test_a_pod_that_never_starts_is_ended(self) -> None:
        """It holds a node; the start timeout is counted."""
        world = make_world()
        await world.settle()
        world.start_pods(world.jobs()[0], waiting={"reason": "ImagePullBackOff", "message": "x"})
        await world.settle(905)
        assert world.trial("look").attempts.last[0].cause == "StartTimeout"

    async def test_a_foreign_job_of_that_name(self) -> None:
        """It is left alone."""
        world = World()
        labels = {"cpt.dev/trial": "other"}
        world.put(Kind.JOB, {"metadata": {"namespace": NAMESPACE, "name": "look-1", "labels": labels}, "spec": {}})
        world.add(Kind.TRIAL, "look", LOOK)
        await world.settle()
        assert succeeded(world) == ("Unknown", "NameTaken")

    async def test_without_a_backend(self) -> None:
        """Nothing is recorded."""
        world = World(backend_served=False)
        world.add(Kind.TRIAL, "look", LOOK)
        await world.settle()
        assert succeeded(world) == ("Unknown", "BackendMissing")


class TestStore:
    """Design 1: "an error is not 'not found'"."""

    async def test_an_outage_decides_nothing(self) -> None:
        """It waits and goes on."""
        world = make_world()
        world.s3.down = 503
        await world.settle(30)
        assert succeeded(world) == ("Unknown", "StoreUnavailable")
        assert world.jobs() == []
        world.s3.down = None
        await world.settle(60)
        assert [job.name for job in world.jobs()] == ["look-1"]

    async def test_an_attempt_that_ends_in_an_outage_is_closed_and_counted_later(self) -> None:
        """The cause is safe at once; the counters wait for the store."""
        world, job = await running()
        world.s3.down = 503
        world.finish(job, 211)
        await world.settle()
        assert last(world).cause == "StorageError"
        assert last(world).committed_step is None
        world.s3.down = None
        world.commit_step(job, 7)
        await world.settle(60)
        record = world.trial("look").attempts
        assert (record.fruitless, record.last[0].committed_step) == (0, 7)

    async def test_refused_credentials_stall(self) -> None:
        """No hot loop either."""
        world = make_world()
        world.s3.down = 403
        await world.settle(10)
        assert succeeded(world) == ("Unknown", "StoreRefused")
        turns = world.turns
        await world.settle(300)
        assert world.turns - turns < 20


class TestProgress:
    """At most one write per 30 s."""

    async def test_progress_is_shown(self) -> None:
        """Per cent, from progress.json of this attempt."""
        world, job = await running()
        world.commit_step(job, 250)
        await world.settle(60)
        assert world.trial("look").progress == 25

    async def test_tokens_that_are_only_read_are_no_cost(self) -> None:
        """The ledger and the budget are of training."""
        world, job = await running()
        world.commit_step(job, 250)
        await world.settle(60)
        assert world.trial("look").tokens is None

    async def test_another_attempts_progress_is_ignored(self) -> None:
        """It is of the past."""
        world, job = await running()
        world.commit_step(job, 250, attempt=7)
        await world.settle(60)
        assert world.trial("look").progress is None

    async def test_it_is_read_every_30_s(self) -> None:
        """Ten minutes, about twenty reads, no write without news."""
        world, _ = await running()
        gets, writes = world.s3.gets, len(world.writes)
        await world.settle(600)
        assert 18 <= world.s3.gets - gets <= 22
        assert len(world.writes) == writes


class TestCleanUp:
    """Design 6: "deleted an hour after its result or cause was recorded, the last failed one after a day"."""

    async def test_finished_job(self) -> None:
        """An hour, and nothing is written to the trial."""
        world, job = await running()
        world.commit(job)
        world.finish(job, 0)
        await world.settle(3500)
        assert len(world.jobs()) == 1
        await world.settle(200)
        assert world.jobs() == []

    async def test_failed_job(self) -> None:
        """A day."""
        world, job = await running()
        world.finish(job, 3)
        await world.settle(7200)
        assert len(world.jobs()) == 1
        await world.settle(86_400)
        assert world.jobs() == []

    async def test_a_job_that_another_leader_has_just_made_stays(self) -> None:
        """It can be seen before the record of its attempt: deleting it would stop the other's pods."""
        world, job = await running()
        body = deepcopy(world.objects[job.key])
        body["metadata"] |= {"name": "look-2", "uid": "uid-of-the-other"}
        world.put(Kind.JOB, body)
        await world.settle(60)
        assert {each.name for each in world.jobs()} == {"look-1", "look-2"}

    async def test_a_deleted_finished_job_means_nothing(self) -> None:
        """Its trial stays as it is."""
        world, job = await running()
        world.commit(job)
        world.finish(job, 0)
        await world.settle()
        world.remove(job.key)
        writes = len(world.writes)
        await world.settle(60)
        assert (succeeded(world), len(world.writes)) == (("True", "Completed"), writes)


class TestDeadline:
    """`activeDeadlineSeconds` is ours: the training-operator's does not fire."""

    async def test_a_long_attempt_is_ended(self) -> None:
        """Its job is deleted, which lets it save; the end is counted."""
        world = World()
        world.add(Kind.TRIAL, "look", LOOK | {"run": {"activeDeadlineSeconds": 100}})
        await world.settle()
        world.start_pods(world.jobs()[0])
        await world.settle(110)
        assert world.trial("look").attempts.last[0].cause == "DeadlineExceeded"
        assert "look-1" not in [job.name for job in world.jobs()]


async def test_hand_written_trials_wait_for_each_other() -> None:
    """A Preflight, then what it resolved."""
    world = World(kubelet=works)
    train = {
        "start": {"random": {"config": {"preflightName": "look", "input": "config"}}},
        "stopTokens": "1024",
        "phases": [{"mixture": [{"dataset": {"trialName": "text"}, "weight": "1"}]}],
        "schedule": {"peakLearningRate": "1e-3"},
        "sequenceLength": 64,
        "globalBatchSize": 8,
    }
    world.add(Kind.TRIAL, "base", {"type": "Train", "train": train})
    await world.settle()
    assert succeeded(world, "base") == ("Unknown", "WaitingForInput")
    source = {"preflightName": "look", "input": "corpus"}
    tokenizer = {"source": {"preflightName": "look", "input": "config"}}
    world.add(Kind.TRIAL, "text", {"type": "Prepare", "prepare": {"source": source, "tokenizer": tokenizer}})
    inputs = [
        {"name": "config", "kind": "Tokenizer", "uri": "s3://cpt/sources/config"},
        {"name": "corpus", "kind": "Dataset", "uri": "s3://cpt/sources/corpus.jsonl"},
    ]
    world.add(Kind.TRIAL, "look", {"type": "Preflight", "preflight": {"inputs": inputs}})
    await world.settle(30)
    assert {name: succeeded(world, name)[1] for name in ("look", "text", "base")} == {
        "look": "Completed",
        "text": "Completed",
        "base": "Completed",
    }
    assert world.trial("base").checkpoint is not None


async def test_a_hand_written_soup() -> None:
    """Base and a run's end are merged when both are there; then the merge is evaluated, in pods without GPU."""
    world = World(kubelet=works)
    model, end = {"trial": {"digest": make_digest("base")}}, {"trialName": "run"}
    merge = {"inputs": [{"model": model, "weight": "0.5"}, {"segment": end, "weight": "0.5"}]}
    scored = {"heldOut": [{"digest": make_digest("text")}], "sequenceLength": 64}
    world.add(Kind.TRIAL, "soup", {"type": "Merge", "merge": merge})
    world.add(
        Kind.TRIAL, "written", {"type": "Evaluate", "evaluate": scored | {"model": {"trial": {"trialName": "soup"}}}}
    )
    world.add(Kind.TRIAL, "unwritten", {"type": "Evaluate", "evaluate": scored | {"merge": merge}})
    await world.settle()
    assert {succeeded(world, name)[1] for name in ("soup", "written", "unwritten")} == {"WaitingForInput"}
    train = {
        "start": {"model": model},
        "stopTokens": "1024",
        "phases": [{"mixture": [{"dataset": {"digest": make_digest("text")}, "weight": "1"}]}],
        "schedule": {"peakLearningRate": "1e-3"},
        "sequenceLength": 64,
        "globalBatchSize": 8,
    }
    world.add(Kind.TRIAL, "run", {"type": "Train", "train": train})
    await world.settle(30)
    assert {name: succeeded(world, name)[1] for name in ("run", "soup", "written", "unwritten")} == {
        "run": "Completed",
        "soup": "Completed",
        "written": "Completed",
        "unwritten": "Completed",
    }
    order = [key.name for verb, key in world.writes if verb == "create" and key.kind is Kind.JOB]
    assert order.index("run-1") < order.index("soup-1") < order.index("written-1")
    assert order.index("run-1") < order.index("unwritten-1")
    told = [(name, text) for name, reason, text in world.events if reason == "Completed"]
    assert [name for name, _ in told] == ["unwritten", "written"]
    assert all(text.startswith(make_digest("text").short) for _, text in told)


def test_order_of_checks() -> None:
    """What runs, runs on; the result comes before exit codes; who is queued waits for nothing else."""
    assert [check.__name__ for check in verdicts.CHECKS] == [
        "at_work",
        "refused",
        "protocol_unsupported",
        "cancelled",
        "unresolved",
        "store_silent",
        "completed",
        "given_up",
        "suspended",
        "equal_at_work",
        "backing_off",
        "backend_missing",
        "no_place",
        "no_gpus",
        "start",
    ]
