"""The only module that writes objects to the API server: creates, status, the `run` block of owned trials, deletes,
events.

Every answer is written through to the store. Every update and delete carries the uid and resourceVersion of the
record it was decided on: when the object is another by now the API server answers 409, `Conflict` is raised, and the
key's next turn looks at the present state.

    status   server-side apply: what an earlier turn wrote and this one leaves out is removed
    run      JSON Patch of the whole block: server-side apply never removes what the creating POST wrote
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

import structlog

from cpt_operator import rfc3339
from cpt_operator.apiserver import (
    MANAGER,
    ApiError,
    ApiServer,
    ApiUnavailable,
    Conflict,
    Forbidden,
    Gone,
    NameTaken,
    NotServed,
    Rejected,
)
from cpt_operator.intake import Intake
from cpt_operator.kinds import Kind
from cpt_operator.memory import Memory
from cpt_operator.records import ExperimentRecord, Record, TrialRecord, record_of

__all__ = [  # the errors stand here too: a reconciler needs nothing else of the API server
    "AlreadyExists",
    "ApiError",
    "ApiUnavailable",
    "Cluster",
    "Conflict",
    "EventRecord",
    "Forbidden",
    "Gone",
    "NotServed",
    "Rejected",
]

log = structlog.get_logger()

R = TypeVar("R", bound=Record)

_EVENT_MESSAGE_MAX = 1000
_EVENT_REPEAT_SECONDS = 600
_EVENTS = Kind.POD.root  # core/v1, as pods
_MANAGED = {"fieldManager": MANAGER, "fieldValidation": "Strict"}


@dataclass(frozen=True, slots=True)
class AlreadyExists:
    """An object of that name was there; whether it is ours, its owner uid and digest tell."""

    record: Record


@dataclass(frozen=True, slots=True)
class EventRecord:
    """An event that somebody else recorded."""

    reason: str
    message: str
    count: int
    last_time: str


class Cluster:
    """All methods may raise any ApiError unless they say otherwise."""

    def __init__(self, api: ApiServer, intake: Intake, memory: Memory, now: Callable[[], datetime]) -> None:
        self._api = api
        self._intake = intake
        self._memory = memory
        self._now = now

    async def create(self, kind: Kind, body: Mapping[str, Any]) -> Record | AlreadyExists:
        """POST `body` (a whole manifest with metadata.namespace and name); the record of what is there now."""
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        try:
            made = await self._api.request("create", kind.path(namespace), query=_MANAGED, body=body)
        except NameTaken:
            return AlreadyExists(self._seen(kind, await self._api.request("get", kind.path(namespace, name))))
        return self._seen(kind, made)

    async def apply_status(self, record: ExperimentRecord | TrialRecord, status: Mapping[str, Any]) -> Record:
        """Make `status` the object's status, if it still is as in `record`. Fields left out are removed."""
        body = {
            "apiVersion": record.KIND.api_version,
            "kind": record.KIND.kind,
            "metadata": {
                "namespace": record.namespace,
                "name": record.name,
                "resourceVersion": str(record.resource_version),
            },
            "status": status,
        }
        path = f"{record.KIND.path(record.namespace, record.name)}/status"
        try:
            answer = await self._api.request("apply", path, query=_MANAGED | {"force": "true"}, body=body)
        except Conflict:
            await self._look(record)
            raise
        written = record_of(record.KIND, answer)
        self._intake.written(written)
        return written

    async def apply_run(self, record: TrialRecord, run: Mapping[str, Any]) -> Record:
        """Make `run` the trial's run block, if it still is as in `record`. `cancel` is the user's and stays."""
        cancel = (record.spec.get("run") or {}).get("cancel")
        block = dict(run) if cancel is None else dict(run) | {"cancel": cancel}
        patch = [
            # replacing it by what it should be makes the API server compare
            {"op": "replace", "path": "/metadata/resourceVersion", "value": str(record.resource_version)},
            {"op": "add", "path": "/spec/run", "value": block},
        ]
        try:
            path = Kind.TRIAL.path(record.namespace, record.name)
            return self._seen(Kind.TRIAL, await self._api.request("patch", path, query=_MANAGED, body=patch))
        except Conflict:
            await self._look(record)
            raise

    async def delete(self, record: Record) -> None:
        """Delete the object, if it still is as in `record`; fine when it is gone already."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": record.uid, "resourceVersion": str(record.resource_version)},
        }
        try:
            answer = await self._api.request("delete", record.KIND.path(record.namespace, record.name), body=body)
        except Gone:
            self._intake.gone(record)
        except Conflict:
            await self._look(record)
            raise
        else:
            if answer.get("kind") == record.KIND.kind:  # finalizers keep it for a while
                self._seen(record.KIND, answer)
            else:
                self._intake.gone(record)

    async def event(self, record: Record, type_: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Record an event; one that was recorded in the last ten minutes is not repeated. Never raises ApiError."""
        now = self._now()
        seconds, what = now.timestamp(), f"event {reason}: {message}"
        if self._memory.due_in_seconds(what, record.uid, _EVENT_REPEAT_SECONDS, seconds):
            return
        self._memory.done(what, record.uid, seconds)
        body = _event(record, type_, reason, message, now)
        try:
            await self._api.request("create", f"{_EVENTS}/namespaces/{record.namespace}/events", body=body)
        except ApiError as error:
            log.warning("event not recorded", object=str(record.key), reason=reason, error=str(error))

    async def list_events(self, namespace: str, involved_uid: str, reason: str) -> list[EventRecord]:
        """Events with that reason about an object, such as FailedCreatePod about a job; oldest first."""
        query = {"fieldSelector": f"involvedObject.uid={involved_uid},reason={reason}"}
        answer = await self._api.request("list", f"{_EVENTS}/namespaces/{namespace}/events", query=query)
        events = [
            EventRecord(
                reason=str(item.get("reason", "")),
                message=str(item.get("message", "")),
                count=item.get("count") or 1,
                last_time=str(item.get("lastTimestamp") or item.get("eventTime") or ""),
            )
            for item in answer.get("items", ())
        ]
        return sorted(events, key=lambda event: event.last_time)

    async def _look(self, record: Record) -> None:
        """See what is there, so that the next turn decides on it even when the watch lags."""
        try:
            self._seen(record.KIND, await self._api.request("get", record.KIND.path(record.namespace, record.name)))
        except Gone:
            self._intake.gone(record)

    def _seen(self, kind: Kind, body: Mapping[str, Any]) -> Record:
        record = record_of(kind, body)
        self._intake.seen(record)
        return record


def _event(
    record: Record, type_: Literal["Normal", "Warning"], reason: str, message: str, now: datetime
) -> dict[str, Any]:
    time = rfc3339.text(now)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": record.namespace, "generateName": f"{record.name}."},
        "involvedObject": {
            "apiVersion": record.KIND.api_version,
            "kind": record.KIND.kind,
            "namespace": record.namespace,
            "name": record.name,
            "uid": record.uid,
            "resourceVersion": str(record.resource_version),
        },
        "type": type_,
        "reason": reason,
        "message": message[:_EVENT_MESSAGE_MAX],
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
