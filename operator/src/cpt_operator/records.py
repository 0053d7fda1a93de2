"""Frozen records of what the operator watches, and how they are read off the API server's objects.

A pod of 20 KB becomes a record of 2 KB: a phase, a node, what its containers wait for or ended with, its conditions.
Experiments and trials keep spec and status as they stand, unparsed: a bad one is a condition, not a crash.

>>> pod = {"metadata": {"namespace": "a", "name": "p", "uid": "1", "resourceVersion": "7"}}
>>> record_of(Kind.POD, pod | {"status": {"phase": "Running"}}).phase
'Running'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from cpt_api import GROUP
from cpt_api.values import Digest, Tokens
from cpt_operator.kinds import DIGEST_ANNOTATION, Key, Kind
from cpt_operator.standing import Standing, standing_of, tokens_of

Body = Mapping[str, Any]
"""An object, or a part of it, as the API server speaks of it."""

_REPLICA_TYPE = "training.kubeflow.org/replica-type"
_REPLICA_INDEX = "training.kubeflow.org/replica-index"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """What every record has."""

    KIND: ClassVar[Kind]

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: int
    """Numbers of one API server: a greater one is newer, also across objects."""
    created: str
    """RFC 3339."""
    deleting: str | None
    """deletionTimestamp: gone by then, if its finalizers and grace allow."""
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    """Only those of our own group; users' may be large."""
    owner_uid: str | None
    """Of the owner reference with `controller: true`, as the next two."""
    owner_kind: str | None
    owner_name: str | None

    @property
    def key(self) -> Key:
        """Its place in store and queue."""
        return Key(self.KIND, self.namespace, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentRecord(Meta):
    """A CPTExperiment."""

    KIND: ClassVar[Kind] = Kind.EXPERIMENT

    spec: Body
    status: Body


@dataclass(frozen=True, kw_only=True)
class TrialRecord(Meta):
    """A CPTTrial. Without slots, so that what is read off it is kept: an experiment may have thousands."""

    KIND: ClassVar[Kind] = Kind.TRIAL

    spec: Body
    status: Body

    @cached_property
    def key(self) -> Key:
        """Its place in store and queue."""
        return Key(self.KIND, self.namespace, self.name)

    @cached_property
    def digest(self) -> Digest | None:
        """As its status says, or before that as its maker noted: a lookup key, to be verified where it matters."""
        digest = self.status.get("digest") or self.annotations.get(DIGEST_ANNOTATION)
        return Digest(digest) if isinstance(digest, str) else None

    @cached_property
    def standing(self) -> Standing:
        """What its status says."""
        return standing_of(self.status)

    @cached_property
    def tokens(self) -> Tokens:
        """Trained so far."""
        return tokens_of(self.status)


@dataclass(frozen=True, slots=True)
class ConditionRecord:
    """A condition of a job or pod; looked up by type, never by position."""

    type: str
    status: str
    reason: str
    message: str
    last_transition_time: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord(Meta):
    """A PyTorchJob: one attempt of a trial."""

    KIND: ClassVar[Kind] = Kind.JOB

    conditions: tuple[ConditionRecord, ...]
    suspended: bool
    """`runPolicy.suspend`: Kueue's field, never written by us."""
    replicas: Mapping[str, int]
    """Wanted pods by replica type, in lower case as in the pods' labels: {"master": 1, "worker": 3}."""
    start_time: str | None
    completion_time: str | None

    def condition(self, type_: str) -> ConditionRecord | None:
        """The condition of that type, if it is there."""
        return next((c for c in self.conditions if c.type == type_), None)


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """A container's present state: waiting, running, terminated, or nothing known yet."""

    name: str
    init: bool
    waiting_reason: str | None = None
    """Such as ImagePullBackOff."""
    waiting_message: str | None = None
    running_since: str | None = None
    exit_code: int | None = None
    """Set when terminated, as the next four."""
    terminated_reason: str | None = None
    """Such as OOMKilled."""
    message: str | None = None
    """Its termination message, or the end of its log."""
    started: str | None = None
    finished: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRecord(Meta):
    """A pod of an attempt. Exit codes and DisruptionTarget vanish with it: look before it is gone."""

    KIND: ClassVar[Kind] = Kind.POD

    phase: str
    reason: str | None
    """Of the pod as a whole, such as Evicted."""
    message: str | None
    node: str | None
    start_time: str | None
    """When a kubelet took it."""
    replica_type: str | None
    """`master` or `worker`."""
    replica_index: int | None
    containers: tuple[ContainerRecord, ...]
    conditions: tuple[ConditionRecord, ...]
    deletion_grace_seconds: int | None
    """Counted in `deleting` already."""

    def condition(self, type_: str) -> ConditionRecord | None:
        """The condition of that type, if it is there."""
        return next((c for c in self.conditions if c.type == type_), None)

    def container(self, name: str) -> ContainerRecord | None:
        """The container of that name, init containers excluded."""
        return next((c for c in self.containers if c.name == name and not c.init), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadRecord(Meta):
    """Kueue's Workload: a job's place in a queue."""

    KIND: ClassVar[Kind] = Kind.WORKLOAD

    active: bool
    """`spec.active`: a Workload that is not waits for somebody."""
    conditions: tuple[ConditionRecord, ...]

    def condition(self, type_: str) -> ConditionRecord | None:
        """The condition of that type, if it is there."""
        return next((c for c in self.conditions if c.type == type_), None)


Record = ExperimentRecord | TrialRecord | JobRecord | PodRecord | WorkloadRecord


def record_of(kind: Kind, body: Body) -> Record:
    """The record of an object that the API server sent.

    Raises KeyError, TypeError or ValueError for what is no such object.
    """
    meta = _meta(body["metadata"])
    spec, status = body.get("spec") or {}, body.get("status") or {}
    match kind:
        case Kind.EXPERIMENT:
            return ExperimentRecord(**meta, spec=spec, status=status)
        case Kind.TRIAL:
            return TrialRecord(**meta, spec=spec, status=status)
        case Kind.JOB:
            return _job(meta, spec, status)
        case Kind.POD:
            return _pod(meta, body["metadata"], spec, status)
        case Kind.WORKLOAD:
            return WorkloadRecord(**meta, active=spec.get("active") is not False, conditions=_conditions(status))


def _meta(metadata: Body) -> dict[str, Any]:
    owner: Body = next((o for o in metadata.get("ownerReferences") or () if o.get("controller")), {})
    annotations = metadata.get("annotations") or {}
    return {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "generation": metadata.get("generation", 0),
        "resource_version": int(metadata["resourceVersion"]),
        "created": metadata.get("creationTimestamp", ""),
        "deleting": metadata.get("deletionTimestamp"),
        "labels": dict(metadata.get("labels") or {}),
        "annotations": {key: value for key, value in annotations.items() if key.startswith(f"{GROUP}/")},
        "owner_uid": owner.get("uid"),
        "owner_kind": owner.get("kind"),
        "owner_name": owner.get("name"),
    }


def _job(meta: dict[str, Any], spec: Body, status: Body) -> JobRecord:
    replicas = spec.get("pytorchReplicaSpecs") or {}
    return JobRecord(
        **meta,
        conditions=_conditions(status),
        suspended=bool((spec.get("runPolicy") or {}).get("suspend")),
        replicas={type_.lower(): (replica or {}).get("replicas", 1) for type_, replica in replicas.items()},
        start_time=status.get("startTime"),
        completion_time=status.get("completionTime"),
    )


def _pod(meta: dict[str, Any], metadata: Body, spec: Body, status: Body) -> PodRecord:
    index = meta["labels"].get(_REPLICA_INDEX)
    return PodRecord(
        **meta,
        phase=status.get("phase", "Pending"),
        reason=status.get("reason"),
        message=status.get("message"),
        node=spec.get("nodeName"),
        start_time=status.get("startTime"),
        replica_type=meta["labels"].get(_REPLICA_TYPE),
        replica_index=int(index) if index is not None and index.isdecimal() else None,
        containers=_containers(status),
        conditions=_conditions(status),
        deletion_grace_seconds=metadata.get("deletionGracePeriodSeconds"),
    )


def _containers(status: Body) -> tuple[ContainerRecord, ...]:
    main = [_container(state, init=False) for state in status.get("containerStatuses") or ()]
    init = [_container(state, init=True) for state in status.get("initContainerStatuses") or ()]
    return (*main, *init)


def _container(container: Body, *, init: bool) -> ContainerRecord:
    state = container.get("state") or {}
    waiting, running, ended = state.get("waiting") or {}, state.get("running") or {}, state.get("terminated") or {}
    return ContainerRecord(
        name=container["name"],
        init=init,
        waiting_reason=waiting.get("reason"),
        waiting_message=waiting.get("message"),
        running_since=running.get("startedAt"),
        exit_code=ended.get("exitCode"),
        terminated_reason=ended.get("reason"),
        message=ended.get("message"),
        started=ended.get("startedAt"),
        finished=ended.get("finishedAt"),
    )


def _conditions(status: Body) -> tuple[ConditionRecord, ...]:
    return tuple(
        ConditionRecord(
            type=condition["type"],
            status=condition["status"],
            reason=condition.get("reason") or "",
            message=condition.get("message") or "",
            last_transition_time=condition.get("lastTransitionTime"),
        )
        for condition in status.get("conditions") or ()
    )
