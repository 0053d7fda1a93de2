"""Experiments that have nothing to do: made when the tests begin, judged when all others are done."""

from __future__ import annotations

import asyncio
import time

from cluster.conftest import Idle

IDLE_SECONDS = 60


async def test_finished_experiments_cost_nothing(idle: Idle) -> None:
    """Ten of them, for a minute: not one write but the Lease's."""
    await asyncio.sleep(max(0.0, idle.since + IDLE_SECONDS - time.time()))  # nothing is what must happen
    assert idle.operator.ended() is None
    assert [request for request in idle.team.requests(idle.since) if request.is_write] == []
    assert [request for request in idle.team.requests() if request.is_write] != []
