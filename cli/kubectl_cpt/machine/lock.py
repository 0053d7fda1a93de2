"""One run at a time on a store.

In a folder it is the kernel's lock on a file, which ends with its holders: this process and the trials that it
started. So a run that was killed with -9 keeps the next one out only until the trials that it left behind have ended.

In S3 it is an object with a time in it, refreshed every 20 s and taken over when it is 90 s old. Two runs that meet in
spite of it do no harm: of every trial the first result counts.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import Protocol

from cpt_trainer.errors import MissingError
from cpt_trainer.store import Store
from kubectl_cpt.errors import Busy

FILE = ".run.lock"
REFRESH_SECONDS = 20.0
_STALE_SECONDS = 90.0


class Lock(Protocol):
    """Held from its creation on."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What a trial inherits, so that the lock holds as long as it runs."""
        ...

    def refresh(self) -> None:
        """Say that the holder is alive; at least every 20 s."""
        ...

    def release(self) -> None:
        """Let others in."""
        ...


def acquire(store: Store, namespace: str) -> Lock:
    """The lock, or Busy."""
    if "://" in store.address.uri:
        return ObjectLock(store, f"data/{namespace}/run/lock.json")
    return FileLock(Path(store.address.uri) / FILE)


class FileLock:
    """Of a folder."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise Busy(
                f"{path.parent} is in use by {holder}, or by a trial that it started: wait until it has ended"
            ) from error
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()}\n")
        self._file.flush()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The open file: a lock of this kind is shared with those that inherit it."""
        return (self._file.fileno(),)

    def refresh(self) -> None:
        """The kernel knows."""

    def release(self) -> None:
        """Close the file; trials that still run hold it."""
        self._file.close()


class ObjectLock:
    """Of a store in S3."""

    descriptors: tuple[int, ...] = ()

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key
        self._holder = f"process {os.getpid()} on {socket.gethostname()}"
        if not store.put_if_absent(key, self._content()):
            self._take_over()

    def refresh(self) -> None:
        """With the present time."""
        self._store.put(self._key, self._content())

    def release(self) -> None:
        """Remove the object."""
        self._store.delete(self._key)

    def _content(self) -> bytes:
        return json.dumps({"holder": self._holder, "time": time.time()}).encode()

    def _take_over(self) -> None:
        try:
            found = json.loads(self._store.get(self._key))
        except MissingError:  # released a moment ago
            found = {"time": 0.0}
        age_seconds = time.time() - float(found["time"])
        if age_seconds < _STALE_SECONDS:
            raise Busy(
                f"{self._store.address.uri} is in use by {found['holder']} (seen {age_seconds:.0f} s ago): wait until "
                f"it has ended; after a crash the lock falls by itself {_STALE_SECONDS:.0f} s after it was last seen"
            )
        self._store.delete(self._key)
        if not self._store.put_if_absent(self._key, self._content()):
            raise Busy(f"{self._store.address.uri}: another run was faster: try again")
