"""What an attempt is rendered to, and when it has ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from cpt_api.conditions import Reason
from cpt_api.digest import trial_digest
from cpt_api.trial import Attempt, CPTTrialSpec, Resources, TrialDocument
from cpt_operator import rfc3339
from cpt_operator.admission import complete_resources
from cpt_operator.backends import Limits, Observation, SpecTooLargeError
from cpt_operator.backends.pytorchjob import observe, render
from cpt_operator.kinds import Kind
from cpt_operator.records import JobRecord, PodRecord, TrialRecord, record_of
from make import make_digest
from world import START, make_settings

GOLDEN = Path(__file__).parent.parent / "golden"

PROFILE = {
    "gpuResource": "nvidia.com/gpu",
    "extraResources": {"rdma/hca": "8"},
    "environment": {"NCCL_IB_HCA": "mlx5"},
    "nodeSelector": {"node.kubernetes.io/instance-type": "h100"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "imagePullSecrets": ["registry"],
    "podLabels": {"team": "llm"},
    "runtimeClassName": "nvidia",
    "schedulerName": "kai-scheduler",
}
PREFLIGHT: dict[str, Any] = {
    "type": "Preflight",
    "preflight": {"inputs": [{"name": "corpus", "kind": "Dataset", "uri": "s3://cpt/sources/corpus.jsonl"}]},
    "run": {"resources": {"cpu": "1", "memory": "2Gi"}},
}
TRAIN: dict[str, Any] = {
    "type": "Train",
    "train": {
        "start": {"segment": {"digest": make_digest("trunk")}},
        "startTokens": "512M",
        "stopTokens": "1B",
        "phases": [{"mixture": [{"dataset": {"digest": make_digest("data")}, "weight": "1"}]}],
        "schedule": {"peakLearningRate": "3e-5"},
        "sequenceLength": 4096,
        "globalBatchSize": 512,
    },
    "run": {
        "resources": {"nodes": 2, "gpusPerNode": 8, "cpu": "96", "memory": "1500Gi", "profile": "h100"},
        "queueName": "research",
        "priorityClassName": "low",
        "activeDeadlineSeconds": 43200,
    },
}


def rendered(
    spec: Mapping[str, Any], *avoided: str, attempt: int = 1, endpoint: str | None = "http://s3:8333"
) -> dict[str, Any]:
    settings = make_settings(profiles={"h100": PROFILE}, artifactStore={"bucket": "cpt", "endpoint": endpoint})
    parsed = CPTTrialSpec.model_validate(spec)
    meta = {
        "namespace": "team",
        "name": "sweep-train-0123456789",
        "uid": "uid-1",
        "resourceVersion": "1",
        "labels": {"cpt.dev/experiment": "sweep"},
    }
    trial = record_of(Kind.TRIAL, {"metadata": meta, "spec": spec})
    assert isinstance(trial, TrialRecord)
    document = TrialDocument(
        namespace="team",
        name=trial.name,
        digest=trial_digest(parsed),
        attempt=attempt,
        protocol=1,
        spec=parsed,
    )
    resources = complete_resources(parsed.type, parsed.run.resources, settings)
    return render(trial, document, resources, settings, avoided)


class TestGolden:
    """What is shown to the training-operator, byte by byte; a change is a change of the product."""

    @pytest.mark.parametrize(
        ("name", "job"),
        [
            ("preflight.yaml", rendered(PREFLIGHT)),
            ("train-two-nodes.yaml", rendered(TRAIN, "node-3", "node-7", attempt=3)),
        ],
    )
    def test_equal(self, name: str, job: dict[str, Any]) -> None:
        """The rendered job is that of the golden file."""
        assert job == yaml.safe_load((GOLDEN / name).read_text())


class TestRender:
    """Design 1, *Security in one paragraph*, and design 6."""

    def test_the_document_comes_back(self) -> None:
        """What the pod reads is what was meant."""
        environment = container(rendered(TRAIN))["env"]
        text = next(entry["value"] for entry in environment if entry["name"] == "CPT_TRIAL")
        document = TrialDocument.model_validate_json(text)
        assert document.spec == CPTTrialSpec.model_validate(TRAIN)
        assert trial_digest(document.spec) == document.digest

    def test_one_node_has_no_worker(self) -> None:
        """The webhook forbids zero of them."""
        assert list(rendered(PREFLIGHT)["spec"]["pytorchReplicaSpecs"]) == ["Master"]

    def test_processes_on_cpu(self) -> None:
        """An integer, always: a word makes a wrong WORLD_SIZE."""
        spec = TRAIN | {"run": {"resources": {"processesPerNode": 2}}}
        assert rendered(spec)["spec"]["nprocPerNode"] == "2"
        assert rendered(PREFLIGHT)["spec"]["nprocPerNode"] == "1"

    def test_kueues_fields_are_never_written(self) -> None:
        """runPolicy.suspend and schedulingPolicy are Kueue's."""
        assert rendered(TRAIN)["spec"]["runPolicy"] == {"cleanPodPolicy": "Running"}

    def test_the_owner_may_be_deleted_at_once(self) -> None:
        """blockOwnerDeletion is unset."""
        assert "blockOwnerDeletion" not in rendered(TRAIN)["metadata"]["ownerReferences"][0]

    def test_a_document_that_does_not_fit(self) -> None:
        """64 KiB; the message gives the sizes."""
        inputs = [{"name": f"corpus-{i}", "kind": "Dataset", "uri": f"s3://cpt/{'x' * 400}/{i}"} for i in range(150)]
        with pytest.raises(SpecTooLargeError, match="65536"):
            rendered({"type": "Preflight", "preflight": {"inputs": inputs}})

    def test_the_users_secret_cannot_move_the_store(self) -> None:
        """Explicit variables win over envFrom."""
        names = {entry["name"] for entry in container(rendered(TRAIN))["env"]}
        assert {"AWS_ENDPOINT_URL_S3", "CPT_STORE", "AWS_REGION"} <= names

    def test_nor_where_the_store_is_amazons(self) -> None:
        """Then there is no endpoint to name, and any other is ignored."""
        names = {entry["name"] for entry in container(rendered(TRAIN, endpoint=None))["env"]}
        assert "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS" in names
        assert "AWS_ENDPOINT_URL_S3" not in names


def container(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"][0]
    return found


# --- observe --------------------------------------------------------------------------------------------------------

AGO = START - timedelta(seconds=100)
RUNNING = {"running": {"startedAt": rfc3339.text(AGO)}}


def make_job(workers: int = 0, **changes: Any) -> JobRecord:
    """A job that was created 100 s ago."""
    replicas: dict[str, Any] = {"Master": {"replicas": 1}}
    if workers:
        replicas["Worker"] = {"replicas": workers}
    body: dict[str, Any] = {
        "metadata": {
            "namespace": "team",
            "name": "look-1",
            "uid": "job",
            "resourceVersion": "1",
            "creationTimestamp": rfc3339.text(AGO),
            "annotations": {"cpt.dev/gpus": "8"},
        }
        | changes.pop("metadata", {}),
        "spec": {"pytorchReplicaSpecs": replicas, "runPolicy": {"suspend": changes.pop("suspend", False)}},
        "status": changes,
    }
    record = record_of(Kind.JOB, body)
    assert isinstance(record, JobRecord)
    return record


def make_pod(
    state: Mapping[str, Any] = RUNNING,
    *,
    phase: str = "Running",
    node: str | None = "node-1",
    disruption: str | None = None,
    conditions: tuple[dict[str, Any], ...] = (),
    deleting: int | None = None,
    created: int = -100,
    **status: Any,
) -> PodRecord:
    """A pod that was made 100 s ago; `deleting` and `created` in seconds from now."""
    meta: dict[str, Any] = {
        "namespace": "team",
        "name": "look-1-master-0",
        "uid": "pod",
        "resourceVersion": "2",
        "creationTimestamp": rfc3339.text(START + timedelta(seconds=created)),
    }
    if deleting is not None:
        meta["deletionTimestamp"] = rfc3339.text(START + timedelta(seconds=deleting))
    found = [*conditions]
    if disruption:
        found.append({"type": "DisruptionTarget", "status": "True", "reason": disruption, "message": "by the cluster"})
    body = {
        "metadata": meta,
        "spec": {"nodeName": node} if node else {},
        "status": {
            "phase": phase,
            "startTime": rfc3339.text(AGO),
            "containerStatuses": [{"name": "pytorch", "state": dict(state)}] if state else [],
            "conditions": found,
        }
        | status,
    }
    record = record_of(Kind.POD, body)
    assert isinstance(record, PodRecord)
    return record


def exit_(code: int, **fields: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "finishedAt": rfc3339.text(START), "message": ""} | fields}


def condition(type_: str) -> dict[str, Any]:
    return {"conditions": [{"type": type_, "status": "True", "reason": "", "message": "words"}]}


def look(
    job: JobRecord, *pods: PodRecord, ran: bool = True, start_seconds: int = 900, deadline_seconds: int | None = None
) -> Observation:
    """`ran`: all pods were seen running 90 s ago."""
    since = rfc3339.text(START - timedelta(seconds=90)) if ran else None
    attempt = Attempt(number=1, running_time=since)
    return observe(job, pods, attempt, Limits(start_seconds, deadline_seconds), START)


def cause(observation: Observation) -> Reason | None:
    return observation.end.cause if observation.end else None


class TestEnd:
    """Design 6: "an attempt ends at the first of"."""

    def test_it_goes_on(self) -> None:
        """Nothing has ended."""
        seen = look(make_job(), make_pod())
        assert (seen.end, seen.all_running) == (None, True)

    def test_succeeded(self) -> None:
        """The job says so, and may stay."""
        seen = look(make_job(**condition("Succeeded")), make_pod(exit_(0), phase="Succeeded"))
        assert (cause(seen), seen.job_finished) == (Reason.COMPLETED, True)

    @pytest.mark.parametrize(("code", "want"), [(1, Reason.EXITED), (4, Reason.DATA_ERROR), (210, Reason.HANG)])
    def test_failed_pod(self, code: int, want: Reason) -> None:
        """Before the job says so."""
        seen = look(make_job(), make_pod(exit_(code), phase="Failed"))
        assert (cause(seen), seen.job_finished) == (want, False)

    def test_out_of_memory_of_the_pod(self) -> None:
        """The kernel's killer is told from others."""
        seen = look(make_job(), make_pod(exit_(137, reason="OOMKilled"), phase="Failed"))
        assert seen.end
        assert "memory limit" in seen.end.message

    def test_who_says_most_counts(self) -> None:
        """A peer's hang is what others made of a full disk."""
        pods = (make_pod(exit_(210), phase="Failed"), make_pod(exit_(4), phase="Failed"))
        assert cause(look(make_job(workers=1), *pods)) is Reason.DATA_ERROR

    def test_disruption_is_free_whatever_the_exit_code(self) -> None:
        """Evicted while it saved."""
        seen = look(make_job(), make_pod(exit_(137), phase="Failed", disruption="TerminationByKubelet"))
        assert cause(seen) is Reason.DISRUPTED

    def test_rejected_at_admission(self) -> None:
        """No container ever began; the node is to blame."""
        seen = look(make_job(), make_pod({}, phase="Failed", reason="UnexpectedAdmissionError"), ran=False)
        assert cause(seen) is Reason.DISRUPTED
        assert seen.end
        assert seen.end.infrastructure

    @pytest.mark.parametrize("reason", ["DeletionByTaintManager", "DeletionByPodGC"])
    def test_lost_node(self, reason: str) -> None:
        """Not waited for."""
        assert cause(look(make_job(), make_pod(disruption=reason, deleting=180))) is Reason.NODE_LOST

    def test_a_pod_that_still_saves(self) -> None:
        """Evicted, its grace has not passed: the attempt is not over; it is looked at when the grace has."""
        seen = look(make_job(), make_pod(disruption="EvictionByEvictionAPI", deleting=60))
        assert seen.end is None
        assert seen.look_again_seconds == 61

    def test_a_pod_whose_grace_has_passed(self) -> None:
        """Nobody will confirm."""
        assert cause(look(make_job(), make_pod(deleting=-1))) is Reason.POD_LOST

    @pytest.mark.parametrize(
        ("code", "want"), [(143, Reason.TERMINATED), (137, Reason.POD_LOST), (3, Reason.CONFIG_ERROR)]
    )
    def test_a_deleted_pod_that_has_ended(self, code: int, want: Reason) -> None:
        """Its containers have ended, so it counts."""
        assert cause(look(make_job(), make_pod(exit_(code), deleting=100))) is want

    def test_missing(self) -> None:
        """All were running once."""
        assert cause(look(make_job(workers=1), make_pod())) is Reason.POD_LOST

    def test_not_yet_created(self) -> None:
        """Missing at the beginning is no loss."""
        seen = look(make_job(workers=1), make_pod(), ran=False)
        assert (seen.end, seen.missing_pods) == (None, 1)

    def test_replaced(self) -> None:
        """The training-operator made another one in its place."""
        assert cause(look(make_job(), make_pod(created=-5))) is Reason.POD_LOST

    def test_a_queue_may_take_pods_away(self) -> None:
        """While runPolicy.suspend is true the attempt goes on."""
        seen = look(make_job(suspend=True))
        assert (seen.end, seen.suspended, seen.missing_pods) == (None, True, 0)
        assert seen.trouble
        assert seen.trouble.reason is Reason.QUEUED

    @pytest.mark.parametrize(
        "pod",
        [
            pytest.param(make_pod(exit_(143), deleting=100), id="ended"),
            pytest.param(make_pod(deleting=-1), id="grace has passed"),
            pytest.param(make_pod(exit_(143), phase="Failed"), id="failed"),
            pytest.param(make_pod(disruption="DeletionByTaintManager", deleting=100), id="node gone"),
        ],
    )
    def test_how_its_pods_end_meanwhile(self, pod: PodRecord) -> None:
        """Is the queue's doing, and no end of the attempt."""
        seen = look(make_job(suspend=True), pod, deadline_seconds=10)
        assert (seen.end, seen.suspended) == (None, True)

    def test_a_pod_that_is_not_yet_taken_away(self) -> None:
        """Does not run on behalf of the attempt any more."""
        assert not look(make_job(suspend=True), make_pod()).all_running

    def test_deleted_job(self) -> None:
        """Foreground deletion: its pods are on their way out."""
        seen = look(make_job(metadata={"deletionTimestamp": rfc3339.text(START)}), make_pod())
        assert cause(seen) is Reason.JOB_LOST

    def test_failed_job_without_pods(self) -> None:
        """Nobody saw why: a disruption."""
        assert cause(look(make_job(**condition("Failed")))) is Reason.POD_LOST

    def test_start_timeout(self) -> None:
        """All have nodes and do not start: counted, with what the kubelet says."""
        waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
        seen = look(make_job(), make_pod(waiting, phase="Pending"), ran=False, start_seconds=100)
        assert cause(seen) is Reason.START_TIMEOUT
        assert seen.end
        assert "not found" in seen.end.message

    def test_half_a_gang(self) -> None:
        """Some hold nodes while others have none: given back, and nobody's fault."""
        seen = look(make_job(workers=1), make_pod(), ran=False, start_seconds=100)
        assert cause(seen) is Reason.UNSCHEDULABLE

    def test_who_holds_nothing_may_wait(self) -> None:
        """The cluster is full; that is no failure."""
        unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/9 nodes"}
        pod = make_pod({}, phase="Pending", node=None, conditions=(unschedulable,))
        seen = look(make_job(), pod, ran=False, start_seconds=10)
        assert seen.end is None
        assert seen.trouble
        assert (seen.trouble.reason, "0/9 nodes" in seen.trouble.message) == (Reason.UNSCHEDULABLE, True)

    @pytest.mark.parametrize(("limit", "want"), [(90, Reason.DEADLINE_EXCEEDED), (91, None)])
    def test_deadline(self, limit: int, want: Reason | None) -> None:
        """Since all pods were running."""
        assert cause(look(make_job(), make_pod(), deadline_seconds=limit)) is want


class TestAccounting:
    """GPU-seconds: pod time x GPUs."""

    def test_running(self) -> None:
        """Two pods for 100 s with 8 GPUs each."""
        assert look(make_job(workers=1), make_pod(), make_pod()).gpu_seconds == 1600

    def test_an_ended_pod_costs_nothing_more(self) -> None:
        """Its container ended 40 s ago."""
        finished = rfc3339.text(START - timedelta(seconds=40))
        assert look(make_job(), make_pod(exit_(0, finishedAt=finished))).gpu_seconds == 480


def test_resources_are_complete() -> None:
    """A trial that says nothing runs under the default account with the default Secret."""
    spec = complete_resources(CPTTrialSpec.model_validate(PREFLIGHT).type, Resources(), make_settings())
    assert (spec.service_account_name, spec.credentials_secret_name) == ("cpt-trial", "cpt-store")


def write_golden() -> None:
    """`python tests/operator/backends/test_pytorchjob.py` writes the files anew; look at the difference."""
    for name, job in (
        ("preflight.yaml", rendered(PREFLIGHT)),
        ("train-two-nodes.yaml", rendered(TRAIN, "node-3", "node-7", attempt=3)),
    ):
        plain = json.loads(json.dumps(job))
        (GOLDEN / name).write_text(yaml.safe_dump(plain, sort_keys=True, width=160))


if __name__ == "__main__":
    write_golden()
