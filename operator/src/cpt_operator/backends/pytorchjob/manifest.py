"""The manifest of one attempt: a PyTorchJob that does nothing but hold its pods.

Everything about a pod that is not the trial's own (devices, node selector, tolerations, pull secrets) comes from the
administrator's settings; a golden file holds the rendered job byte by byte.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from cpt_api import GROUP
from cpt_api.model import Model
from cpt_api.names import job_name
from cpt_api.trial import Resources, TrialDocument
from cpt_operator.backends import SpecTooLargeError
from cpt_operator.kinds import DIGEST_ANNOTATION, EXPERIMENT_LABEL, TRIAL_LABEL, TYPE_LABEL, Kind
from cpt_operator.records import TrialRecord
from cpt_operator.settings import Profile, Settings

CONTAINER = "pytorch"
"""training-operator insists on this name."""
ATTEMPT_ANNOTATION = f"{GROUP}/attempt"
"""On jobs: the attempt's number."""
GPUS_ANNOTATION = f"{GROUP}/gpus"
"""On jobs: GPUs per pod, for accounting when the trial's resources have changed since."""

DOCUMENT_MAX_BYTES = 64 * 1024
"""An environment variable holds 128 KiB at most."""
METRICS_PORT = 8080
GRACE_SECONDS = 180
"""For the last checkpoint."""
UNREACHABLE_SECONDS = 30
"""The next attempt should not wait the default 300 s for a node that is gone."""
USER = 65532
"""Any but root; the image's files are readable by everybody."""
HOME = "/home/cpt"


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
