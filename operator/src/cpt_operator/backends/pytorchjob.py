"""One PyTorchJob of training-operator v1.9 per attempt: how it is rendered, and when it has ended.

What v1.9 does by itself is not what a trial needs: it re-creates any missing pod whatever the restart policy, its
deadline does not fire, its retry count is not kept, and `Running` speaks of the master alone. So the job is made to do
nothing but hold pods (`restartPolicy: Never`, no TTL, no deadline), and an attempt ends at the first of ENDS below.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cpt_api import GROUP
from cpt_api.conditions import Reason
from cpt_api.exits import ExitCode
from cpt_api.model import Model
from cpt_api.names import job_name
from cpt_api.trial import Attempt, Resources, TrialDocument
from cpt_operator import rfc3339
from cpt_operator.attempts import PERMANENT, End, exited
from cpt_operator.backends import Limits, Observation, SpecTooLargeError
from cpt_operator.kinds import DIGEST_ANNOTATION, EXPERIMENT_LABEL, TRIAL_LABEL, TYPE_LABEL, Kind
from cpt_operator.plan.types import Finding
from cpt_operator.records import ContainerRecord, JobRecord, PodRecord, TrialRecord
from cpt_operator.settings import Profile, Settings

CONTAINER = "pytorch"
"""training-operator insists on this name."""
ATTEMPT_ANNOTATION = f"{GROUP}/attempt"
"""On jobs: the attempt's number."""
GPUS_ANNOTATION = f"{GROUP}/gpus"
"""On jobs: GPUs per pod, for accounting when the trial's resources have changed since."""

DOCUMENT_MAX_BYTES = 64 * 1024
"""An environment variable holds 128 KiB at most."""
INPUTS_MAX = 256
METRICS_PORT = 8080
GRACE_SECONDS = 180
"""For the last checkpoint."""
UNREACHABLE_SECONDS = 30
"""The next attempt should not wait the default 300 s for a node that is gone."""
USER = 65532
"""Any but root; the image's files are readable by everybody."""
HOME = "/home/cpt"

# --- render ---------------------------------------------------------------------------------------------------------


def render(
    trial: TrialRecord,
    document: TrialDocument,
    resources: Resources,
    settings: Settings,
    avoided_nodes: Sequence[str],
) -> dict[str, Any]:
    """The PyTorchJob of one attempt. `resources` are complete, and allowed.

    Raises SpecTooLargeError when the document does not fit into a pod's environment.
    """
    profile = settings.profiles[resources.profile] if resources.profile else Profile()
    labels = _labels(trial, document)
    template = {
        "metadata": {"labels": {**profile.pod_labels, **labels}},
        "spec": _pod(document, resources, profile, settings, avoided_nodes),
    }
    replica = {"replicas": 1, "restartPolicy": "Never", "template": template}
    replicas = {"Master": replica}
    nodes = resources.nodes or 1
    if nodes > 1:  # the webhook forbids zero workers
        replicas["Worker"] = replica | {"replicas": nodes - 1}
    return {
        "apiVersion": Kind.JOB.api_version,
        "kind": Kind.JOB.kind,
        "metadata": {
            "name": job_name(trial.name, document.attempt),
            "namespace": trial.namespace,
            "labels": labels | _queue_labels(document),
            "annotations": {
                DIGEST_ANNOTATION: document.digest,
                ATTEMPT_ANNOTATION: str(document.attempt),
                GPUS_ANNOTATION: str(resources.gpus_per_node or 0),
            },
            "ownerReferences": [
                {
                    "apiVersion": Kind.TRIAL.api_version,
                    "kind": Kind.TRIAL.kind,
                    "name": trial.name,
                    "uid": trial.uid,
                    "controller": True,
                }
            ],
        },
        "spec": {
            # with a word such as "auto" the training-operator computes a wrong WORLD_SIZE
            "nprocPerNode": str(resources.gpus_per_node or resources.processes_per_node or 1),
            "runPolicy": {"cleanPodPolicy": "Running"},
            "pytorchReplicaSpecs": replicas,
        },
    }


def _labels(trial: TrialRecord, document: TrialDocument) -> dict[str, str]:
    labels = {
        "app.kubernetes.io/name": "cpt-trial",
        TRIAL_LABEL: trial.name,
        TYPE_LABEL: document.spec.type.value,
    }
    experiment = trial.labels.get(EXPERIMENT_LABEL)
    return labels | ({EXPERIMENT_LABEL: experiment} if experiment else {})


def _queue_labels(document: TrialDocument) -> dict[str, str]:
    run = document.spec.run
    if not run.queue_name:
        return {}
    labels = {"kueue.x-k8s.io/queue-name": run.queue_name}
    if run.active_deadline_seconds:
        labels["kueue.x-k8s.io/max-exec-time-seconds"] = str(run.active_deadline_seconds)
    return labels


def _pod(
    document: TrialDocument, resources: Resources, profile: Profile, settings: Settings, avoided_nodes: Sequence[str]
) -> dict[str, Any]:
    optional = {
        "priorityClassName": document.spec.run.priority_class_name,
        "runtimeClassName": profile.runtime_class_name,
        "schedulerName": profile.scheduler_name,
        "nodeSelector": dict(profile.node_selector),
        "imagePullSecrets": [{"name": name} for name in profile.image_pull_secrets],
        "affinity": _away_from(avoided_nodes),
    }
    return {
        "serviceAccountName": resources.service_account_name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [*map(_toleration, ("not-ready", "unreachable")), *map(Model.to_dict, profile.tolerations)],
        "containers": [_container(document, resources, profile, settings)],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "home", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
        ],
        **{key: value for key, value in optional.items() if value},
    }


def _toleration(condition: str) -> dict[str, Any]:
    return {
        "key": f"node.kubernetes.io/{condition}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": UNREACHABLE_SECONDS,
    }


def _away_from(nodes: Sequence[str]) -> dict[str, Any]:
    """Preferred, not required: on a small cluster a suspicious node is better than none."""
    if not nodes:
        return {}
    expression = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": list(nodes)}
    preference = {"weight": 100, "preference": {"matchExpressions": [expression]}}
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preference]}}


def _container(document: TrialDocument, resources: Resources, profile: Profile, settings: Settings) -> dict[str, Any]:
    return {
        "name": CONTAINER,
        "image": resources.image or settings.trainer_image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": [document.spec.type.value.lower()],
        # what stands in `env` wins over the Secret: a user's key cannot move the store
        "envFrom": [{"secretRef": {"name": resources.credentials_secret_name}}],
        "env": _environment(document, profile, settings),
        "ports": [{"name": "metrics", "containerPort": METRICS_PORT}],
        "resources": _resources(resources, profile),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the path inside the pod
            {"name": "home", "mountPath": HOME},
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - as above
        ],
    }


def _environment(document: TrialDocument, profile: Profile, settings: Settings) -> list[dict[str, Any]]:
    store = settings.artifact_store
    values = {
        **profile.environment,
        "CPT_TRIAL": _document_text(document),
        "CPT_STORE": store.uri,
        "CPT_STORE_PATH_STYLE": "true" if store.path_style else "false",
        "CPT_METRICS_PORT": str(METRICS_PORT),
        "AWS_REGION": store.region,
        "AWS_DEFAULT_REGION": store.region,
        "HOME": HOME,
        "TMPDIR": "/tmp",  # noqa: S108 - the path inside the pod
    }
    if store.endpoint:
        values["AWS_ENDPOINT_URL_S3"] = store.endpoint
    else:  # nor can a user's key bring an endpoint where the administrator named none
        values["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] = "true"
    uid = {"name": "CPT_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}
    return [*({"name": name, "value": value} for name, value in sorted(values.items())), uid]


def _document_text(document: TrialDocument) -> str:
    text = json.dumps(document.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    size_bytes = len(text.encode())
    if size_bytes > DOCUMENT_MAX_BYTES:
        raise SpecTooLargeError(
            f"the resolved trial has {size_bytes} bytes as JSON, a pod's environment takes {DOCUMENT_MAX_BYTES}: "
            "name fewer inputs"
        )
    return text


def _resources(resources: Resources, profile: Profile) -> dict[str, Any]:
    devices = dict(profile.extra_resources)
    if resources.gpus_per_node:
        devices[profile.gpu_resource] = str(resources.gpus_per_node)
    memory = {"memory": resources.memory} if resources.memory else {}
    cpu = {"cpu": resources.cpu} if resources.cpu else {}
    return {"requests": cpu | memory | devices, "limits": memory | devices}


# --- observe --------------------------------------------------------------------------------------------------------

_NODE_GONE = frozenset({"DeletionByTaintManager", "DeletionByPodGC"})
"""Reasons of DisruptionTarget: nobody on the node will ever confirm the end."""
_PULL = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"})
_SET_UP = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_UNSCHEDULABLE_SECONDS = 15
"""A pod that waits shorter for a node is not worth a word."""
FORBIDDEN_SECONDS = 20
"""A pod that is missing for so long was probably forbidden."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One attempt's job and pods at one moment."""

    job: JobRecord
    pods: Sequence[PodRecord]
    attempt: Attempt
    limits: Limits
    now: datetime

    @property
    def wanted(self) -> int:
        """Pods that the job should have."""
        return sum(self.job.replicas.values())

    @property
    def all_running(self) -> bool:
        """Whether every one of them runs, or has ended well."""
        return len(self.pods) >= self.wanted and all(map(_is_up, self.pods))

    def seconds_since(self, time: str | None) -> float:
        """0 when there is no such time."""
        return max(0.0, rfc3339.seconds_between(time, self.now)) if time else 0.0

    @property
    def starting_seconds(self) -> float:
        """Since its pods could be created: a queue's pause does not count."""
        return min(self.seconds_since(self.job.created), self.seconds_since(self.job.start_time or self.job.created))


def observe(job: JobRecord, pods: Sequence[PodRecord], attempt: Attempt, limits: Limits, now: datetime) -> Observation:
    """The attempt's present state."""
    view = View(job=job, pods=pods, attempt=attempt, limits=limits, now=now)
    end = next((end for check in ENDS if (end := check(view)) is not None), None)
    return Observation(
        end=end,
        job_finished=is_finished(job),
        all_running=view.all_running,
        suspended=job.suspended,
        job_uid=job.uid,
        node=next((pod.node for pod in pods if pod.node), None),
        newest_pod=max((pod.created for pod in pods), default=None),
        trouble=None if end else _trouble(view),
        missing_pods=0 if job.suspended else max(0, view.wanted - len(pods)),
        gpu_seconds=_gpu_seconds(view),
        look_again_seconds=None if end else min(_next_changes(view), default=None),
    )


def is_finished(job: JobRecord) -> bool:
    """It re-creates no pods, and may stay for its logs."""
    return _is_true(job, "Succeeded") or _is_true(job, "Failed")


def may_still_save(pod: PodRecord) -> bool:
    """Whether a pod may still commit a checkpoint: its container has not ended, and its node is there."""
    main = _main(pod)
    target = pod.condition("DisruptionTarget")
    node_gone = target is not None and target.status == "True" and target.reason in _NODE_GONE
    return pod.phase in ("Pending", "Running") and not node_gone and not (main and main.exit_code is not None)


def _is_true(record: JobRecord | PodRecord, type_: str) -> bool:
    condition = record.condition(type_)
    return condition is not None and condition.status == "True"


def _main(pod: PodRecord) -> ContainerRecord | None:
    return pod.container(CONTAINER)


def _is_up(pod: PodRecord) -> bool:
    main = _main(pod)
    return main is not None and not pod.deleting and (main.running_since is not None or main.exit_code == 0)


# The checks of an attempt's end: the first that finds one wins.


def job_deleted(view: View) -> End | None:
    """Somebody deleted the job: its pods are on their way out."""
    return End(Reason.JOB_LOST, "the PyTorchJob was deleted") if view.job.deleting else None


def job_succeeded(view: View) -> End | None:
    """The master ended with 0."""
    return End(Reason.COMPLETED, "exit 0", 0) if _is_true(view.job, "Succeeded") else None


def pod_failed(view: View) -> End | None:
    """Of several failed pods, the one that says most about why."""
    ends = [end for pod in view.pods if (end := _failed(pod)) is not None]
    return min(ends, key=_plainness, default=None)


def job_failed(view: View) -> End | None:
    """The job failed, and no pod is left to say why."""
    if not _is_true(view.job, "Failed"):
        return None
    condition = view.job.condition("Failed")
    return End(
        Reason.POD_LOST, f"the PyTorchJob failed and its pods are gone: {condition.message if condition else ''}"
    )


def node_lost(view: View) -> End | None:
    """A pod's node is gone: not waited for."""
    for pod in view.pods:
        target = pod.condition("DisruptionTarget")
        if pod.deleting and target and target.status == "True" and target.reason in _NODE_GONE:
            return End(
                Reason.NODE_LOST, f"node {pod.node} of pod {pod.name} is gone", node=pod.node, infrastructure=True
            )
    return None


def pod_deleted(view: View) -> End | None:
    """A pod that is being deleted counts when its containers have ended or its grace has passed."""
    for pod in view.pods:
        main = _main(pod)
        has_ended = main is not None and main.exit_code is not None
        if pod.deleting and (has_ended or rfc3339.parse(pod.deleting) < view.now):
            return _deleted(pod, main)
    return None


def pod_gone(view: View) -> End | None:
    """All pods were running once, and now one is missing or is another: the job re-creates what is missing."""
    if view.attempt.running_time is None or view.job.suspended:
        return None
    if len(view.pods) < view.wanted:
        return End(Reason.POD_LOST, f"{view.wanted - len(view.pods)} of {view.wanted} pods are gone")
    began = rfc3339.parse(view.attempt.running_time)
    new = [pod.name for pod in view.pods if rfc3339.parse(pod.created) > began]
    return End(Reason.POD_LOST, f"pod {new[0]} was replaced") if new else None


def not_started(view: View) -> End | None:
    """It holds a node and does not start. An attempt that holds nothing may wait as long as the cluster is full."""
    held = [pod for pod in view.pods if pod.node]
    if (
        view.attempt.running_time is not None
        or view.job.suspended
        or not held
        or view.starting_seconds < view.limits.start_seconds
    ):
        return None
    trouble = _trouble(view)
    why = f"{trouble.reason}: {trouble.message}" if trouble else "no reason is known; see `kubectl describe pod`"
    text = f"not all of {view.wanted} pods were running within {view.limits.start_seconds} s: {why}"
    if len(held) < view.wanted:
        return End(Reason.UNSCHEDULABLE, text)
    return End(Reason.START_TIMEOUT, text, node=held[0].node)


def deadline_exceeded(view: View) -> End | None:
    """It ran longer than it may."""
    limit = view.limits.deadline_seconds
    if limit is None or view.seconds_since(view.attempt.running_time) < limit:
        return None
    return End(Reason.DEADLINE_EXCEEDED, f"it ran longer than activeDeadlineSeconds, {limit} s")


ENDS: tuple[Callable[[View], End | None], ...] = (
    job_succeeded,  # nothing after it matters
    node_lost,  # before the exit codes that its peers made of it
    pod_failed,  # before the job's own condition, which has no exit code
    pod_deleted,
    job_deleted,  # after its pods, which may still say why
    job_failed,
    pod_gone,
    not_started,
    deadline_exceeded,
)


def _failed(pod: PodRecord) -> End | None:
    """The end of a pod that failed by itself, or was made to."""
    main = _main(pod)
    code = main.exit_code if main else None
    if pod.phase != "Failed" and not (code and not pod.deleting):
        return None
    if _is_true(pod, "DisruptionTarget"):
        return _disrupted(pod, main)
    if main is None or code is None:
        init = next((c for c in pod.containers if c.init and c.exit_code), None)
        if init:
            return End(
                Reason.EXITED, f"init container {init.name}: exit {init.exit_code} {init.message or ''}", node=pod.node
            )
        text = f"pod {pod.name} was rejected: {pod.reason}: {pod.message or ''}"
        return End(Reason.DISRUPTED, text, node=pod.node, infrastructure=True)
    return exited(code, main.message, pod.node, oom_killed=main.terminated_reason == "OOMKilled")


def _disrupted(pod: PodRecord, main: ContainerRecord | None) -> End:
    target = pod.condition("DisruptionTarget")
    words = exited(main.exit_code, main.message, pod.node) if main and main.exit_code is not None else None
    return End(
        Reason.DISRUPTED,
        f"{target.reason}: {target.message}" if target else f"pod {pod.name} was disrupted",
        words.exit_code if words else None,
        pod.node,
        committed_step=words.committed_step if words else None,
    )


def _deleted(pod: PodRecord, main: ContainerRecord | None) -> End:
    if _is_true(pod, "DisruptionTarget"):
        return _disrupted(pod, main)
    code = main.exit_code if main else None
    if main is None or code is None or code == ExitCode.KILLED:
        return End(Reason.POD_LOST, f"pod {pod.name} was deleted", code, pod.node)
    return exited(code, main.message, pod.node)


def _plainness(end: End) -> int:
    """Lower says more: what peers make of a failure (hang, communication) says least."""
    if end.cause in PERMANENT:
        return 0
    order = (Reason.DISRUPTED, Reason.OUT_OF_MEMORY, Reason.KILLED, Reason.STORAGE_ERROR, Reason.TERMINATED)
    return 1 + order.index(end.cause) if end.cause in order else 8 + (end.cause is Reason.HANG)


# Why pods are not running.


def _trouble(view: View) -> Finding | None:
    if view.job.suspended:
        return Finding(Reason.QUEUED, "the queue has not admitted the attempt yet")
    for pod in view.pods:
        for container in pod.containers:
            text = f"pod {pod.name}: {container.waiting_reason}: {container.waiting_message or ''}"
            if container.waiting_reason in _PULL:
                return Finding(Reason.IMAGE_PULL_FAILED, text)
            if container.waiting_reason in _SET_UP:
                return Finding(Reason.CONTAINER_CONFIG_ERROR, text)
    for pod in view.pods:
        waited = _unscheduled_seconds(view, pod)
        scheduled = pod.condition("PodScheduled")
        if scheduled and waited is not None and waited >= _UNSCHEDULABLE_SECONDS:
            return Finding(Reason.UNSCHEDULABLE, f"pod {pod.name}: {scheduled.message}")
    return None


def _unscheduled_seconds(view: View, pod: PodRecord) -> float | None:
    scheduled = pod.condition("PodScheduled")
    if scheduled is None or scheduled.status != "False" or scheduled.reason != "Unschedulable":
        return None
    return view.seconds_since(pod.created)


def _next_changes(view: View) -> Iterator[float]:
    """In how many seconds a check above may answer otherwise though nothing else happened."""
    for pod in view.pods:
        if pod.deleting:
            yield max(0.0, -rfc3339.seconds_between(pod.deleting, view.now)) + 1
        waited = _unscheduled_seconds(view, pod)
        if waited is not None and waited < _UNSCHEDULABLE_SECONDS:
            yield _UNSCHEDULABLE_SECONDS - waited + 1
    if view.attempt.running_time is None and not view.job.suspended:
        if view.starting_seconds < view.limits.start_seconds:
            yield view.limits.start_seconds - view.starting_seconds + 1
        if len(view.pods) < view.wanted:
            yield max(FORBIDDEN_SECONDS / 2, FORBIDDEN_SECONDS - view.starting_seconds) + 1
    if view.limits.deadline_seconds is not None and view.attempt.running_time is not None:
        yield max(0.0, view.limits.deadline_seconds - view.seconds_since(view.attempt.running_time)) + 1


def _gpu_seconds(view: View) -> int:
    gpus = int(view.job.annotations.get(GPUS_ANNOTATION, "0"))
    if not view.pods and view.job.suspended:  # a queue took its pods away before they were looked at
        return round(view.seconds_since(view.attempt.running_time) * view.wanted * gpus)
    return round(sum(_pod_seconds(pod, view.now) for pod in view.pods) * gpus)


def _pod_seconds(pod: PodRecord, now: datetime) -> float:
    if pod.start_time is None:
        return 0.0
    finished = [container.finished for container in pod.containers if not container.init]
    last = max((time for time in finished if time), default=None) if all(finished) else None
    return max(0.0, rfc3339.seconds_between(pod.start_time, rfc3339.parse(last) if last else now))
