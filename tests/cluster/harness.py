"""What tests on a real control plane do: speak to the API server, run the operator, play the kubelet.

async with Team(lab, "team-1") as team:         a namespace with its ServiceAccount and a client
    with lab.operator(team.namespace) as process:
        async with kubelet(team):               pods start, commit a result and succeed
            await team.apply("sweep", make_experiment())
            await team.until_reason("Completed")
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import yaml
from prometheus_client.parser import text_string_to_metric_families

from cluster.controlplane import ControlPlane, free_port
from cluster.seaweed import BUCKET, OPERATOR, Seaweed
from cpt_api.experiment import CPTExperimentSpec
from cpt_api.layout import result_key
from cpt_api.result import Result
from cpt_api.trial import TrialDocument
from cpt_operator import rfc3339
from cpt_operator.apiserver import ApiError, ApiServer, Conflict, Gone
from cpt_operator.kinds import Kind
from cpt_operator.records import JobRecord, TrialRecord, record_of
from cpt_operator.standing import reason_of
from make import make_result

SYSTEM = "cpt-system"
_POLL_SECONDS = 0.1
"""The API server is asked so often: cheap here, and no watch of the test's own can go stale."""


@dataclass
class Lab:
    """One per run of the tests: a control plane with our kinds, a store, and the operator's identity."""

    plane: ControlPlane
    store: Seaweed
    folder: Path
    token: str
    """Of the operator's ServiceAccount, with the chart's rights."""
    leases: tuple[str, ...] = ("cpt-cpt-operator", "second", "third")
    """It may hold these: the chart's, and others for operators that know nothing of each other."""
    processes: int = 0

    def settings(self, *namespaces: str, **changes: Any) -> dict[str, Any]:
        """What a chart would render, for those namespaces."""
        return {
            "artifactStore": {"bucket": BUCKET, "endpoint": self.store.endpoint},
            "trainerImage": "example.test/cpt-trainer:1",
            "watchNamespaces": list(namespaces),
            "httpHost": "127.0.0.1",
        } | changes

    def operator(
        self,
        *namespaces: str,
        replica: str = "operator",
        lease: int = 0,
        lease_seconds: int = 15,
        keys: tuple[str, str] = OPERATOR,
        **changes: Any,
    ) -> OperatorProcess:
        """A process of the operator that is not running yet. `replica` is its pod's name, `lease` says which one."""
        self.processes += 1
        name = f"operator-{self.processes}"
        held = {"name": self.leases[lease], "namespace": SYSTEM, "durationSeconds": lease_seconds}
        port = free_port()
        config = self.folder / f"{name}.yaml"
        config.write_text(yaml.safe_dump(self.settings(*namespaces, httpPort=port, lease=held, **changes)))
        environment = {
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(self.plane.kubeconfig_for(self.token, name)),
            "AWS_ACCESS_KEY_ID": keys[0],
            "AWS_SECRET_ACCESS_KEY": keys[1],
            "HOSTNAME": replica,
            "NO_PROXY": "127.0.0.1",
        }
        return OperatorProcess(config, environment, self.folder / f"{name}.log", port)


class OperatorProcess:
    """`python3 -m cpt_operator`, as a kubelet runs it: it is started again when it ends by itself."""

    def __init__(self, config: Path, environment: dict[str, str], log: Path, port: int) -> None:
        self.log = log
        self.port = port
        self.starts = 0
        self._command = [sys.executable, "-m", "cpt_operator", "--config", str(config)]
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> OperatorProcess:
        """Start it, or start it again."""
        self.starts += 1
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)
        return self

    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll() if self._process else 0

    def keep(self) -> None:
        """Start it again if it has ended."""
        if self.ended() is not None:
            self.start()

    def kill(self) -> None:
        """`kill -9`."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def terminate(self, seconds: float = 30) -> int:
        """SIGTERM, and its exit code."""
        assert self._process
        self._process.terminate()
        return self._process.wait(seconds)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name with these labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    def lines(self, event: str) -> list[str]:
        """Of its log."""
        return [line for line in self.log.read_text().splitlines() if f'"event": "{event}"' in line]

    def __enter__(self) -> Self:
        if self._process is None:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


TINY: dict[str, Any] = {
    "datasets": [{"name": "python", "uri": "s3://cpt/sources/python.jsonl"}],
    "replay": None,
    "evaluation": {"target": {"suite": "Heldout", "datasets": ["python"]}},
    "recipe": {"learningRateSweep": {"learningRates": ["1e-4"], "rungs": ["10240"]}},
}
"""Five trials."""


class Request(NamedTuple):
    """A line of the audit log."""

    verb: str
    resource: str
    name: str
    code: int

    @property
    def is_write(self) -> bool:
        """Whether it can have changed anything."""
        return self.verb in ("create", "update", "patch", "delete")


Commit = Callable[[TrialDocument], Result | None]
"""What a trial commits; None: it never ends."""


class Team:
    """A namespace, and an administrator's client for it."""

    def __init__(self, lab: Lab, namespace: str) -> None:
        self.lab = lab
        self.namespace = namespace
        self.began = time.time()
        self.nodes: set[asyncio.Task[None]] = set()
        self.keep = False
        """Whether the namespace outlives the block."""

    async def __aenter__(self) -> Self:
        self.api = await ApiServer.login(str(self.lab.plane.kubeconfig))
        await self.api.request("create", "/api/v1/namespaces", body={"metadata": {"name": self.namespace}})
        accounts = f"/api/v1/namespaces/{self.namespace}/serviceaccounts"
        await self.api.request("create", accounts, body={"metadata": {"name": "cpt-trial"}})
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(ApiError):
            if not self.keep:
                await self.api.request("delete", f"/api/v1/namespaces/{self.namespace}")
        await self.api.close()

    # --- what people do ---------------------------------------------------------------------------------------------

    async def apply(self, name: str, spec: CPTExperimentSpec | Mapping[str, Any], manager: str = "kubectl") -> Any:
        """`kubectl apply --server-side`; the object."""
        document = spec.to_dict() if isinstance(spec, CPTExperimentSpec) else dict(spec)
        body = {
            "apiVersion": Kind.EXPERIMENT.api_version,
            "kind": Kind.EXPERIMENT.kind,
            "metadata": {"namespace": self.namespace, "name": name},
            "spec": document,
        }
        query = {"fieldManager": manager, "fieldValidation": "Strict", "force": "true"}
        return await self.api.request("apply", Kind.EXPERIMENT.path(self.namespace, name), query=query, body=body)

    async def create(self, kind: Kind, name: str, spec: Mapping[str, Any], **metadata: Any) -> Any:
        """`kubectl create`; the object."""
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"namespace": self.namespace, "name": name} | metadata,
            "spec": dict(spec),
        }
        return await self.api.request(
            "create", kind.path(self.namespace), query={"fieldValidation": "Strict"}, body=body
        )

    async def patch(self, kind: Kind, name: str, *operations: Mapping[str, Any], part: str = "") -> Any:
        """JSON Patch; the object."""
        return await self.api.request("patch", kind.path(self.namespace, name) + part, body=list(operations))

    async def delete(self, kind: Kind, name: str, policy: str = "Background") -> None:
        """`kubectl delete --cascade=…`."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy}
        await self.api.request("delete", kind.path(self.namespace, name), body=body)

    # --- what is there ----------------------------------------------------------------------------------------------

    async def get(self, kind: Kind, name: str) -> dict[str, Any] | None:
        """An object, if it is there."""
        try:
            return await self.api.request("get", kind.path(self.namespace, name))
        except Gone:
            return None

    async def bodies(self, kind: Kind) -> list[dict[str, Any]]:
        """All of a kind."""
        pages = [page async for page in self.api.pages(kind.path(self.namespace))]
        return [item for page in pages for item in page["items"]]

    async def trials(self, experiment: str = "") -> list[TrialRecord]:
        """All, or those of an experiment."""
        records = [record_of(Kind.TRIAL, body) for body in await self.bodies(Kind.TRIAL)]
        return [r for r in records if isinstance(r, TrialRecord) and experiment in ("", r.owner_name)]

    async def jobs(self) -> list[JobRecord]:
        """All of them."""
        records = [record_of(Kind.JOB, body) for body in await self.bodies(Kind.JOB)]
        return [r for r in records if isinstance(r, JobRecord)]

    async def condition(self, kind: Kind, name: str, type_: str) -> dict[str, Any]:
        """Of an object; empty when it is not there."""
        body = await self.get(kind, name) or {}
        conditions = (body.get("status") or {}).get("conditions") or ()
        return next((c for c in conditions if c["type"] == type_), {})

    async def status(self, name: str = "sweep") -> dict[str, Any]:
        """Of an experiment."""
        body = await self.get(Kind.EXPERIMENT, name) or {}
        status: dict[str, Any] = body.get("status") or {}
        return status

    def requests(self, since: float = 0.0) -> list[Request]:
        """What the operator has asked of the API server about this namespace, from the audit log."""
        events = self.lab.plane.audit(max(self.began, since), "cpt-operator")
        found = [(event, event["objectRef"]) for event in events if "objectRef" in event]
        return [
            Request(event["verb"], place["resource"], place.get("name", ""), event["responseStatus"]["code"])
            for event, place in found
            if place.get("namespace") == self.namespace
        ]

    def made(self, kind: Kind) -> Counter[str]:
        """How often the operator has made each object of that kind."""
        return Counter(r.name for r in self.requests() if (r.verb, r.resource, r.code) == ("create", kind.plural, 201))

    # --- waiting ----------------------------------------------------------------------------------------------------

    async def until(self, check: Callable[[], Awaitable[bool]], seconds: float = 60, *keep: OperatorProcess) -> None:
        """Return as soon as `check` holds; meanwhile processes to keep are started again when they end."""
        end = time.monotonic() + seconds
        while not await check():
            for node in self.nodes:
                if node.done():
                    raise AssertionError("the kubelet of the test failed") from node.exception()
            for process in keep:
                process.keep()
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds} s:\n{await self.describe()}")
            await asyncio.sleep(_POLL_SECONDS)

    async def until_reason(self, reason: str, name: str = "sweep", seconds: float = 60, *keep: OperatorProcess) -> None:
        """Until the experiment's condition Ready has that reason."""

        async def has_reason() -> bool:
            return (await self.condition(Kind.EXPERIMENT, name, "Ready")).get("reason") == reason

        await self.until(has_reason, seconds, *keep)

    async def describe(self) -> str:
        """For whoever reads a failure."""
        bodies = await self.bodies(Kind.EXPERIMENT)
        lines = [f"{body['metadata']['name']}: {body.get('status', {}).get('conditions')}" for body in bodies]
        lines += [f"{t.name}: {reason_of(t.status)}" for t in await self.trials()]
        logs = sorted(self.lab.folder.glob("operator-*.log"), key=lambda path: path.stat().st_mtime)
        return "\n".join([*lines, *(f"--- {log.name}\n{log.read_text()[-3000:]}" for log in logs[-2:])])


# --- the kubelet ------------------------------------------------------------------------------------------------------


def commits(document: TrialDocument) -> Result:
    """All goes well."""
    return make_result(document.spec, attempt=document.attempt)


@dataclass
class Kubelet:
    """Training-operator and kubelet in one: starts pods, lets trials commit, marks pods and jobs."""

    team: Team
    commit: Commit = commits
    seen: dict[str, str] = field(default_factory=dict)
    """Names of jobs that ever were, with their trial's digest."""
    _started: set[str] = field(default_factory=set)

    async def work(self) -> None:
        """For ever."""
        while True:
            for body in await self.team.bodies(Kind.JOB):
                if not body["metadata"].get("deletionTimestamp") and not body.get("status", {}).get("conditions"):
                    try:
                        await self._run(body)
                    except (Conflict, Gone):
                        continue  # it was deleted under our hands
            await asyncio.sleep(_POLL_SECONDS)

    async def _run(self, body: dict[str, Any]) -> None:
        document = document_of(body)
        self.seen[body["metadata"]["name"]] = document.digest
        if body["metadata"]["uid"] not in self._started:
            await self._start(body)
            self._started.add(body["metadata"]["uid"])
        result = self.commit(document)
        if result is None:
            return
        key = result_key(document.namespace, document.digest)
        await asyncio.to_thread(self.team.lab.store.put, key, result.to_dict())
        await self.end(body["metadata"]["name"], 0)

    async def _start(self, body: dict[str, Any]) -> None:
        for type_, replica in body["spec"]["pytorchReplicaSpecs"].items():
            for index in range(replica["replicas"]):
                await self._start_pod(body, replica["template"], type_.lower(), index)

    async def _start_pod(self, job: dict[str, Any], template: dict[str, Any], type_: str, index: int) -> None:
        meta = job["metadata"]
        owner = {"apiVersion": job["apiVersion"], "kind": job["kind"], "name": meta["name"], "uid": meta["uid"]}
        labels = {"training.kubeflow.org/replica-type": type_, "training.kubeflow.org/replica-index": str(index)}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{meta['name']}-{type_}-{index}",
                "labels": template["metadata"]["labels"] | labels,
                "ownerReferences": [owner | {"controller": True, "blockOwnerDeletion": True}],
            },
            "spec": template["spec"],
        }
        made = await self.team.api.request("create", Kind.POD.path(self.team.namespace), body=pod)
        await set_pod_state(self.team, made["metadata"]["name"], "Running", {"running": {"startedAt": present_time()}})

    async def end(self, job: str, code: int, message: str = "") -> None:
        """The job's pods exit with `code`."""
        for body in await self.team.bodies(Kind.POD):
            if body["metadata"]["name"].startswith(f"{job}-"):
                state = {"terminated": {"exitCode": code, "message": message, "finishedAt": present_time()}}
                await set_pod_state(self.team, body["metadata"]["name"], "Failed" if code else "Succeeded", state)
        await self.mark(job, "Failed" if code else "Succeeded")

    async def mark(self, job: str, condition: str) -> None:
        """The job's condition."""
        entry = {"type": condition, "status": "True", "reason": f"PyTorchJob{condition}", "message": ""}
        status = {"conditions": [entry], "replicaStatuses": {}, "completionTime": present_time()}
        operation = {"op": "add", "path": "/status", "value": status}
        await self.team.patch(Kind.JOB, job, operation, part="/status")


class Node(Protocol):
    """What plays a kubelet."""

    team: Team

    async def work(self) -> None:
        """For ever."""


N = TypeVar("N", bound=Node)


@asynccontextmanager
async def at_work(node: N) -> AsyncIterator[N]:
    """It works while inside."""
    task = asyncio.create_task(node.work())
    node.team.nodes.add(task)
    try:
        yield node
    finally:
        node.team.nodes.discard(task)
        task.cancel()
        await asyncio.wait([task])


def kubelet(team: Team, commit: Commit = commits) -> AbstractAsyncContextManager[Kubelet]:
    """It works while inside."""
    return at_work(Kubelet(team, commit))


async def set_pod_state(team: Team, pod: str, phase: str, state: dict[str, Any]) -> None:
    """As a kubelet reports its one container."""
    container = {"name": "pytorch", "image": "", "imageID": "", "ready": True, "restartCount": 0, "state": state}
    status = {"phase": phase, "startTime": present_time(), "containerStatuses": [container]}
    await team.patch(Kind.POD, pod, {"op": "add", "path": "/status", "value": status}, part="/status")


def document_of(job: Mapping[str, Any]) -> TrialDocument:
    """What a job's pods get."""
    spec = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]
    text = next(e["value"] for e in spec["containers"][0]["env"] if e["name"] == "CPT_TRIAL")
    return TrialDocument.model_validate_json(text)


def present_time() -> str:
    """As objects write it."""
    from datetime import UTC, datetime

    return rfc3339.text(datetime.now(UTC))
