"""One Lease, two claimants, and clocks that a test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, cast

import pytest

from cpt_operator.apiserver import ApiServer, ApiUnavailable, Conflict, Gone, NameTaken
from cpt_operator.lease import Lease, LeaseLostError
from cpt_operator.settings import Lease as Settings

SETTINGS = Settings(namespace="cpt-system", duration_seconds=15)


class OneLease:
    """The API server, as far as Leases know it: versions are compared, and it may be away."""

    def __init__(self) -> None:
        self.body: dict[str, Any] | None = None
        self.versions = 0
        self.away = False
        self.writes = 0

    async def request(self, verb: str, _path: str, *, body: Mapping[str, Any] | None = None, **_: Any) -> Any:
        """As ApiServer."""
        await asyncio.sleep(0)
        if self.away:
            raise ApiUnavailable("away")
        if verb == "get":
            if self.body is None:
                raise Gone("no such Lease")
            return deepcopy(self.body)
        assert body is not None
        if verb == "create" and self.body is not None:
            raise NameTaken("it exists")
        if verb == "update" and (self.body or {}).get("metadata", {}).get("resourceVersion") != body["metadata"].get(
            "resourceVersion"
        ):
            raise Conflict("another version")
        self.versions += 1
        self.writes += 1
        self.body = {**deepcopy(dict(body)), "metadata": {"name": "x", "resourceVersion": str(self.versions)}}
        return deepcopy(self.body)

    @property
    def holder(self) -> str:
        """Whose it is."""
        return str((self.body or {})["spec"]["holderIdentity"])


class Clock:
    """Seconds that pass when somebody sleeps."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """It takes no time."""
        self.now += seconds
        await asyncio.sleep(0)


@pytest.fixture
def api() -> OneLease:
    """Nobody has it."""
    return OneLease()


@pytest.fixture
def clock() -> Clock:
    """At 0."""
    return Clock()


def claim(api: OneLease, clock: Clock, who: str) -> Lease:
    return Lease(cast("ApiServer", api), SETTINGS, who, clock=clock, sleep=clock.sleep)


async def test_a_free_lease_is_taken(api: OneLease, clock: Clock) -> None:
    """At once."""
    lease = claim(api, clock, "a")
    await lease.acquire()
    assert (lease.held, api.holder, clock.now) == (True, "a", 0)


async def test_of_two_who_try_one_wins(api: OneLease, clock: Clock) -> None:
    """The other sees its version refused, and waits."""
    claims = [claim(api, clock, who) for who in "ab"]
    await asyncio.wait([asyncio.create_task(c.acquire()) for c in claims], return_when=asyncio.FIRST_COMPLETED)
    assert [c.held for c in claims].count(True) == 1


async def test_a_silent_holder_is_replaced(api: OneLease, clock: Clock) -> None:
    """After its duration, as seen by who waits."""
    await claim(api, clock, "a").acquire()
    other = claim(api, clock, "b")
    await other.acquire()
    assert (api.holder, clock.now) == ("b", 15)


async def test_a_restarted_holder_goes_on(api: OneLease, clock: Clock) -> None:
    """Same name: the process before it is dead."""
    await claim(api, clock, "a").acquire()
    await claim(api, clock, "a").acquire()
    assert clock.now == 0


async def test_a_released_lease_is_free(api: OneLease, clock: Clock) -> None:
    """The next one need not wait."""
    lease = claim(api, clock, "a")
    await lease.acquire()
    await lease.release()
    await claim(api, clock, "b").acquire()
    assert (lease.held, api.holder, clock.now) == (False, "b", 0)


async def test_a_lease_that_cannot_be_renewed_is_lost_before_others_take_it(api: OneLease, clock: Clock) -> None:
    """At two thirds of its duration."""
    lease = claim(api, clock, "a")
    await lease.acquire()
    api.away = True
    with pytest.raises(LeaseLostError, match="could not be renewed for 10 s"):
        await lease.keep()
    assert (lease.held, clock.now) == (False, 10)


async def test_a_stolen_lease_is_lost(api: OneLease, clock: Clock) -> None:
    """Seen at the next renewal."""
    lease = claim(api, clock, "a")
    await lease.acquire()
    assert api.body is not None
    api.body["spec"]["holderIdentity"] = "thief"
    api.body["metadata"]["resourceVersion"] = "99"
    with pytest.raises(LeaseLostError, match="thief has taken"):
        await lease.keep()
    assert not lease.held


async def test_a_label_on_it_is_no_theft(api: OneLease, clock: Clock) -> None:
    """Somebody else may write to the object; the next renewal knows its version."""
    lease = claim(api, clock, "a")
    await lease.acquire()
    assert api.body is not None
    api.body["metadata"]["resourceVersion"] = "99"
    keeping = asyncio.create_task(lease.keep())
    while api.writes < 3:
        await asyncio.sleep(0)
    assert lease.held
    keeping.cancel()


async def test_it_costs_one_write_per_third_of_its_duration(api: OneLease, clock: Clock) -> None:
    """And no reads: who holds it knows the version that he wrote."""
    lease = claim(api, clock, "a")
    await lease.acquire()
    keeping = asyncio.create_task(lease.keep())
    while clock.now < 65:
        await asyncio.sleep(0)
    keeping.cancel()
    assert api.writes == 1 + 60 // 5
