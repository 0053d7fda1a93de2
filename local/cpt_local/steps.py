"""What `up` does, several things at a time, with a line for each that is done.

    with Steps() as steps:
        network = steps.start("network", make_network, cluster)
        steps.start("etcd and API server", controlplane.start, cluster, after=[network])

prints

      0.3 s  network
      5.9 s  etcd and API server (5.6 s)

The first failure is what the block raises; nothing starts after it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

_THREADS = 32
"""More than there are steps: a step that waits for another holds its thread."""
_STILL_SECONDS = 30.0
"""A step that takes longer says so now and then."""


def say(line: str) -> None:
    """Print a line whole and at once: steps speak at the same time, and somebody may read along."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Steps:
    """Starts steps as soon as those before them are done."""

    def __init__(self, say: Callable[[str], None] = say) -> None:
        self._say = say
        self._began = time.monotonic()
        self._pool = ThreadPoolExecutor(_THREADS)
        self._steps: list[Future[Any]] = []
        self._first_error: BaseException | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)
        if error is None and self._first_error is not None:
            raise self._first_error

    def start(
        self, title: str, function: Callable[..., T], *arguments: Any, after: Sequence[Future[Any]] = ()
    ) -> Future[T]:
        """Run `function(*arguments)` once the steps `after` are done."""
        step = self._pool.submit(self._run, title, function, arguments, tuple(after))
        self._steps.append(step)
        return step

    def _run(
        self, title: str, function: Callable[..., T], arguments: tuple[Any, ...], after: tuple[Future[Any], ...]
    ) -> T:
        if any(step.exception() is not None for step in after) or self._first_error:
            raise CancelledError
        began = time.monotonic()
        still = threading.Event()
        reminder = threading.Thread(target=self._remind, args=(title, began, still), daemon=True)
        reminder.start()
        try:
            result = function(*arguments)
        except BaseException as error:
            with self._lock:
                self._first_error = self._first_error or error
            self._say(f"          FAILED: {title}; waiting for the steps that have begun")
            raise
        finally:
            still.set()
        now = time.monotonic()
        self._say(f"{now - self._began:6.1f} s  {title} ({now - began:.1f} s)")
        return result

    def _remind(self, title: str, began: float, done: threading.Event) -> None:
        while not done.wait(_STILL_SECONDS):
            self._say(f"          … {title}, {time.monotonic() - began:.0f} s so far")
