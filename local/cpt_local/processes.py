"""Programs that run to their end, and daemons that outlive us.

    run("ip", "netns", "add", "cpt.a")            its output, or CommandError with the end of what it printed
    start_daemon("etcd", ["etcd", …], folder)     folder/logs/etcd.log, folder/logs/etcd.pid

A program dies with us (its parent-death signal), so that a killed `up` builds and imports nothing behind our back. A
daemon belongs to nobody: it writes to a file, never to an inherited pipe, which would keep our caller waiting, and is
found again by its network namespace alone, whatever happened to the process that started it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from cpt_local.errors import CommandError, NotReadyError

_POLL_SECONDS = 0.1
"""Daemons offer nothing to watch while they start."""
_TAIL_CHARACTERS = 2000

# prints the daemon's pid; the shell ends, so that the daemon's end is reaped by init and not by us
_DETACH = 'exec 3>&1 >> "$1" 2>&1 < /dev/null; shift; setsid "$@" 3>&- & echo $! >&3'


def run(*command: str, stdin: str | None = None, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a program to its end and return what it printed.

    Raises CommandError when it fails, with the end of what it said.
    """
    done = subprocess.run(
        ["setpriv", "--pdeathsig", "KILL", "--", *command],
        input=stdin,
        env=dict(os.environ, **env) if env else None,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-_TAIL_CHARACTERS:]
        raise CommandError(f"`{' '.join(command)[:300]}` ended with {done.returncode}: {said}")
    return done.stdout


def start_daemon(name: str, command: Sequence[str], folder: Path) -> int:
    """Start a program that outlives us, working in `folder`; its process id."""
    log = log_file(folder, name)
    log.parent.mkdir(parents=True, exist_ok=True)
    pid = int(run("sh", "-c", _DETACH, "sh", str(log), *command, cwd=folder))
    _pid_file(folder, name).write_text(f"{pid}\n")
    return pid


def daemon_pid(folder: Path, name: str) -> int | None:
    """The process id of a daemon of this cluster, None when it does not run."""
    try:
        pid = int(_pid_file(folder, name).read_text())
    except (FileNotFoundError, ValueError):
        return None
    # a number may have been given to another process since; that one does not hold the daemon's log open
    return pid if _writes_to(pid, log_file(folder, name)) else None


def log_file(folder: Path, name: str) -> Path:
    """Where a daemon writes."""
    return folder / "logs" / f"{name}.log"


def log_tail(folder: Path, name: str) -> str:
    """The end of what a daemon said."""
    log = log_file(folder, name)
    return log.read_text(errors="replace")[-_TAIL_CHARACTERS:] if log.exists() else "(it said nothing)"


def wait_for(what: str, check: Callable[[], bool], seconds: float, explain: Callable[[], str]) -> None:
    """Return as soon as `check` holds.

    Raises NotReadyError after `seconds`, with `explain()` in its text.
    """
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise NotReadyError(f"{what} was not ready within {seconds:.0f} s: {explain()}")
        time.sleep(_POLL_SECONDS)


def wait_for_daemon(folder: Path, name: str, check: Callable[[], bool], seconds: float) -> None:
    """Return as soon as a daemon answers.

    Raises NotReadyError when it does not, or ends; the end of its log is in the text.
    """

    def answers() -> bool:
        if daemon_pid(folder, name) is None:
            raise NotReadyError(
                f"{name} ended at once; its log {log_file(folder, name)} ends:\n{log_tail(folder, name)}"
            )
        return check()

    wait_for(name, answers, seconds, lambda: f"its log {log_file(folder, name)} ends:\n{log_tail(folder, name)}")


def kill(pid: int) -> None:
    """`kill -9`, of a process that may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def in_namespace(namespace: Path) -> Iterator[int]:
    """The processes in a named network namespace."""
    try:
        wanted = namespace.stat()
    except FileNotFoundError:
        return
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            found = (entry / "ns/net").stat()
        except OSError:  # it has ended meanwhile, or is a zombie
            continue
        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
            yield int(entry.name)


def _pid_file(folder: Path, name: str) -> Path:
    return log_file(folder, name).with_suffix(".pid")


def _writes_to(pid: int, log: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/fd/1").resolve() == log.resolve()
    except OSError:
        return False
