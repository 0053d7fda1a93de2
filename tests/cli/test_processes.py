"""Trials as forks of one server: like processes of their own, and nothing hangs when something dies."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from cli.test_run import wait_for
from cpt_api.exits import ExitCode
from cpt_api.model import sha256
from kubectl_cpt.machine.processes import Process, Processes
from trainer_image.kit import Lab, descendants

pytestmark = pytest.mark.processes

LONG = 100_000
"""Steps that no test waits for."""
SERVER = [sys.executable, "-m", "cpt_trainer.forkserver"]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    """None is left."""
    made = Processes(())
    yield made
    await made.close()
    assert await asyncio.to_thread(descendants, os.getpid()) == []


def words_of(lab: Lab, steps: int, **changes: object) -> Sequence[str]:
    """Of a training."""
    return lab.command(lab.train({lab.dataset("python"): "1"}, steps, **changes))[3:]


async def fork(processes: Processes, lab: Lab, words: Sequence[str], name: str = "fork") -> Process:
    return await processes.start(words, lab.environment(), lab.folder / f"{name}.log", forks=True)


def read(pid: int, what: str) -> str:
    """Of a process."""
    return Path(f"/proc/{pid}/{what}").read_text()


def is_there(pid: int) -> bool:
    """It runs."""
    return Path(f"/proc/{pid}").exists()


def server_of(process: Process) -> int:
    """Its parent."""
    return int(read(process.pid, "stat").rpartition(")")[2].split()[1])


async def is_training(lab: Lab, name: str = "fork") -> None:
    """It makes steps."""
    log = lab.folder / f"{name}.log"
    for _ in range(600):
        if log.exists() and '"event": "step"' in log.read_text():
            return
        await asyncio.sleep(0.1)
    raise AssertionError(log.read_text())


async def test_the_same_bytes(lab: Lab, processes: Processes) -> None:
    """A fork trains the very model of a process of its own, and a fork that follows is as good."""
    trial = lab.train({lab.dataset("python"): "1"}, 4)
    assert lab.run(trial) == ExitCode.COMMITTED
    found = weights_of(lab)
    assert len(found) == 4  # the first step's weights; the last one's, and two moments
    for name in ("first", "second"):
        shutil.rmtree(lab.folder / "store")
        lab.dataset("python")
        process = await fork(processes, lab, lab.command(trial)[3:], name)
        assert await process.wait() == process.returncode == ExitCode.COMMITTED
        assert weights_of(lab) == found


def weights_of(lab: Lab) -> list[str]:
    """Of checkpoints."""
    return [
        sha256(file.read_bytes())
        for file in sorted((lab.folder / "store/data").glob("**/checkpoints/**/*.safetensors"))
    ]


async def test_an_error_is_its_own(lab: Lab, processes: Processes) -> None:
    """Exit code and output of a trial that cannot be read; the server goes on after one whose log cannot be written."""
    process = await fork(processes, lab, ["train", "--trial", "nowhere", "--store", "here"])
    assert await process.wait() == ExitCode.CONFIG
    assert "nowhere" in (lab.folder / "fork.log").read_text()
    process = await fork(processes, lab, ["train"], "no/such/folder")
    assert await process.wait() == 1
    process = await fork(processes, lab, ["misspelt"])
    assert await process.wait() == ExitCode.CONFIG


async def test_signals(lab: Lab, processes: Processes) -> None:
    """Each leads a session of its own; SIGTERM lets one commit, SIGKILL of its group ends another with all its own."""
    first, second = [await fork(processes, lab, words_of(lab, LONG + n), str(n)) for n in range(2)]
    assert [os.getsid(process.pid) for process in (first, second)] == [first.pid, second.pid]
    await is_training(lab, "0")
    await is_training(lab, "1")
    first.terminate()
    assert await first.wait() == ExitCode.TERMINATED
    assert second.returncode is None
    below = descendants(second.pid)
    os.killpg(second.pid, signal.SIGKILL)
    assert await second.wait() == -signal.SIGKILL
    while any(map(is_there, below)):  # an uploader ends with its pipe
        await asyncio.sleep(0.05)


async def test_a_dead_server(lab: Lab, processes: Processes) -> None:
    """Nobody would say how its forks end: they are killed, which is their end, and the next has a new server."""
    first = await fork(processes, lab, words_of(lab, LONG))
    await is_training(lab)
    os.kill(server_of(first), signal.SIGKILL)
    assert await first.wait() == -signal.SIGKILL
    second = await fork(processes, lab, ["train", "--trial", "nowhere", "--store", "here"])
    assert await second.wait() == ExitCode.CONFIG


async def test_environments(lab: Lab, processes: Processes) -> None:
    """A server has one environment for good: another one has another."""
    servers = []
    for threads in ("1", "2", "1"):
        environment = lab.environment() | {"OMP_NUM_THREADS": threads}
        process = await processes.start(words_of(lab, LONG), environment, lab.folder / "log", forks=True)
        servers.append(server_of(process))
        assert f"OMP_NUM_THREADS={threads}" in read(servers[-1], "environ").split("\0")
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    assert servers[0] == servers[2] != servers[1]


async def test_begun_at_once(lab: Lab, processes: Processes) -> None:
    """They have one server, so torch is imported once."""
    both = await asyncio.gather(*(fork(processes, lab, words_of(lab, LONG + n), str(n)) for n in range(2)))
    try:
        assert server_of(both[0]) == server_of(both[1])
    finally:
        for process in both:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def test_a_program_of_its_own(lab: Lab, processes: Processes) -> None:
    """What wants GPUs or several processes is no fork."""
    words = ["train", "--trial", "nowhere", "--store", "here"]
    process = await processes.start(words, lab.environment(), lab.folder / "log", forks=False)
    assert "cpt_trainer.forkserver" not in read(process.pid, "cmdline")
    assert await process.wait() == ExitCode.CONFIG


def test_nobody_asks_any_more(lab: Lab) -> None:
    """The server ends with whoever started it, and what trains goes on: it holds the lock, and is not lost."""
    pipe = subprocess.PIPE
    with subprocess.Popen(SERVER, stdin=pipe, stdout=pipe, env=lab.environment(), start_new_session=True) as server:
        assert server.stdin
        assert server.stdout
        words, log = words_of(lab, LONG), lab.folder / "fork.log"
        server.stdin.write(f"{json.dumps({'words': words, 'log': str(log)})}\n".encode())
        server.stdin.flush()
        pid = json.loads(server.stdout.readline())["pid"]
    assert server.returncode == 0
    try:
        wait_for(lab.folder, "store/data/**/checkpoints/*/manifest.json")
        assert is_there(pid)
    finally:
        os.killpg(pid, signal.SIGKILL)
