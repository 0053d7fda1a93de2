"""Turns: what their end means for the key, and how workers stop."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cpt_operator.cluster import ApiUnavailable, Conflict, Gone
from cpt_operator.kinds import Key, Kind
from cpt_operator.queue import Queue
from cpt_operator.recorder import Recorder
from cpt_operator.runtime import Reconcile, Requeue, Runtime
from cpt_operator.workers import Workers

KEY = Key(Kind.TRIAL, "team", "a")
OTHER = Key(Kind.TRIAL, "team", "b")


def make(reconcile: Reconcile) -> tuple[Workers, Queue]:
    """Workers with one key to work at."""
    queue = Queue(lambda: 0.0, minimum_interval_seconds=0, jitter=lambda: 0.5)
    runtime = cast("Runtime", SimpleNamespace(queue=queue))
    queue.add(KEY)
    return Workers(runtime, {Kind.TRIAL: reconcile}, Recorder()), queue


async def turn_ends_with(outcome: Any) -> Queue:
    """One turn, that returns or raises `outcome`."""

    async def reconcile(_: Runtime, __: Key) -> Requeue | None:
        if isinstance(outcome, Exception):
            raise outcome
        return cast("Requeue | None", outcome)

    workers, queue = make(reconcile)
    await workers.turn(await queue.get())
    return queue


async def test_done() -> None:
    """Nothing more until something changes."""
    assert (await turn_ends_with(None)).next_due_seconds() is None


async def test_look_again() -> None:
    """After so long."""
    assert (await turn_ends_with(Requeue(30))).next_due_seconds() == 30


@pytest.mark.parametrize("error", [Conflict("x"), Gone("x"), ApiUnavailable("x"), ZeroDivisionError()])
async def test_a_failure_is_tried_again(error: Exception) -> None:
    """After the key's back-off, whatever it was."""
    queue = await turn_ends_with(error)
    assert queue.next_due_seconds() == 1
    assert queue.statistics().busy == 0


async def test_success_forgets_failures() -> None:
    """The next failure begins with the shortest back-off."""
    outcomes = iter([True, True, False, True])

    async def reconcile(_: Runtime, __: Key) -> Requeue | None:
        if next(outcomes):
            raise Conflict("x")
        return None

    workers, queue = make(reconcile)
    waits = []
    for _ in range(4):
        queue.add(KEY)
        await workers.turn(await queue.get())
        waits.append(queue.statistics().retries)
    assert waits == [1, 2, 2, 3]


class Slow:
    """A reconciler whose turns end when the test says so."""

    def __init__(self) -> None:
        self.begun: list[Key] = []
        self.ended: list[Key] = []
        self.go_on = asyncio.Event()

    async def __call__(self, _: Runtime, key: Key) -> Requeue | None:
        self.begun.append(key)
        await self.go_on.wait()
        self.ended.append(key)
        return None


async def test_draining_finishes_what_has_begun() -> None:
    """And begins nothing more."""
    slow = Slow()
    workers, queue = make(slow)
    async with asyncio.TaskGroup() as group:
        workers.start(group, 1)
        while not slow.begun:
            await asyncio.sleep(0)
        queue.add(OTHER)
        draining = group.create_task(workers.drain(60))
        await asyncio.sleep(0)
        assert not draining.done()
        slow.go_on.set()
    assert (slow.begun, slow.ended) == ([KEY], [KEY])


async def test_draining_does_not_wait_for_ever() -> None:
    """A turn that hangs is cut off."""
    slow = Slow()
    workers, _ = make(slow)
    async with asyncio.TaskGroup() as group:
        workers.start(group, 2)
        while not slow.begun:
            await asyncio.sleep(0)
        await workers.drain(0)
    assert slow.ended == []
