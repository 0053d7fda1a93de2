"""A control plane with the real Kueue and the real training-operator; the test plays the kubelet, and only that.

async with Team(lab, "queue-1") as team:
    await make_queue(team, cpus=1)              a LocalQueue `small` with a ClusterQueue of its own
    async with pods_run(team) as node:          pods that the training-operator makes start, commit a result and succeed

Both managers run as plain processes; the API server calls their webhooks by address. Price: 25 s to start, 300 MB.
"""

from __future__ import annotations

import asyncio
import os
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cluster.controlplane import ControlPlane, daemon, free_port
from cluster.harness import Commit, Team, at_work, commits, present_time, set_pod_state
from cpt_api.exits import ExitCode
from cpt_api.layout import result_key
from cpt_api.trial import TrialDocument
from cpt_local import kueue, programs, webhooks
from cpt_operator.apiserver import ApiServer, Conflict, Gone, NameTaken
from cpt_operator.kinds import Kind

QUEUE = "small"
URGENT = "urgent"
"""A PriorityClass of pods, which Kueue takes for the Workload's."""
_START_SECONDS = 240
_POLL_SECONDS = 0.1
_KUBEFLOW = "kubeflow"
_CERTIFICATES = Path("/tmp/k8s-webhook-server")
_SCHEDULING, _KUEUE = "/apis/scheduling.k8s.io/v1/priorityclasses", "/apis/kueue.x-k8s.io/v1beta2"
_PLACES = {
    "Namespace": "/api/v1/namespaces",
    "Secret": "/api/v1/namespaces/{namespace}/secrets",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "MutatingWebhookConfiguration": "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    "ValidatingWebhookConfiguration": "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
}


# --- the managers -----------------------------------------------------------------------------------------------------


@contextmanager
def training_operator(plane: ControlPlane, folder: Path) -> Iterator[None]:
    """The real one, for PyTorchJobs; their definition is there already."""
    folder.mkdir()
    service = f"training-operator.{_KUBEFLOW}.svc"
    serving = webhooks.make(folder / "serving-certs", free_port(), authority="training-operator-ca", service=service)
    program = programs.folder("training-operator")
    health = free_port()
    asyncio.run(_apply(plane, *_training_operator_objects(program / "manifests/base/webhook/manifests.yaml", serving)))
    _CERTIFICATES.mkdir(exist_ok=True)
    # in a mount namespace of its own it finds our certificates at its place
    script = f'mount --bind "{folder}" {_CERTIFICATES} && exec "$@"'
    command = (
        "unshare", "--mount", "sh", "-c", script, "sh", program / "training-operator.v1",
        "--enable-scheme=pytorchjob", "--metrics-bind-address=0", f"--webhook-server-port={serving.port}",
        f"--health-probe-bind-address=127.0.0.1:{health}", "--kube-api-qps=200", "--kube-api-burst=400",
    )  # fmt: skip
    environment = _environment(plane) | {"MY_POD_NAMESPACE": _KUBEFLOW}
    with daemon(folder, *command, env=environment) as process:
        _wait_until_ready(health, folder, process.poll)
        yield


def _training_operator_objects(manifests: Path, serving: webhooks.Serving) -> list[dict[str, Any]]:
    (configuration,) = yaml.safe_load_all(manifests.read_text())
    ours = [webhook for webhook in configuration["webhooks"] if webhook["rules"][0]["resources"] == ["pytorchjobs"]]
    named = configuration | {"metadata": {"name": "validator.training-operator.kubeflow.org"}, "webhooks": ours}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _KUBEFLOW}},
        webhooks.secret("training-operator-webhook-cert", _KUBEFLOW, serving),
        webhooks.addressed(named, serving),
    ]


@contextmanager
def running_kueue(plane: ControlPlane, folder: Path) -> Iterator[None]:
    """The real one."""
    health = free_port()
    made = kueue.make(folder, free_port(), health)
    asyncio.run(_apply(plane, *made.objects))
    with daemon(folder, *made.command, env=_environment(plane)) as process:
        _wait_until_ready(health, folder, process.poll)
        asyncio.run(_make_flavor(plane))
        yield


async def _apply(plane: ControlPlane, *objects: Mapping[str, Any]) -> None:
    api = await ApiServer.login(str(plane.kubeconfig))
    try:
        for body in objects:
            path = _PLACES[body["kind"]].format(namespace=body["metadata"].get("namespace", ""))
            await api.request("create", path, body=body)
    finally:
        await api.close()


async def _make_flavor(plane: ControlPlane) -> None:
    api = await ApiServer.login(str(plane.kubeconfig))
    try:
        await api.request("create", _SCHEDULING, body={"metadata": {"name": URGENT}, "value": 1000})
        await api.request("create", f"{_KUEUE}/resourceflavors", body=_kueue("ResourceFlavor", "default", {}))
    finally:
        await api.close()


def _environment(plane: ControlPlane) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "KUBECONFIG": str(plane.kubeconfig), "NO_PROXY": "127.0.0.1"}


def _wait_until_ready(port: int, folder: Path, ended: Callable[[], int | None]) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and ended() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
                return
        except OSError:
            time.sleep(0.1)  # it offers nothing to watch while it starts
    logs = "".join(log.read_text()[-4000:] for log in folder.glob("*.log"))
    raise RuntimeError(f"it does not answer on port {port}: {logs}")


# --- queues -----------------------------------------------------------------------------------------------------------


async def make_queue(team: Team, name: str = QUEUE, cpus: int = 1) -> None:
    """A LocalQueue of the team, and a ClusterQueue behind it in which more urgent Workloads take others' places."""
    resources = [{"name": "cpu", "nominalQuota": str(cpus)}]
    cluster_queue = {
        "namespaceSelector": {},
        "preemption": {"withinClusterQueue": "LowerPriority"},
        "resourceGroups": [{"coveredResources": ["cpu"], "flavors": [{"name": "default", "resources": resources}]}],
    }
    behind = f"{team.namespace}-{name}"
    await team.api.request("create", f"{_KUEUE}/clusterqueues", body=_kueue("ClusterQueue", behind, cluster_queue))
    body = _kueue("LocalQueue", name, {"clusterQueue": behind})
    await team.api.request("create", f"{_KUEUE}/namespaces/{team.namespace}/localqueues", body=body)


def _kueue(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": kind, "metadata": {"name": name}, "spec": dict(spec)}


async def workload_of(team: Team, job: str) -> dict[str, Any]:
    """The Workload of a job; empty when there is none."""
    bodies = await team.bodies(Kind.WORKLOAD)
    return next((b for b in bodies if b["metadata"]["ownerReferences"][0]["name"] == job), {})


# --- the kubelet ------------------------------------------------------------------------------------------------------


@dataclass
class PodsRun:
    """A node that starts every pod, lets it commit and succeed, and ends it with 143 when it is deleted."""

    team: Team
    commit: Commit = commits
    lingers: bool = False
    """Pods that were told to end have ended, and are not removed yet."""
    ended: set[str] = field(default_factory=set)
    """Pods that were told to end."""

    async def work(self) -> None:
        """For ever."""
        while True:
            for pod in await self.team.bodies(Kind.POD):
                try:
                    await self._step(pod)
                except (Conflict, Gone, NameTaken):
                    continue  # it was changed under our hands
            await asyncio.sleep(_POLL_SECONDS)

    async def _step(self, pod: dict[str, Any]) -> None:
        name, phase = pod["metadata"]["name"], pod["status"].get("phase", "Pending")
        if pod["metadata"].get("deletionTimestamp"):
            await self._leave(name, phase)
        elif phase == "Pending":
            await self._start(name)
        elif phase == "Running":
            await self._finish(name, _document(pod))

    async def _start(self, name: str) -> None:
        target = {"apiVersion": "v1", "kind": "Node", "name": "node-1"}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
        path = f"{Kind.POD.path(self.team.namespace, name)}/binding"
        await self.team.api.request("create", path, body=body)
        await set_pod_state(self.team, name, "Running", {"running": {"startedAt": present_time()}})

    async def _finish(self, name: str, document: TrialDocument) -> None:
        result = self.commit(document)
        if result is None:
            return
        key = result_key(document.namespace, document.digest)
        await asyncio.to_thread(self.team.lab.store.put, key, result.to_dict())
        await set_pod_state(self.team, name, "Succeeded", {"terminated": {"exitCode": 0, "finishedAt": present_time()}})

    async def _leave(self, name: str, phase: str) -> None:
        if phase not in ("Succeeded", "Failed"):
            code = int(ExitCode.TERMINATED)
            await set_pod_state(
                self.team, name, "Failed", {"terminated": {"exitCode": code, "finishedAt": present_time()}}
            )
            self.ended.add(name)
        elif not self.lingers:
            options = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
            await self.team.api.request("delete", Kind.POD.path(self.team.namespace, name), body=options)


def pods_run(team: Team, commit: Commit = commits) -> AbstractAsyncContextManager[PodsRun]:
    """It works while inside."""
    return at_work(PodsRun(team, commit))


def _document(pod: Mapping[str, Any]) -> TrialDocument:
    environment = pod["spec"]["containers"][0]["env"]
    return TrialDocument.model_validate_json(next(e["value"] for e in environment if e["name"] == "CPT_TRIAL"))
