"""How a trial's process begins: as a program of its own, or as a fork of one that has imported all it needs.

    process = await processes.start(["train", "--trial", …], environment, log, forks=True)
    code = await process.wait()                                    -9 where signal 9 ended it, as in asyncio

On a laptop with small models importing torch is most of a trial, so trials of one environment are forks of one server
(`cpt_trainer.forkserver`). A server that dies takes nothing along but its answers: what it had begun is killed, which
is a lost attempt, and the next trial has a new server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

TRAINER = (sys.executable, "-m", "cpt_trainer")
_SERVER = (sys.executable, "-m", "cpt_trainer.forkserver")

Environment = Mapping[str, str]


class Process(Protocol):
    """What has begun; it leads a session of its own, so that Ctrl-C in a terminal does not reach it."""

    @property
    def pid(self) -> int:
        """Also its group's number."""
        ...

    @property
    def returncode(self) -> int | None:
        """None until it has ended."""
        ...

    def terminate(self) -> None:
        """Send SIGTERM."""
        ...

    async def wait(self) -> int:
        """Until it has ended."""
        ...


@dataclass
class Processes:
    """Begins them, and ends the servers at the end."""

    inherited: tuple[int, ...]
    """Open files that hold the lock."""
    program: Sequence[str] = TRAINER
    """What carries out a verb."""
    _servers: dict[frozenset[tuple[str, str]], _Server] = field(default_factory=dict, init=False)
    """By environment."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    """Trials that begin at once must find one server, not start one each."""

    async def start(self, words: Sequence[str], environment: Environment, log: Path, *, forks: bool) -> Process:
        """Output goes to the log. `forks`: it computes in one process, on CPUs."""
        if forks and self.program == TRAINER:
            return await (await self._server(environment)).fork(words, log)
        with log.open("wb") as output:
            return await asyncio.create_subprocess_exec(
                *self.program,
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                pass_fds=self.inherited,
                start_new_session=True,
            )

    async def close(self) -> None:
        """Nothing runs any more."""
        for server in self._servers.values():
            await server.close()

    async def _server(self, environment: Environment) -> _Server:
        key = frozenset(environment.items())
        async with self._turn:
            if key not in self._servers or self._servers[key].is_gone:
                self._servers[key] = await _Server.start(environment, self.inherited)
        return self._servers[key]


@dataclass
class _Fork:
    """Of a server."""

    pid: int
    _code: asyncio.Future[int]

    @property
    def returncode(self) -> int | None:
        return self._code.result() if self._code.done() else None

    def terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    async def wait(self) -> int:
        return await asyncio.shield(self._code)


@dataclass
class _Server:
    """One process that forks."""

    _process: asyncio.subprocess.Process
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    """It begins one after the other."""
    _begun: asyncio.Queue[_Fork | None] = field(default_factory=asyncio.Queue, init=False)
    """None: there will be no more."""
    _running: dict[int, asyncio.Future[int]] = field(default_factory=dict, init=False)
    _listening: asyncio.Task[None] = field(init=False)

    @classmethod
    async def start(cls, environment: Environment, inherited: tuple[int, ...]) -> _Server:
        pipe = asyncio.subprocess.PIPE
        server = cls(
            await asyncio.create_subprocess_exec(
                *_SERVER, stdin=pipe, stdout=pipe, env=environment, pass_fds=inherited, start_new_session=True
            )
        )
        server._listening = asyncio.create_task(server._listen())
        return server

    @property
    def is_gone(self) -> bool:
        return self._listening.done()

    async def fork(self, words: Sequence[str], log: Path) -> Process:
        assert self._process.stdin
        async with self._turn:
            with contextlib.suppress(ConnectionError):
                self._process.stdin.write(f"{json.dumps({'words': words, 'log': str(log)})}\n".encode())
                await self._process.stdin.drain()
            begun = await self._begun.get()
            if begun is None:
                self._begun.put_nowait(None)  # for whoever waits for the turn
                return _Fork(self._process.pid, _known(-signal.SIGKILL))
            return begun

    async def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        await self._process.wait()
        await self._listening

    async def _listen(self) -> None:
        """What has begun and ended, until the server is gone."""
        assert self._process.stdout
        async for line in self._process.stdout:
            answer = json.loads(line)
            if "code" in answer:
                self._running.pop(answer["pid"]).set_result(answer["code"])
            else:
                code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
                self._running[answer["pid"]] = code
                self._begun.put_nowait(_Fork(answer["pid"], code))
        for pid, code in self._running.items():  # nobody will say when they end
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            code.set_result(-signal.SIGKILL)
        self._begun.put_nowait(None)


def _known(code: int) -> asyncio.Future[int]:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    future.set_result(code)
    return future
