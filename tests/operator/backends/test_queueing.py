"""What is made of Kueue's Workload; the conditions are those that Kueue 0.19.2 writes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cpt_api.conditions import Reason
from cpt_api.trial import Attempt
from cpt_operator import rfc3339
from cpt_operator.backends import Limits, Observation
from cpt_operator.backends.pytorchjob import observe
from cpt_operator.kinds import Kind
from cpt_operator.records import JobRecord, WorkloadRecord, record_of
from world import START

PENDING = (
    "couldn't assign flavors to pod set master: insufficient unused quota for cpu in flavor default, 1 more needed"
)


def make_workload(*conditions: tuple[str, str, str, str], active: bool = True, ago: int = 0) -> WorkloadRecord:
    """Conditions as type, status, reason, message, `ago` seconds old."""
    since = rfc3339.text(START - timedelta(seconds=ago))
    listed = [
        {"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}
        for type_, status, reason, message in conditions
    ]
    owner = {"kind": "PyTorchJob", "name": "look-1", "uid": "job", "controller": True}
    metadata = {"namespace": "team", "name": "pytorchjob-look-1-a1b2c", "uid": "w", "resourceVersion": "3"}
    record = record_of(
        Kind.WORKLOAD,
        {
            "metadata": metadata | {"ownerReferences": [owner]},
            "spec": {"active": active},
            "status": {"conditions": listed},
        },
    )
    assert isinstance(record, WorkloadRecord)
    return record


def look(workload: WorkloadRecord | None, *, suspended: bool = True) -> Observation:
    """What is seen of a job with that Workload."""
    metadata = {
        "namespace": "team",
        "name": "look-1",
        "uid": "job",
        "resourceVersion": "1",
        "creationTimestamp": rfc3339.text(START),
        "labels": {"cpt.dev/trial": "look"},
    }
    spec: dict[str, Any] = {"pytorchReplicaSpecs": {"Master": {}}, "runPolicy": {"suspend": suspended}}
    job = record_of(Kind.JOB, {"metadata": metadata, "spec": spec})
    assert isinstance(job, JobRecord)
    return observe(job, [], Attempt(number=1), Limits(900, None), START, workload)


def trouble(workload: WorkloadRecord | None) -> tuple[Reason, str]:
    """The finding about a suspended job."""
    seen = look(workload)
    assert seen.end is None
    assert seen.trouble
    return seen.trouble.reason, seen.trouble.message


RESERVED = ("QuotaReserved", "True", "QuotaReserved", "Quota reserved in ClusterQueue team")
ADMITTED = ("Admitted", "True", "Admitted", "The workload is admitted")


class TestQueued:
    """Why it waits, in Kueue's words."""

    @pytest.mark.parametrize(
        ("workload", "want"),
        [
            pytest.param(None, "the queue has not admitted the attempt yet", id="not seen"),
            pytest.param(make_workload(), "the queue has not admitted the attempt yet", id="new"),
            pytest.param(
                make_workload(("QuotaReserved", "False", "Pending", PENDING)), f"Kueue: {PENDING}", id="quota"
            ),
            pytest.param(
                make_workload(("QuotaReserved", "False", "Inadmissible", "LocalQueue nowhere doesn't exist")),
                "Kueue: LocalQueue nowhere doesn't exist",
                id="no queue",
            ),
            pytest.param(
                make_workload(("Admitted", "False", "x", "waits for a check"), RESERVED),
                "Kueue has reserved quota: waits for a check",
                id="admission check",
            ),
            pytest.param(
                make_workload(
                    ("Evicted", "True", "Preempted", "(UID …)"), ("QuotaReserved", "False", "Pending", PENDING)
                ),
                f"Kueue took its pods away (Preempted): {PENDING}",
                id="preempted",
            ),
            pytest.param(
                make_workload(("Evicted", "False", "x", "Previously"), ("QuotaReserved", "False", "Pending", PENDING)),
                f"Kueue: {PENDING}",
                id="preempted once",
            ),
        ],
    )
    def test_words(self, workload: WorkloadRecord | None, want: str) -> None:
        """By the type of the condition, wherever it stands."""
        assert trouble(workload) == (Reason.QUEUED, want)

    def test_a_job_that_is_not_suspended(self) -> None:
        """Has no trouble with its queue."""
        assert look(make_workload(RESERVED, ADMITTED, ago=1000), suspended=False).trouble is None


class TestDeactivated:
    """Kueue leaves the Workload alone until somebody acts."""

    def test_what_to_do(self) -> None:
        """Kueue's reason, and both ways on."""
        cause = "due to exceeding the maximum number of re-queuing retries"
        evicted = ("Evicted", "True", "DeactivatedDueToX", f"The workload is deactivated {cause}")
        reason, message = trouble(make_workload(evicted, active=False))
        assert reason is Reason.QUEUE_DEACTIVATED
        assert message.startswith(f"Workload pytorchjob-look-1-a1b2c is deactivated {cause}, and Kueue")
        assert "`kubectl cpt retry look`" in message
        assert "spec.active to true" in message

    @pytest.mark.parametrize(
        "condition",
        [
            ("Evicted", "True", "DeactivatedDueToMaximumExecutionTimeExceeded", "exceeding the maximum execution time"),
            ("DeactivationTarget", "True", "MaximumExecutionTimeExceeded", "exceeding the maximum execution time"),
        ],
    )
    def test_its_time_was_over(self, condition: tuple[str, str, str, str]) -> None:
        """An end like that of our own deadline."""
        seen = look(make_workload(condition, active=False))
        assert seen.end
        assert seen.end.cause is Reason.DEADLINE_EXCEEDED
        assert seen.end.message == "Kueue: exceeding the maximum execution time"


class TestStuck:
    """Admitted, and the job is still suspended."""

    def test_for_a_while(self) -> None:
        """It is looked at again when it has become too long."""
        seen = look(make_workload(RESERVED, ADMITTED, ago=100))
        assert seen.trouble
        assert (seen.trouble.reason, seen.look_again_seconds) == (Reason.QUEUED, 201)

    def test_for_five_minutes(self) -> None:
        """Somebody must look into Kueue's log."""
        reason, message = trouble(make_workload(ADMITTED, RESERVED, ago=300))
        assert reason is Reason.QUEUE_STUCK
        assert "`kubectl cpt retry look`" in message
