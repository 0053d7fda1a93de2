"""A cluster in memory for tests of reconcilers: real store, queue, artifacts and planner; the API server, the kubelet,
S3 and the clock are small stand-ins whose faults a test can choose.

Everything that the API server would refuse or cut is the business of the tests on a real one.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

from botocore.exceptions import ClientError

from cpt_api.layout import progress_key, result_key
from cpt_api.result import Result
from cpt_api.trial import CPTTrialStatus, TrialDocument
from cpt_operator import rfc3339
from cpt_operator.artifacts import Artifacts
from cpt_operator.cluster import AlreadyExists, ApiError, Cluster, Conflict, EventRecord, Gone
from cpt_operator.experiments import reconcile_experiment
from cpt_operator.intake import Intake
from cpt_operator.kinds import Key, Kind
from cpt_operator.memory import Memory
from cpt_operator.queue import Queue
from cpt_operator.recorder import Recorder
from cpt_operator.records import ExperimentRecord, JobRecord, PodRecord, Record, TrialRecord, record_of
from cpt_operator.runtime import Reconcile, Requeue, Runtime
from cpt_operator.settings import Settings
from cpt_operator.store import Store
from cpt_operator.trials import reconcile_trial
from cpt_operator.workers import Workers
from make import make_result

NAMESPACE = "team"
START = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def make_settings(**changes: Any) -> Settings:
    """What a small chart renders."""
    settings: dict[str, Any] = {
        "artifactStore": {"bucket": "cpt", "endpoint": "http://s3:8333"},
        "trainerImage": "example.test/cpt-trainer:1",
        "lease": {"namespace": "cpt-system"},
    }
    return Settings.model_validate(settings | changes)


class MemoryS3:
    """Objects by key; `down` answers like a store that is ill."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.down: int | None = None
        self.gets = 0

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803 - boto3's names
        """As boto3's client."""
        self.gets += 1
        status = self.down or (404 if Key not in self.objects else 200)
        if status != 200:
            error = {"Error": {"Code": str(status), "Message": Bucket}, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(cast("Any", error), "GetObject")
        return {"Body": io.BytesIO(self.objects[Key])}


class MemoryCluster(Cluster):
    """The seam to the API server; an answer takes a moment, in which other workers go on."""

    def __init__(self, world: World, intake: Intake) -> None:
        self.world = world
        self.intake = intake

    async def create(self, kind: Kind, body: Mapping[str, Any]) -> Record | AlreadyExists:
        """As Cluster."""
        await asyncio.sleep(0)
        meta = body["metadata"]
        known = self.world.objects.get(Key(kind, meta["namespace"], meta["name"]))
        if known is not None:
            return AlreadyExists(record_of(kind, known))
        if self.world.refuse_create and kind is Kind.JOB:
            raise self.world.refuse_create
        if self.world.refuse_trial and kind is Kind.TRIAL:
            raise self.world.refuse_trial
        return self._write("create", kind, body)

    async def apply_status(self, record: ExperimentRecord | TrialRecord, status: Mapping[str, Any]) -> Record:
        """As Cluster."""
        await asyncio.sleep(0)
        json.dumps(status)  # it must be plain JSON
        return self._write("status", record.KIND, self._current(record) | {"status": dict(status)})

    async def apply_run(self, record: TrialRecord, run: Mapping[str, Any]) -> Record:
        """As Cluster."""
        await asyncio.sleep(0)
        body = deepcopy(self._current(record))
        cancel = body["spec"].get("run", {}).get("cancel")
        body["spec"]["run"] = dict(run) | ({"cancel": cancel} if cancel is not None else {})
        body["metadata"]["generation"] += 1
        return self._write("run", Kind.TRIAL, body)

    async def delete(self, record: Record) -> None:
        """As Cluster."""
        await asyncio.sleep(0)
        if record.key in self.world.objects:
            self._current(record)
            self.world.writes.append(("delete", record.key))
            self.world.remove(record.key)

    async def event(self, record: Record, _type: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """As Cluster."""
        self.world.events.append((record.name, reason, message))

    async def list_events(self, _namespace: str, _involved_uid: str, _reason: str) -> list[EventRecord]:
        """As Cluster."""
        return self.world.failures

    def _current(self, record: Record) -> dict[str, Any]:
        body = self.world.objects.get(record.key)
        if body is None:
            raise Gone(str(record.key))
        if body["metadata"]["resourceVersion"] != str(record.resource_version):
            raise Conflict(f"{record.key}: {body['metadata']['resourceVersion']} is not {record.resource_version}")
        return body

    def _write(self, verb: str, kind: Kind, body: Mapping[str, Any]) -> Record:
        world = self.world
        number, effect, error = world.die or (0, "", Exception)
        world.die = (number - 1, effect, error) if world.die else None
        if number == 1 and effect == "before":
            raise error
        world.writes.append((verb, Key(kind, body["metadata"]["namespace"], body["metadata"]["name"])))
        record: Record = world.put(kind, body)
        if number == 1:
            raise error
        return record


Kubelet = Callable[["World", JobRecord], None]


def works(world: World, job: JobRecord) -> None:
    """A kubelet on which every trial commits the result that `make_result` gives it."""
    if not world.store.pods_of(job.uid):
        world.start_pods(job)
    else:
        world.commit(job)
        world.finish(job, 0)


class Operator:
    """One process of the operator: what it knows, and four workers."""

    def __init__(self, world: World, settings: Settings, *, backend_served: bool = True) -> None:
        self.store = Store()
        self.queue = Queue(world.seconds, minimum_interval_seconds=1.0, jitter=lambda: 0.5)
        self.intake = Intake(self.store, self.queue)
        self.runtime = Runtime(
            settings=settings,
            store=self.store,
            cluster=MemoryCluster(world, self.intake),
            artifacts=Artifacts(
                settings.artifact_store, clock=world.seconds, connect=lambda _store: cast("Any", world.s3)
            ),
            queue=self.queue,
            memory=Memory(),
            now=lambda: world.now,
            backend_served=backend_served,
        )
        reconcilers = {
            Kind.EXPERIMENT: self._watched(reconcile_experiment),
            Kind.TRIAL: self._watched(reconcile_trial),
        }
        self.workers = Workers(self.runtime, reconcilers, Recorder())
        self.turns = 0
        self.errors: list[Exception] = []
        for kind in Kind:
            records = [record_of(kind, body) for key, body in world.objects.items() if key.kind is kind]
            self.intake.listed(kind, "", records, max((r.resource_version for r in records), default=0))

    async def work(self) -> bool:
        """Up to four turns at the same time; False when there was nothing to do."""
        keys = [key for _ in range(4) if (key := self.queue.take()) is not None]
        self.turns += len(keys)
        await asyncio.gather(*map(self.workers.turn, keys))
        if self.errors:
            raise self.errors[0]  # a worker logs it and goes on; a test wants to know
        return bool(keys)

    def _watched(self, reconcile: Reconcile) -> Reconcile:
        async def watched(runtime: Runtime, key: Key) -> Requeue | None:
            try:
                return await reconcile(runtime, key)
            except ApiError:
                raise
            except Exception as error:
                self.errors.append(error)
                raise

        return watched

    def notify(self, record: Record, *, gone: bool) -> None:
        """As the watches do."""
        if gone:
            self.intake.gone(record)
        else:
            self.intake.seen(record)


class World:
    """All of it. `await world.settle()` lets the operator work until it waits for something."""

    def __init__(
        self, *, kubelet: Kubelet | None = None, operators: int = 1, backend_served: bool = True, **settings: Any
    ) -> None:
        self.now = START
        self.kubelet = kubelet
        self.s3 = MemoryS3()
        self.objects: dict[Key, dict[str, Any]] = {}
        self.versions = itertools.count(1)
        self.writes: list[tuple[str, Key]] = []
        self.events: list[tuple[str, str, str]] = []
        self.failures: list[EventRecord] = []
        """What the training-operator says about pods that it may not create."""
        self.refuse_create: Exception | None = None
        """How the API server answers to the creation of a job."""
        self.refuse_trial: Exception | None = None
        """And of a trial."""
        self.die: tuple[int, str, type[BaseException]] | None = None
        """At which write from now on, `before` or `after` its effect, and how."""
        self.settings = make_settings(**settings)
        self.operators = [Operator(self, self.settings, backend_served=backend_served) for _ in range(operators)]

    @property
    def store(self) -> Store:
        """Of the first operator."""
        return self.operators[0].store

    @property
    def turns(self) -> int:
        """Of all operators."""
        return sum(operator.turns for operator in self.operators)

    def seconds(self) -> float:
        """The monotonic clock."""
        return (self.now - START).total_seconds()

    # --- the API server -----------------------------------------------------------------------------------------

    def put(
        self, kind: Kind, manifest: Mapping[str, Any], written_through: Callable[[Record], None] = lambda _: None
    ) -> Any:
        """Store a new object or a new version of one, and tell the writer and the watches."""
        body = deepcopy(dict(manifest))
        meta = body["metadata"]
        version = next(self.versions)
        meta.setdefault("uid", f"uid-{version}")
        meta.setdefault("generation", 1)
        meta.setdefault("creationTimestamp", rfc3339.text(self.now))
        meta["resourceVersion"] = str(version)
        record = record_of(kind, body)
        self.objects[record.key] = body
        written_through(record)
        for operator in self.operators:
            operator.notify(record, gone=False)
        return record

    def remove(self, key: Key) -> None:
        """The object is gone, and what it owned; pods get their grace."""
        body = self.objects.pop(key)
        body["metadata"]["resourceVersion"] = str(next(self.versions))
        record = record_of(key.kind, body)
        for operator in self.operators:
            operator.notify(record, gone=True)
        for child_key, child in list(self.objects.items()):
            owners = child["metadata"].get("ownerReferences", ())
            if not any(owner["uid"] == record.uid for owner in owners):
                continue
            if child_key.kind is Kind.POD:
                child["metadata"]["deletionTimestamp"] = rfc3339.text(self.now + timedelta(seconds=180))
                self.put(Kind.POD, child)
            else:
                self.remove(child_key)

    # --- what people do -----------------------------------------------------------------------------------------

    def add(self, kind: Kind, name: str, spec: Mapping[str, Any], **meta: Any) -> Any:
        """`kubectl apply`."""
        body = {
            "metadata": {"namespace": NAMESPACE, "name": name} | meta,
            "spec": dict(spec),
            "status": {"observedGeneration": -1},
        }
        return self.put(kind, body)

    def change(self, kind: Kind, name: str, change: Callable[[dict[str, Any]], None]) -> Any:
        """`kubectl edit`."""
        body = deepcopy(self.objects[Key(kind, NAMESPACE, name)])
        change(body["spec"])
        body["metadata"]["generation"] += 1
        return self.put(kind, body)

    # --- what is there ------------------------------------------------------------------------------------------

    def trial(self, name: str) -> CPTTrialStatus:
        """A trial's status."""
        record = self.store.trial(NAMESPACE, name)
        assert record is not None
        return CPTTrialStatus.model_validate(record.status)

    def condition(self, kind: Kind, name: str, type_: str = "Succeeded") -> tuple[str, str, str] | None:
        """(status, reason, message) of a condition."""
        status = self.objects[Key(kind, NAMESPACE, name)]["status"]
        found = next((c for c in status.get("conditions", ()) if c["type"] == type_), None)
        return (found["status"], found["reason"], found["message"]) if found else None

    def jobs(self) -> list[JobRecord]:
        """All of them, by name."""
        records = (record_of(Kind.JOB, body) for key, body in self.objects.items() if key.kind is Kind.JOB)
        return sorted((r for r in records if isinstance(r, JobRecord)), key=lambda r: r.name)

    def jobs_at_work(self) -> list[JobRecord]:
        """Those that have not ended."""
        return [job for job in self.jobs() if not any(c.type in ("Succeeded", "Failed") for c in job.conditions)]

    def pods_leaving(self) -> list[PodRecord]:
        """Those that are being deleted."""
        records = (record_of(Kind.POD, body) for key, body in self.objects.items() if key.kind is Kind.POD)
        return [record for record in records if isinstance(record, PodRecord) and record.deleting]

    def document(self, job: JobRecord) -> TrialDocument:
        """What the job's pods get."""
        spec = self.objects[job.key]["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]
        text = next(e["value"] for e in spec["containers"][0]["env"] if e["name"] == "CPT_TRIAL")
        return TrialDocument.model_validate_json(text)

    # --- what the cluster does ----------------------------------------------------------------------------------

    def start_pods(self, job: JobRecord, *, node: str = "node-1", **state: Any) -> None:
        """All pods of the job, running unless `state` says otherwise."""
        body = self.objects[job.key]
        for type_, replica in body["spec"]["pytorchReplicaSpecs"].items():
            for index in range(replica["replicas"]):
                self._pod(job, type_.lower(), index, node, state or {"running": {"startedAt": rfc3339.text(self.now)}})

    def _pod(self, job: JobRecord, type_: str, index: int, node: str, state: Mapping[str, Any]) -> None:
        labels = {
            "training.kubeflow.org/replica-type": type_,
            "training.kubeflow.org/replica-index": str(index),
            "cpt.dev/trial": job.labels["cpt.dev/trial"],
        }
        body = {
            "metadata": {
                "namespace": NAMESPACE,
                "name": f"{job.name}-{type_}-{index}",
                "labels": labels,
                "ownerReferences": [{"kind": "PyTorchJob", "name": job.name, "uid": job.uid, "controller": True}],
            },
            "spec": {"nodeName": node} if node else {},
            "status": {
                "phase": "Running" if "running" in state else "Pending",
                "startTime": rfc3339.text(self.now),
                "containerStatuses": [{"name": "pytorch", "state": dict(state)}],
            },
        }
        self.put(Kind.POD, body)

    def pod(self, job: JobRecord, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the job's first pod."""
        first: PodRecord = self.store.pods_of(job.uid)[0]
        body = deepcopy(self.objects[first.key])
        change(body)
        self.put(Kind.POD, body)

    def finish(self, job: JobRecord, code: int, *, message: str = "", disruption: str = "") -> None:
        """The job's first pod exits with `code`; the training-operator notices."""

        def end(body: dict[str, Any]) -> None:
            terminated = {"exitCode": code, "message": message, "finishedAt": rfc3339.text(self.now)}
            body["status"]["phase"] = "Failed" if code else "Succeeded"
            body["status"]["containerStatuses"][0]["state"] = {"terminated": terminated}
            if disruption:
                target = {"type": "DisruptionTarget", "status": "True", "reason": disruption, "message": "disrupted"}
                body["status"]["conditions"] = [target]

        self.pod(job, end)
        self.mark(job, "Failed" if code else "Succeeded")

    def mark(self, job: JobRecord, condition: str) -> None:
        """The job's condition."""
        body = deepcopy(self.objects[job.key])
        condition_body = {"type": condition, "status": "True", "reason": f"PyTorchJob{condition}", "message": ""}
        body["status"] = {"conditions": [condition_body], "completionTime": rfc3339.text(self.now)}
        self.put(Kind.JOB, body)

    def commit(self, job: JobRecord, **changes: Any) -> Result:
        """The job's trial writes its result."""
        document = self.document(job)
        result = make_result(document.spec, attempt=document.attempt, **changes)
        self.write(result_key(NAMESPACE, document.digest), result.to_dict())
        return result

    def commit_step(self, job: JobRecord, step: int, **changes: Any) -> None:
        """The job's trial writes its progress."""
        document = self.document(job)
        progress = {
            "protocol": 1,
            "digest": document.digest,
            "attempt": document.attempt,
            "tokens": str(step),
            "plannedTokens": "1000",
            "step": step,
            "committedStep": step,
            "time": rfc3339.text(self.now),
        }
        self.write(progress_key(NAMESPACE, document.digest), progress | changes)

    def write(self, key: str, document: Mapping[str, Any]) -> None:
        """Put a document into the artifact store."""
        self.s3.objects[key] = json.dumps(document).encode()

    # --- time ---------------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """A new operator: everything that was in its memory is gone, everything is looked at again."""
        self.operators = [Operator(self, self.settings) for _ in self.operators]

    async def settle(self, seconds: float = 5.0) -> None:
        """Let the operator work for so long: turns take no time, delayed keys come when they are due."""
        until = self.now + timedelta(seconds=seconds)
        while self.now <= until:
            while any([await operator.work() for operator in self.operators]):
                pass
            for job in self.jobs_at_work():
                if self.kubelet:
                    self.kubelet(self, job)
            if not any(operator.queue.statistics().depth for operator in self.operators):
                self.now += timedelta(seconds=self._pause_seconds((until - self.now).total_seconds()))

    def _pause_seconds(self, left_seconds: float) -> float:
        dues = [due for operator in self.operators if (due := operator.queue.next_due_seconds()) is not None]
        return min(max(min(dues, default=1.0), 0.05), max(left_seconds, 0.05))
