"""The loop that takes keys from the queue and lets the kind's reconciler look at each.

    turn ends with   next turn of the key
    None             when something that it depends on changes
    Requeue(30)      in 30 s, or when something changes
    Conflict, Gone   after its back-off; the store knows better already
    an exception     after its back-off (1 s, 2 s, 4 s … 5 min), with the traceback in the log

One key's failure delays no other. Price of an idle worker: nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import structlog

from cpt_operator.cluster import ApiError, Conflict, Gone
from cpt_operator.kinds import Key, Kind
from cpt_operator.recorder import Recorder
from cpt_operator.runtime import Reconcile, Runtime

log = structlog.get_logger()


class Workers:
    """Of one event loop."""

    def __init__(self, runtime: Runtime, reconcilers: Mapping[Kind, Reconcile], recorder: Recorder) -> None:
        self._runtime = runtime
        self._reconcilers = reconcilers
        self._recorder = recorder
        self._tasks: list[asyncio.Task[None]] = []
        # those in the middle of a turn; the others wait for a key and may be cancelled at any moment
        self._busy: set[asyncio.Task[None] | None] = set()
        self._draining = False

    def start(self, group: asyncio.TaskGroup, count: int) -> None:
        """Let them work, as tasks of `group`."""
        self._tasks = [group.create_task(self._work(), name=f"worker {number}") for number in range(count)]

    async def drain(self, seconds: float) -> None:
        """Finish the turns that have begun, begin no other; what is not finished by then is cut off."""
        self._draining = True
        for task in self._tasks:
            if task not in self._busy:
                task.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()

    async def _work(self) -> None:
        me = asyncio.current_task()
        while not self._draining:
            key = await self._runtime.queue.get()
            self._busy.add(me)
            try:
                await self.turn(key)
            finally:
                self._busy.discard(me)

    async def turn(self, key: Key) -> None:
        """One key, which was taken from the queue; whatever happens, the queue knows when it comes again."""
        queue = self._runtime.queue
        began = time.monotonic()
        is_error = False
        try:
            requeue = await self._reconcilers[key.kind](self._runtime, key)
        except (Conflict, Gone) as error:
            log.debug("turn to be repeated", key=str(key), error=str(error))
            queue.retry(key)
        except ApiError as error:
            is_error = True
            log.warning("turn failed", key=str(key), error=str(error))
            queue.retry(key)
        except Exception:  # whatever one object makes of us, the others go on
            is_error = True
            log.exception("turn failed", key=str(key))
            queue.retry(key)
        else:
            queue.forget(key)
            if requeue is not None:
                queue.add_after(key, requeue.after_seconds)
        finally:
            queue.done(key)
            self._recorder.reconciled(key.kind.plural, time.monotonic() - began, error=is_error)
