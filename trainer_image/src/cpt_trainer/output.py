"""A process's output outlives it: a verb runs in a child, and its parent keeps the last of what it printed.

    code, tail = watch(lambda: run(trial))      output goes on to stderr; tail is its last 64 KiB

The parent does nothing but pass on bytes and SIGTERM, so it still stands when the verb was killed, has crashed, or
ended by `os._exit` with a dump of its stacks on the way. The child is forked before anything heavy is imported. When
the parent is killed, Linux kills the child.

Price: one process of 40 MB, most of it shared, and a copy of every byte that is printed.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import selectors
import signal
import sys
from collections.abc import Callable

TAIL_BYTES = 64 * 1024
_CHUNK_BYTES = 64 * 1024
_SET_PARENT_DEATH_SIGNAL = 1  # prctl(2)


def watch(run: Callable[[], int]) -> tuple[int, bytes]:
    """The exit code of `run`, called in a child, and the end of the child's output. A signal n ends in code 128 + n."""
    reader, writer = os.pipe()
    wake_reader, wake_writer = os.pipe()
    os.set_blocking(wake_writer, False)
    # signals arrive as bytes in a pipe, so that one loop waits for them and for output
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, _noted)
    signal.set_wakeup_fd(wake_writer)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _become(writer, parent, (reader, wake_reader, wake_writer))
        os._exit(_ended(run))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both; the child decides
    os.close(writer)
    return _passed_on(child, reader, wake_reader)


def _become(writer: int, parent: int, others: tuple[int, ...]) -> None:
    """In the child: signals as at birth, output into the pipe, and the parent's death is ours."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    for descriptor in others:
        os.close(descriptor)
    for stream in (1, 2):
        os.dup2(writer, stream)
    os.close(writer)
    faulthandler.enable()
    die_with(parent)


def die_with(parent: int) -> None:
    """Be killed by Linux when the parent process is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we could ask
            os._exit(128 + signal.SIGKILL)


def _ended(run: Callable[[], int]) -> int:
    try:
        return run()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _passed_on(child: int, reader: int, wake: int) -> tuple[int, bytes]:
    """Pass on output and signals until the child has ended."""
    tail = bytearray()
    code: int | None = None
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        while code is None:
            for ready, _ in selector.select():
                if ready.fd == reader and not _copied(reader, tail):
                    selector.unregister(reader)
                if ready.fd == wake:
                    code = _heard(child, os.read(wake, _CHUNK_BYTES))
    os.set_blocking(reader, False)  # a grandchild may hold the pipe open: take what is there
    while _copied(reader, tail):
        pass
    return code, bytes(tail)


def _copied(reader: int, tail: bytearray) -> bool:
    """Pass on what can be read; False when there is no more."""
    try:
        data = os.read(reader, _CHUNK_BYTES)
    except BlockingIOError:
        return False
    tail += data
    del tail[:-TAIL_BYTES]
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(2, rest) :]
        except OSError:  # nobody reads our stderr any more; the tail is kept all the same
            break
    return bool(data)


def _heard(child: int, signals: bytes) -> int | None:
    """Act on signals; the child's exit code when it has ended."""
    if signal.SIGTERM in signals:
        os.kill(child, signal.SIGTERM)
    if signal.SIGCHLD not in signals:
        return None
    pid, status = os.waitpid(child, os.WNOHANG)
    if pid == 0:
        return None
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _noted(_number: int, _frame: object) -> None:
    """The byte in the pipe is what counts."""
