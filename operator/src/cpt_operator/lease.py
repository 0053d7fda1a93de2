"""Which of several replicas works: the holder of one Lease, as client-go does it.

    at  0 s   a takes the Lease, and renews it every 5 s
    at 20 s   a hangs
    at 30 s   a, if it still can, sees that its last renewal is 10 s old: it stops working at once
    at 35 s   b saw no renewal for 15 s: it takes the Lease

Nobody's wall clock is trusted: a Lease is old when it did not change for so long while we were looking at it. What
matters never depends on it: names are deterministic and every write carries a version, so that two leaders do no harm.

Price: one write per third of the duration.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from cpt_operator import settings
from cpt_operator.apiserver import ApiError, ApiServer, Conflict, Gone, Verb

log = structlog.get_logger()

_GROUP_VERSION = "coordination.k8s.io/v1"


class LeaseLostError(Exception):
    """Another replica works now, or may."""


class Lease:
    """This process's claim."""

    def __init__(
        self,
        api: ApiServer,
        lease: settings.Lease,
        identity: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api = api
        self._lease = lease
        self._identity = identity
        self._clock = clock
        self._sleep = sleep
        self._now = now
        self._all = f"/apis/{_GROUP_VERSION}/namespaces/{lease.namespace}/leases"
        self._held = False
        # the Lease as it was last seen, and when it was first seen so
        self._seen: Mapping[str, Any] = {}
        self._seen_at = 0.0

    @property
    def held(self) -> bool:
        """Whether this process works."""
        return self._held

    @property
    def _pause_seconds(self) -> float:
        return self._lease.duration_seconds / 3

    async def acquire(self) -> None:
        """Wait until nobody else works."""
        while not await self._try():
            await self._sleep(self._pause_seconds)
        log.info("lease taken", lease=self._lease.name, identity=self._identity)

    async def keep(self) -> None:
        """Renew it for ever. Raises LeaseLostError when that did not work for two thirds of its duration."""
        renewed = self._clock()
        while True:
            left_seconds = renewed + 2 * self._pause_seconds - self._clock()
            if left_seconds <= 0:
                self._held = False
                raise LeaseLostError(f"Lease {self._lease.name} could not be renewed for {2 * self._pause_seconds:g} s")
            await self._sleep(min(self._pause_seconds, left_seconds))
            began = self._clock()
            try:
                async with asyncio.timeout(max(0.1, renewed + 2 * self._pause_seconds - began)):
                    if await self._try():
                        renewed = began
            except TimeoutError:
                continue

    async def release(self) -> None:
        """Let the next one work at once. Never raises."""
        if not self._held:
            return
        self._held = False
        try:
            await self._write("", 1)
        except ApiError as error:
            log.warning("lease not released", error=str(error))

    async def _try(self) -> bool:
        """Take or renew it, if nobody else holds it. Raises LeaseLostError when somebody took it from us."""
        try:
            if not self._held:  # who holds it knows the version that he wrote
                await self._look()
                if self._is_taken():
                    return False
            await self._write(self._identity, self._lease.duration_seconds)
        except (Conflict, Gone):
            await self._look_again()
            return False
        except ApiError as error:
            log.warning("lease not written", lease=self._lease.name, error=str(error))
            return False
        self._held = True
        return True

    def _is_taken(self) -> bool:
        spec = self._seen.get("spec") or {}
        valid_seconds = spec.get("leaseDurationSeconds") or self._lease.duration_seconds
        return self._holder not in ("", self._identity) and self._clock() - self._seen_at < valid_seconds

    @property
    def _holder(self) -> str:
        return str((self._seen.get("spec") or {}).get("holderIdentity") or "")

    async def _look(self) -> None:
        try:
            found = await self._api.request(
                "get", f"{self._all}/{self._lease.name}", timeout_seconds=self._pause_seconds
            )
        except Gone:
            found = {}
        if (found.get("metadata") or {}).get("resourceVersion") != self._version:
            self._seen_at = self._clock()
        self._seen = found

    async def _look_again(self) -> None:
        """Somebody changed it: who holds it now?"""
        try:
            await self._look()
        except ApiError as error:
            log.warning("lease not read", lease=self._lease.name, error=str(error))
            return
        if self._held and self._holder not in ("", self._identity):
            self._held = False
            raise LeaseLostError(f"{self._holder} has taken Lease {self._lease.name}")

    @property
    def _version(self) -> str | None:
        return (self._seen.get("metadata") or {}).get("resourceVersion")

    async def _write(self, holder: str, duration_seconds: int) -> None:
        before = self._seen.get("spec") or {}
        time = self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        is_same = self._holder == holder
        body = {
            "apiVersion": _GROUP_VERSION,
            "kind": "Lease",
            # with the resourceVersion that was seen: of two who try, one wins
            "metadata": self._seen.get("metadata") or {"namespace": self._lease.namespace, "name": self._lease.name},
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": duration_seconds,
                "acquireTime": before.get("acquireTime") if is_same else time,
                "renewTime": time,
                "leaseTransitions": (before.get("leaseTransitions") or 0) + (bool(before) and not is_same),
            },
        }
        verb: Verb = "update" if self._seen else "create"
        path = f"{self._all}/{self._lease.name}" if self._seen else self._all
        self._seen = await self._api.request(verb, path, body=body, timeout_seconds=self._pause_seconds)
        self._seen_at = self._clock()
