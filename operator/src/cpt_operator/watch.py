"""How the store learns of the cluster: kopf's watches, and a LIST beside them.

kopf is watcher, login and lifecycle only. Its handlers for create, update, timers, daemons and indexes write
annotations and finalizers into users' objects, or take n² time at the start: `on.event` writes nothing. Each handler
projects the object to a record and hands it to the intake; it never raises and never awaits.

A watch that was interrupted never tells what was deleted meanwhile. So there is a full, paged LIST of every kind

    at the start          no work before it is complete
    15 s later            what ended between that LIST and the beginning of the watches
    then every 10 min     what a watch missed; twice in a row means that a watch is dead: the process ends
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import kopf
import structlog

from cpt_operator.apiserver import ApiError, ApiServer, Expired
from cpt_operator.intake import Intake
from cpt_operator.kinds import Kind
from cpt_operator.records import Record, WorkloadRecord, record_of

log = structlog.get_logger()

_AGAIN_SECONDS = 15
"""From the first LIST to the second."""
_SETTLE_SECONDS = 10
"""From a LIST to the comparison: what the watches bring meanwhile is no drift."""
_RETRY_SECONDS = 5
_JITTER = 0.1
_WATCH_SECONDS = 300
"""The API server ends a watch after that long; it is taken up where it was."""
_OUTAGE_SECONDS = 600
"""An API server that is away for longer ends the process."""


class WatchDeadError(Exception):
    """Two LISTs in a row found what the watches should have brought."""


def kopf_registry(api: ApiServer, intake: Intake, kinds: Sequence[Kind]) -> kopf.OperatorRegistry:
    """Handlers for those kinds, and the login."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        us = await api.credentials()
        return kopf.ConnectionInfo(
            server=us.server,
            token=us.token,
            ca_path=us.ca_path,
            certificate_path=us.certificate_path,
            private_key_path=us.private_key_path,
            insecure=us.insecure,
        )

    for kind in kinds:
        handler = _handler(kind, intake)
        kopf.on.event(kind.group, kind.version, kind.plural, id=f"watch-{kind.plural}", registry=registry)(handler)
    return registry


def _handler(kind: Kind, intake: Intake) -> Any:
    async def watched(event: Any, **_: Any) -> None:
        record = _record(kind, event["object"])
        if record is None:
            return
        if event["type"] == "DELETED":
            intake.gone(record)
        else:
            intake.seen(record)

    return watched


def _record(kind: Kind, body: Any) -> Record | None:
    try:
        record = record_of(kind, body)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        log.error("object not understood", kind=kind.kind, metadata=body.get("metadata"), error=repr(error))
        return None
    # Workloads carry no label of ours by which the API server could leave out those of other frameworks
    is_foreign = isinstance(record, WorkloadRecord) and record.owner_kind != Kind.JOB.kind
    return None if is_foreign else record


class _NothingRemembered(kopf.DiffBaseStorage):
    """kopf compares objects with what it wrote into their annotations; it writes none here, and reads none: a user's
    could make it stumble, and the comparison costs a third of the time of an event."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        raise AssertionError("kopf must not write to objects")


def kopf_settings(kinds: Sequence[Kind]) -> kopf.OperatorSettings:
    """Watch what is ours, write nothing, ask for no other rights, outlast an API server that is away for a while."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True  # no watch of namespaces and CRDs
    settings.peering.standalone = True
    settings.persistence.diffbase_storage = _NothingRemembered()
    settings.persistence.progress_storage = kopf.StatusProgressStorage()
    # kopf removes its own finalizer where it finds one: nobody can guess this one
    settings.persistence.finalizer = f"cpt.dev/none-{secrets.token_hex(8)}"
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = _backoffs()
    settings.networking.enforce_retry_after = True
    settings.watching.server_timeout = _WATCH_SECONDS
    settings.watching.client_timeout = _WATCH_SECONDS + 30
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = 500
    settings.queueing.idle_timeout = 1.0
    settings.queueing.exit_timeout = 0.5
    for kind in kinds:
        if kind.selector:
            settings.watching.label_selectors[kind.group, kind.version, kind.plural] = kind.selector
    return settings


def _backoffs() -> list[float]:
    """1, 2, 4 … 30, 30 s until the longest outage, with jitter."""
    seconds: list[float] = []
    while sum(seconds) < _OUTAGE_SECONDS:
        seconds.append(min(30.0, 2.0 ** len(seconds)) * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311 - no secret
    return seconds


class Lists:
    """The LISTs beside the watches."""

    def __init__(
        self,
        api: ApiServer,
        intake: Intake,
        kinds: Sequence[Kind],
        namespaces: Sequence[str],
        every_seconds: float,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._api = api
        self._intake = intake
        self._kinds = kinds
        self._namespaces = namespaces or ("",)
        self._every_seconds = every_seconds
        self._sleep = sleep
        self._drifts_in_a_row = 0

    async def first(self) -> None:
        """Fill the store; as long as it takes."""
        while True:
            try:
                await self._compare(settle_seconds=0)
            except ApiError as error:
                log.warning("objects not listed", error=str(error), again_seconds=_RETRY_SECONDS)
                await self._sleep(_RETRY_SECONDS)
            else:
                return

    async def keep(self) -> None:
        """Compare for ever. Raises WatchDeadError."""
        await self._sleep(_AGAIN_SECONDS)
        await self._again(expected=True)
        while True:
            await self._sleep(self._every_seconds * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311 - no secret
            await self._again(expected=False)

    async def _again(self, *, expected: bool) -> None:
        try:
            drift = await self._compare(_SETTLE_SECONDS)
        except ApiError as error:
            log.warning("objects not listed", error=str(error))
            return
        if expected:
            return
        self._drifts_in_a_row = self._drifts_in_a_row + 1 if drift else 0
        if drift:
            log.warning("watches missed something", objects=drift, in_a_row=self._drifts_in_a_row)
        if self._drifts_in_a_row >= 2:
            raise WatchDeadError(
                f"the last LIST found {drift} objects that no watch had brought, and so did the one before"
            )

    async def _compare(self, settle_seconds: float) -> int:
        """How many objects were not as the store had them."""
        places = [(kind, namespace) for kind in self._kinds for namespace in self._namespaces]
        lists = [(*place, *await self._list(*place)) for place in places]
        await self._sleep(settle_seconds)
        return sum(len(self._intake.listed(*one).records) for one in lists)

    async def _list(self, kind: Kind, namespace: str) -> tuple[list[Record], int]:
        query = {"labelSelector": kind.selector} if kind.selector else {}
        while True:
            records: list[Record] = []
            version = 0
            try:
                async for page in self._api.pages(kind.path(namespace), query=query):
                    records += [r for item in page.get("items", ()) if (r := _record(kind, item)) is not None]
                    version = int(page["metadata"]["resourceVersion"])
            except Expired:
                continue  # it took longer than the API server remembers
            return records, version
