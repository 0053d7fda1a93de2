"""A run: start what can start, wait for an end, look what that makes possible, until nothing is left to do.

    turn 1   two Preflights can start                    -> they run
    turn 2   the plan has 41 trials, 6 can start          -> as many as there are places
    turn n   the last decision is there                   -> done

Level-triggered like the operator: a turn looks only at the store and at what runs, so a run that was ended anywhere
goes on where it was. What is committed is never done again.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from cpt_api.result import Outcome as ResultOutcome
from cpt_api.result import Progress
from cpt_api.trial import CPTTrialSpec, TrialType
from cpt_api.values import Digest
from cpt_operator.plan import Failed, Outcome, Succeeded
from kubectl_cpt.errors import CliError, Interrupted
from kubectl_cpt.machine.attempt import Attempting, Machine, read_progress, read_result
from kubectl_cpt.machine.display import Display, Overview, Row
from kubectl_cpt.machine.lock import REFRESH_SECONDS, Lock
from kubectl_cpt.machine.memory import Memory, keep
from kubectl_cpt.machine.world import Job, World
from kubectl_cpt.numbers import duration

_TICK_SECONDS = 1.0
_PROGRESS_SECONDS = 5.0
"""Between two looks at `progress.json`, which is written every 15 s."""
_READERS = 8
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Working:
    """A trial at work."""

    attempting: Attempting
    task: asyncio.Task[Outcome | None]
    began: float


@dataclass
class Session:
    """One run on one machine."""

    world: World
    machine: Machine
    lock: Lock
    display: Display
    memory_name: str
    """Under which the memory is kept."""
    _seen: set[Digest] = field(default_factory=set, init=False)
    """Trials whose result was looked for in the store: what it did not hold then, we make."""
    _working: dict[Digest, Working] = field(default_factory=dict, init=False)
    _signals: int = field(default=0, init=False)
    _wake: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _began: float = field(default_factory=time.monotonic, init=False)
    _tokens_before: int | None = field(default=None, init=False)
    _refreshed: float = field(default_factory=time.monotonic, init=False)
    _progress: Mapping[Digest, Progress] = field(default_factory=dict, init=False)
    _looked: float = field(default=0.0, init=False)
    """When `_progress` was read."""

    async def run(self) -> None:
        """Until all is done. Raises Interrupted when the user ended it, CliError when it cannot go on."""
        loop = asyncio.get_running_loop()
        heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores some
        for number in heard:
            loop.add_signal_handler(number, self._signalled)
        try:
            await self._turns()
        finally:
            await self._end_all()
            for number in heard:
                loop.remove_signal_handler(number)
        if self._signals:
            raise Interrupted("stopped; what was committed stays: run the same command again to go on")
        if not self.world.complete:
            raise CliError("\n".join(self.world.stuck()) or "nothing can start, which is a defect: please report it")

    async def _turns(self) -> None:
        while True:
            await self._look()
            if self.world.stop() is not None:
                self._terminate()
            elif not self._signals:
                self._start()
            if not self._working:
                return
            await self._wait()
            await self._collect()
            await self._tell()

    # --- what the store knows -----------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Until no plan holds anything that the store was not asked about."""
        found = 0
        while True:
            look = self.world.new_look()
            if look is not None:
                await self._remember(self.world.memory.with_look(look))
                continue
            fresh = [job for job in self.world.jobs if job.digest and job.digest not in self._seen]
            if not fresh:
                break
            found += await self._read(fresh)
        if found:
            self.display.say("before", f"{found} trials are done already")
        if self._tokens_before is None:
            self._tokens_before = self._tokens_done()

    async def _read(self, jobs: list[Job]) -> int:
        """How many have a result."""
        gate = asyncio.Semaphore(_READERS)

        async def read(job: Job) -> Outcome | None:
            async with gate:
                return await asyncio.to_thread(read_result, self.machine.store, self.machine.namespace, job)

        answers = await asyncio.gather(*(read(job) for job in jobs))
        for job, outcome in zip(jobs, answers, strict=True):
            assert job.digest is not None
            self._seen.add(job.digest)
            if outcome is None:
                continue
            self.world.answer(job.digest, outcome)
            if isinstance(outcome, Failed):
                self.display.say("failed", self._words(job, outcome, None))
        return sum(isinstance(outcome, Succeeded) for outcome in answers)

    async def _remember(self, memory: Memory) -> None:
        await asyncio.to_thread(keep, self.machine.store, self.machine.namespace, self.memory_name, memory)
        self.world.remember(memory)

    # --- what runs ----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        for job in self.world.ready():
            if len(self._working) >= self.machine.parallel:
                return
            if job.digest is None or job.digest in self._working:
                continue
            taken = {working.attempting.slot for working in self._working.values()}
            slot = next(number for number in range(self.machine.parallel) if number not in taken)
            attempting = Attempting(self.machine, job, slot, self._count, self._retrying)
            self._working[job.digest] = Working(
                attempting, asyncio.create_task(attempting.carry_out()), time.monotonic()
            )
            self.display.say("started", job.label)

    def _count(self, digest: Digest) -> int:
        """Noted before the process starts; a small write, so it may hold up the others."""
        memory = self.world.memory.with_attempt(digest)
        keep(self.machine.store, self.machine.namespace, self.memory_name, memory)
        self.world.remember(memory)
        return memory.attempts[digest]

    def _retrying(self, job: Job, why: str, seconds: float) -> None:
        when = f"again in {duration(seconds)}" if seconds else "again now"
        self.display.say("retrying", f"{job.label}: {why.splitlines()[0]}; {when}")

    async def _wait(self) -> None:
        """Until a trial has ended, a signal came, or a second has passed."""
        self._wake.clear()
        wake = asyncio.create_task(self._wake.wait())
        tasks = {working.task for working in self._working.values()}
        await asyncio.wait({*tasks, wake}, timeout=_TICK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        wake.cancel()

    async def _collect(self) -> None:
        for digest, working in list(self._working.items()):
            if not working.task.done():
                continue
            del self._working[digest]
            outcome = working.task.result()
            job, seconds = working.attempting.job, time.monotonic() - working.began
            if outcome is None:
                self.display.say("stopped", job.label)
                continue
            self.world.answer(digest, outcome)
            event = "failed" if isinstance(outcome, Failed) else "done"
            self.display.say(event, self._words(job, outcome, seconds))

    def _signalled(self) -> None:
        """The first time ask for checkpoints, the second time end it at once."""
        self._signals += 1
        self._wake.set()
        if self._signals == 1:
            self._terminate()
            return
        for working in self._working.values():
            working.attempting.kill()

    def _terminate(self) -> None:
        """Ask everything that runs for a checkpoint and an end."""
        running = [working.attempting for working in self._working.values() if not working.attempting.stopping]
        for attempting in running:
            attempting.terminate()
        if running:
            self.display.say(
                "stopping", f"{len(running)} trials save a checkpoint and end; Ctrl-C again ends them at once"
            )

    async def _end_all(self) -> None:
        """Nothing of ours outlives us, whatever happened."""
        self._terminate()
        await asyncio.gather(*(working.task for working in self._working.values()), return_exceptions=True)
        await self.machine.children.close()

    # --- what people see ----------------------------------------------------------------------------------------------

    async def _tell(self) -> None:
        if time.monotonic() - self._refreshed > REFRESH_SECONDS:
            await asyncio.to_thread(self.lock.refresh)
            self._refreshed = time.monotonic()
        if time.monotonic() - self._looked > _PROGRESS_SECONDS:
            self._progress = {
                digest: found
                for digest, working in list(self._working.items())
                if working.attempting.job.spec.type is TrialType.TRAIN
                and (found := await asyncio.to_thread(read_progress, self.machine, digest))
            }
            self._looked = time.monotonic()
        progress = {digest: found for digest, found in self._progress.items() if digest in self._working}
        rows = [self._row(working, progress.get(digest)) for digest, working in self._working.items()]
        self.display.show(rows, self._overview(progress))

    def _row(self, working: Working, progress: Progress | None) -> Row:
        job, seconds = working.attempting.job, time.monotonic() - working.began
        if progress is None:
            return Row(job.label, seconds)
        return Row(job.label, seconds, _own_tokens(job.spec, progress), job.tokens)

    def _overview(self, progress: Mapping[Digest, Progress]) -> Overview:
        jobs = self.world.jobs
        at_work = sum(_own_tokens(self._working[d].attempting.job.spec, p) for d, p in progress.items())
        tokens, planned = self._tokens_done() + at_work, sum(job.tokens for job in jobs)
        ended = sum(job.digest in self.world.outcomes for job in jobs)
        fresh, seconds = tokens - (self._tokens_before or 0), time.monotonic() - self._began
        eta = seconds * (planned - tokens) / fresh if fresh > 0 and planned > tokens else None
        return Overview(ended, len(jobs), tokens, planned, eta)

    def _tokens_done(self) -> int:
        return sum(job.tokens for job in self.world.jobs if job.digest in self.world.outcomes)

    def _words(self, job: Job, outcome: Outcome, seconds: float | None) -> str:
        head = job.label + (f" in {duration(seconds)}" if seconds is not None else "")
        if isinstance(outcome, Failed):
            return f"{head}: {outcome.reason}: {outcome.message}"
        return ": ".join(filter(None, [head, self._result_words(outcome)]))

    def _result_words(self, outcome: Succeeded) -> str:
        result = outcome.result
        if result.outcome is ResultOutcome.DIVERGED:
            return "diverged"
        if result.decision:
            return result.decision.sentence
        if result.findings:
            return "; ".join(f"{f.input}: {f.message}" if f.input else f.message for f in result.findings)
        names = {job.digest: job.title for job in self.world.jobs if job.spec.type is TrialType.PREPARE}
        texts = (f"{names.get(s.text, s.text.short)} {s.bits_per_byte:.3f}" for s in result.held_out)
        return ", ".join([*texts, *(f"{s.suite} {s.groups[0].value:.4f}" for s in result.suites)])


def _own_tokens(spec: CPTTrialSpec, progress: Progress) -> int:
    start = spec.train.start_tokens if spec.train else 0
    return max(0, int(progress.tokens - start))
