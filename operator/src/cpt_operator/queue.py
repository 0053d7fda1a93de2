"""client-go's work queue for one event loop: what is to be reconciled next, each key once, never twice at a time.

    add(k) add(k)               -> one turn: adds coalesce
    get() -> k, add(k), done(k) -> a second turn after the first: what came meanwhile is not lost
    retry(k) three times        -> turns after about 1, 2 and 4 s: back-off per key, doubled, with jitter
    add_after(k, 30)            -> a turn in 30 s, besides any that come earlier

Turns of a key begin at least `minimum_interval_seconds` apart, however often it is added: a burst of events costs one
turn. Every step costs O(log n) at most; clock and randomness are parameters.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from cpt_operator.kinds import Key

_JITTER = 0.25
"""Of a back-off: a quarter less or more, so that keys that failed together do not come back together."""


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """Counters since the start, and what is in the queue now."""

    depth: int
    """Keys that wait for a worker."""
    delayed: int
    """Keys whose time has not come."""
    busy: int
    """Keys being processed."""
    adds: int
    """Turns that were asked for, coalesced ones not counted."""
    retries: int
    """Turns that failed."""
    unfinished_seconds: float
    """Summed over the keys being processed."""
    longest_running_seconds: float
    """Of the keys being processed."""


class Queue:
    """Workers call `get`, then `retry` or `forget`, then `done`."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        minimum_interval_seconds: float = 1.0,
        first_retry_seconds: float = 1.0,
        longest_retry_seconds: float = 300.0,
        jitter: Callable[[], float] = random.random,
        observe_wait: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._clock = clock
        self._minimum_interval_seconds = minimum_interval_seconds
        self._first_retry_seconds = first_retry_seconds
        self._longest_retry_seconds = longest_retry_seconds
        self._jitter = jitter
        self._observe_wait = observe_wait

        # what to do next, in order; the same keys as in _waiting_since, none of them busy
        self._waiting: deque[Key] = deque()
        self._waiting_since: dict[Key, float] = {}
        # being processed, with when that began
        self._busy: dict[Key, float] = {}
        # added while busy: done() queues them again
        self._again: set[Key] = set()
        # to be added later: _due holds the earliest time per key, other entries of the heap are stale
        self._later: list[tuple[float, int, Key]] = []
        self._due: dict[Key, float] = {}
        # when the last turn began; entries older than the minimum interval mean nothing and are swept
        self._began: dict[Key, float] = {}
        self._sweep_at = 1024
        self._failures: dict[Key, int] = {}

        self._tie = itertools.count()
        self._changed = asyncio.Event()
        self._adds = 0
        self._retries = 0

    def add(self, key: Key) -> None:
        """Process `key` as soon as possible."""
        now = self._clock()
        if key in self._busy:
            self._again.add(key)
            return
        if key in self._waiting_since:
            return
        allowed = self._began.get(key, float("-inf")) + self._minimum_interval_seconds
        if allowed > now:
            self._delay(key, allowed)
            return
        self._adds += 1
        self._waiting.append(key)
        self._waiting_since[key] = now
        self._changed.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Process `key` in so many seconds; of several such calls the earliest counts."""
        self._delay(key, self._clock() + seconds)

    def retry(self, key: Key) -> None:
        """Its turn failed: again after the key's back-off."""
        self._retries += 1
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        seconds = min(self._longest_retry_seconds, self._first_retry_seconds * 2.0 ** min(failures - 1, 30))
        self.add_after(key, seconds * (1 - _JITTER + 2 * _JITTER * self._jitter()))

    def forget(self, key: Key) -> None:
        """Its turn went well: the next failure begins with the shortest back-off."""
        self._failures.pop(key, None)

    def done(self, key: Key) -> None:
        """The turn of `key` is over; if it was added meanwhile, it comes again."""
        del self._busy[key]
        if key in self._again:
            self._again.remove(key)
            self.add(key)

    async def get(self) -> Key:
        """The next key, as soon as there is one."""
        while (key := self.take()) is None:
            self._changed.clear()
            try:
                async with asyncio.timeout(self.next_due_seconds()):
                    await self._changed.wait()
            except TimeoutError:
                pass  # a delayed key is due
        return key

    def take(self) -> Key | None:
        """The next key, if there is one now."""
        now = self._clock()
        self._add_due(now)
        if not self._waiting:
            return None
        key = self._waiting.popleft()
        self._observe_wait(now - self._waiting_since.pop(key))
        self._busy[key] = self._began[key] = now
        self._sweep(now)
        return key

    def next_due_seconds(self) -> float | None:
        """How long until a delayed key may be due; None when there is none."""
        return max(0.0, self._later[0][0] - self._clock()) if self._later else None

    def statistics(self) -> QueueStatistics:
        """For metrics and tests."""
        now = self._clock()
        running = [now - began for began in self._busy.values()]
        return QueueStatistics(
            depth=len(self._waiting),
            delayed=len(self._due),
            busy=len(self._busy),
            adds=self._adds,
            retries=self._retries,
            unfinished_seconds=sum(running),
            longest_running_seconds=max(running, default=0.0),
        )

    def _delay(self, key: Key, when: float) -> None:
        if self._due.get(key, float("inf")) <= when:
            return
        self._due[key] = when
        heapq.heappush(self._later, (when, next(self._tie), key))
        self._changed.set()

    def _add_due(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            when, _, key = heapq.heappop(self._later)
            if self._due.get(key) == when:
                del self._due[key]
                self.add(key)

    def _sweep(self, now: float) -> None:
        if len(self._began) < self._sweep_at:
            return
        oldest = now - self._minimum_interval_seconds
        self._began = {key: began for key, began in self._began.items() if began >= oldest}
        self._sweep_at = max(1024, 2 * len(self._began))
