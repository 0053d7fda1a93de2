"""The only module that writes to the API server: creates, status, the `run` block of owned trials, deletes, events.

Every answer is written through to the store. Every update and delete carries the uid and resourceVersion of the
record it was decided on: when the object is another by now the API server answers 409, `Conflict` is raised, and the
key's next turn looks at the present state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from cpt_operator.kinds import Kind
from cpt_operator.records import ExperimentRecord, Record, TrialRecord


class ApiError(Exception):
    """The API server did not do what was asked.

    ApiError
    ├── Conflict        the object is not what the record says: look again
    ├── Gone            the object does not exist (any more)
    ├── Forbidden       rights, quota or Pod Security: the message says which
    ├── Rejected        the object is invalid or too large, or an admission webhook refuses it: the message says why
    ├── NotServed       the kind is not installed in this cluster
    └── ApiUnavailable  no answer, or one that says "later"
    """


class Conflict(ApiError):
    """The object is not what the record says: look again."""


class Gone(ApiError):
    """The object does not exist (any more)."""


class Forbidden(ApiError):
    """Rights, quota or Pod Security; the message is the API server's."""


class Rejected(ApiError):
    """The object is invalid or too large, or an admission webhook refuses it; the message is the API server's."""


class NotServed(ApiError):
    """The kind is not installed in this cluster."""


class ApiUnavailable(ApiError):
    """No answer, or one that says "later"."""


R = TypeVar("R", bound=Record)


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

    async def create(self, kind: Kind, body: Mapping[str, Any]) -> Record | AlreadyExists:
        """POST `body` (a whole manifest with metadata.namespace and name); the record of what is there now."""
        raise NotImplementedError

    async def apply_status(self, record: ExperimentRecord | TrialRecord, status: Mapping[str, Any]) -> Record:
        """Make `status` the object's status, if it still is as in `record`. Fields left out are removed."""
        raise NotImplementedError

    async def apply_run(self, record: TrialRecord, run: Mapping[str, Any]) -> Record:
        """Make `run` the trial's run block, if it still is as in `record`. `cancel` is the user's and stays as it is."""
        raise NotImplementedError

    async def delete(self, record: Record) -> None:
        """Delete the object, if it still is as in `record`; fine when it is gone already."""

    async def event(self, record: Record, type_: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Record an event; one that was recorded in the last ten minutes is not repeated. Never raises ApiError."""

    async def list_events(self, namespace: str, involved_uid: str, reason: str) -> list[EventRecord]:
        """Events with that reason about an object, such as FailedCreatePod about a job; oldest first."""
        raise NotImplementedError
