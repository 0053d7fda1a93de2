"""One trial as a process of `cpt-trainer`, again and again until it has a result or has failed for good.

    attempt 1   exit 143, step 40 committed      -> at once again
    attempt 2   exit 211                         -> again after 10 s
    attempt 3   exit 0, result.json is there     -> Succeeded

What an end means, how often and after which pause there is another attempt: the operator's own record of attempts.
A trial gets its own session, so that Ctrl-C in a terminal reaches only us: we end it with SIGTERM, and it commits.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cpt_api import PROTOCOL
from cpt_api.conditions import Reason
from cpt_api.layout import progress_key, result_key
from cpt_api.result import DocumentError, Progress, Result
from cpt_api.trial import Attempts, Resources, TrialDocument
from cpt_api.values import Digest
from cpt_operator import attempts as record_of
from cpt_operator.plan import Failed, Outcome, Succeeded
from cpt_trainer.errors import MissingError
from cpt_trainer.store import Store
from kubectl_cpt.machine.processes import Process, Processes
from kubectl_cpt.machine.world import Job

_TAIL_BYTES = 64 * 1024
NOT_INHERITED = ("CPT_TRIAL", "CPT_STORE", "CPT_METRICS_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")
"""A pod's variables: they would make a trial believe that it is one."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where trials run."""

    store: Store
    namespace: str
    logs: Path
    """What trials print."""
    parallel: int
    """Trials at the same time."""
    processes: int | None
    """Per training or evaluating trial; as its spec says when None."""
    children: Processes
    """What carries out verbs."""
    environment: Mapping[str, str]

    def processes_of(self, resources: Resources) -> int:
        """All pods of a trial become processes of this machine."""
        own = (resources.nodes or 1) * (resources.gpus_per_node or resources.processes_per_node or 1)
        return self.processes or own


@dataclass
class Attempting:
    """A trial that is being carried out."""

    machine: Machine
    job: Job
    slot: int
    """Which of the machine's places it has, from 0."""
    count: Callable[[Digest], int]
    """Notes that there is one more attempt, and returns its number."""
    retrying: Callable[[Job, str, float], None]
    """Called when another attempt follows: why, and after how many seconds."""
    number: int = 0
    """Of the present attempt."""
    _process: Process | None = field(default=None, init=False)
    _stop: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    @property
    def digest(self) -> Digest:
        """Known, since the trial could start."""
        assert self.job.digest is not None
        return self.job.digest

    async def carry_out(self) -> Outcome | None:
        """How the trial ended for good; None when it was stopped before."""
        record = Attempts()
        limit = self.job.spec.run.max_retries
        while not self.stopping:
            self.number = self.count(self.digest)
            record = record_of.opened(record.model_copy(update={"total": self.number - 1}), datetime.now(UTC))
            end = await self._attempt()
            outcome = await asyncio.to_thread(read_result, self.machine.store, self.machine.namespace, self.job)
            if outcome is not None:
                return outcome
            if self.stopping:
                break
            record = record_of.closed(record, end, 0, datetime.now(UTC))
            progress = await asyncio.to_thread(read_progress, self.machine, self.digest)
            committed = max(end.committed_step or 0, progress.committed_step if progress else 0)
            record = record_of.settled(record, committed)
            finding = record_of.given_up(record, record_of.MAX_RETRIES if limit is None else limit)
            if finding is not None:
                return Failed(finding.reason, f"{finding.message.splitlines()[0]}; its output: {self.log}")
            await self._pause(record, end.message)
        return None

    @property
    def stopping(self) -> bool:
        """It was asked to end."""
        return self._stop.is_set()

    def terminate(self) -> None:
        """Ask for a checkpoint and an end; no further attempt follows."""
        self._stop.set()
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    def kill(self) -> None:
        """At once, with everything that it started."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    @property
    def log(self) -> Path:
        """What the present attempt prints."""
        return self.machine.logs / f"{self.job.name}-{self.number}.log"

    async def _pause(self, record: Attempts, why: str) -> None:
        begin = record_of.not_before(record)
        seconds = max(0.0, (begin - datetime.now(UTC)).total_seconds()) if begin else 0.0
        self.retrying(self.job, why, seconds)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _attempt(self) -> record_of.End:
        self.machine.logs.mkdir(parents=True, exist_ok=True)
        document = self.log.with_suffix(".json")
        document.write_text(json.dumps(self._document().to_dict(), indent=1))
        resources = self.job.spec.run.resources
        self._process = await self.machine.children.start(
            self._words(document),
            environment_of(self.machine, resources, self.slot),
            self.log,
            forks=self.machine.processes_of(resources) == 1 and not resources.gpus_per_node,
        )
        if self.stopping:  # asked for while it was being started
            self._process.terminate()
        code = await self._process.wait()
        return record_of.exited(code if code >= 0 else 128 - code, last_words(self.log), None)

    def _document(self) -> TrialDocument:
        spec = self.job.spec
        return TrialDocument(
            namespace=self.machine.namespace,
            name=self.job.name,
            digest=self.digest,
            attempt=self.number,
            protocol=spec.protocol or PROTOCOL,
            spec=spec,
        )

    def _words(self, document: Path) -> Sequence[str]:
        verb = self.job.spec.type.value.lower()
        return (verb, "--trial", str(document), "--store", self.machine.store.address.uri)


def environment_of(machine: Machine, resources: Resources, slot: int) -> dict[str, str]:
    """As training-operator would set it, and so that trials at the same time do not take each other's place.

    A trial that says how many CPUs it takes has so many threads here as in a pod, and so the same numbers.
    """
    processes = machine.processes_of(resources)
    environment = {name: value for name, value in machine.environment.items() if name not in NOT_INHERITED}
    if resources.cpu is None or resources.gpus_per_node:
        threads = max(1, (os.cpu_count() or 1) // (machine.parallel * processes))
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    if machine.store.address.sources:
        environment["CPT_SOURCES"] = machine.store.address.sources
    if processes > 1:
        environment["PET_NPROC_PER_NODE"] = str(processes)
    if resources.gpus_per_node and "CUDA_VISIBLE_DEVICES" not in environment:
        first = slot * processes
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(first, first + processes)))
    return environment


# --- what the store and the logs say --------------------------------------------------------------------------------


def read_result(store: Store, namespace: str, job: Job) -> Outcome | None:
    """What the trial committed; None when it has not happened."""
    assert job.digest is not None
    key = result_key(namespace, job.digest)
    try:
        return Succeeded(Result.believed(store.get(key), job.digest, job.spec))
    except MissingError:
        return None
    except DocumentError as error:
        return Failed(Reason.RESULT_INVALID, f"{key}: {error}; it is not believed: remove it from the store")


def read_progress(machine: Machine, digest: Digest) -> Progress | None:
    """How far the trial is; None when it does not say."""
    try:
        return Progress.believed(machine.store.get(progress_key(machine.namespace, digest)), digest)
    except (MissingError, DocumentError):
        return None


def last_words(log: Path) -> str:
    """The line with reason and message that a trial prints at its end, or else its last lines."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    for line in reversed(lines):
        if line.startswith('{"reason"'):
            return line
    return "\n".join(lines[-5:])
