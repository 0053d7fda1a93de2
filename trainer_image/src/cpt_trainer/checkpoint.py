"""Saves a run and finds it again. A checkpoint exists when its manifest exists.

    checkpointer = Checkpointer(store, "data/team/<digest>/checkpoints/", writer, peers, flush, interval_seconds=600)
    found = checkpointer.restore(lambda checkpoint: load_into(model, optimizer, checkpoint))      None: begin
    checkpointer.save(state_of(model, optimizer, rank), at, Kind.PERIODIC)        returns when all is copied (staged)
    checkpointer.poll()                                                           every step: raises when saves fail
    checkpointer.save_now(state_of(model, optimizer, rank), at, Kind.FINAL, 600)  returns when it is committed
    checkpointer.close()

One save, on every rank: stage on the training thread; then on a thread of its own let the flusher upload, gather what
each rank uploaded over gloo, let rank 0 write the manifest, and learn what came of it. Whatever is cut short on the
way leaves objects that nothing names, and the checkpoints before it untouched:

    stage -> upload (killed at the deadline) -> gather -> manifest, if absent -> prune -> outcome to all
             a rank that failed says so in the gather; there is no barrier that it could leave out

A failed save is counted, and training goes on. The third in a row, or a last good checkpoint older than two intervals
(of at least a save's deadline), ends in StorageError, which names rank, key and error. At most one save is on its way:
`save` waits for the one before, so all ranks begin the same saves.

Price: the staged copy (12 bytes per parameter, divided by the ranks) while a save is on its way.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog

from cpt_api.values import Digest
from cpt_trainer.commit import Report, commit, merge
from cpt_trainer.errors import DamagedError, MissingError, StorageError, TrainerExit
from cpt_trainer.flush import Flush
from cpt_trainer.manifest import (
    At,
    Checkpoint,
    Kind,
    Manifest,
    ObjectEntry,
    TensorEntry,
    candidate,
    quarantine,
    read_checkpoint,
    step_folder,
)
from cpt_trainer.peers import Peers, lead
from cpt_trainer.state import Staged, State, stage
from cpt_trainer.store import Store

log = structlog.get_logger()
T = TypeVar("T")

DEADLINE_SECONDS = 600.0
"""Of the upload of one save."""
_FAILURES_IN_A_ROW = 3
_CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Writer:
    """Who saves."""

    digest: Digest
    """Of the trial."""
    attempt: int
    pod_uid: str
    """Of rank 0; may be empty outside a cluster."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """For metrics, progress.json and tests."""

    committed_step: int | None = None
    committed_tokens: int | None = None
    manifest: str | None = None
    """Key of the last manifest that was committed or restored."""
    saves: int = 0
    """Committed by this process."""
    failures: int = 0
    """Failed saves of this process."""
    last_error: str | None = None
    block_seconds: float = 0.0
    """How long the last save held up training."""
    flush_seconds: float = 0.0
    """How long the last committed save took after that."""
    bytes: int = 0
    """Of the last committed save, all ranks."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of a save, the same on all ranks."""

    at: At
    manifest: str | None = None
    bytes: int = 0
    seconds: float = 0.0
    """From the staging to the end, by this rank's clock."""
    error: str | None = None
    fatal: bool = False
    """Whether training must end."""


class Checkpointer:
    """One per rank."""

    def __init__(
        self,
        store: Store,
        prefix: str,
        writer: Writer,
        peers: Peers,
        flush: Flush,
        interval_seconds: float,
        deadline_seconds: float = DEADLINE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._writer = replace(writer, pod_uid=peers.broadcast(writer.pod_uid or secrets.token_hex(8)))
        self._peers = peers
        self._flush = flush
        self._oldest_seconds = 2 * max(interval_seconds, deadline_seconds)
        self._deadline_seconds = deadline_seconds
        self._clock = clock
        self._count = 0  # saves begun; part of their keys, so no object is ever overwritten
        self._failures_in_a_row = 0
        self._committed_seconds = clock()  # when the last good checkpoint was staged
        self._pending: Future[_Outcome] | None = None  # the save on its way, staged at _started
        self._started = 0.0
        self._statistics = Statistics()

    def save(self, state: State, at: At, kind: Kind) -> None:
        """Begin to save: returns as soon as all is copied and training may change it."""
        self._settle()
        self._begin(state, at, kind, self._deadline_seconds)

    def save_now(self, state: State, at: At, kind: Kind, deadline_seconds: float) -> None:
        """Save, or see a save of the same step through; StorageError when that did not succeed in time.

        No save is begun that would, by the time the last one took, not be done before the deadline.
        """
        end = self._clock() + deadline_seconds
        self._settle(deadline_seconds)
        if self._statistics.committed_step != at.step:
            self._begin(state, at, kind, end - self._clock())
            self._settle(end - self._clock())
        if self._statistics.committed_step != at.step:
            raise StorageError(f"step {at.step} was not saved: {self._statistics.last_error}")

    def poll(self) -> None:
        """Take note of a save that has ended; StorageError when too many failed."""
        if self._pending is not None and self._pending.done():
            self._settle()

    def restore(self, load: Callable[[Checkpoint], None]) -> Checkpoint | None:
        """`load` the newest good checkpoint of all attempts and return it; None where the run has never saved.

        One that is damaged is quarantined and the one before is taken. So is one on which two loads neither succeeded
        nor failed with a reason: something in it may kill its readers. Where all are damaged: DataError.
        """
        while True:
            key = lead(self._peers, lambda: candidate(self._store, self._prefix))
            if key is None:
                return None
            mark = f"{key.rpartition('/')[0]}/loading-{self._writer.pod_uid}"
            lead(self._peers, lambda: self._store.put(mark, b""))  # noqa: B023 - called before the loop goes on
            checkpoint, error = self._load(key, load)
            errors = [found for found in self._peers.gather(error) if found]
            if lead(self._peers, lambda: self._judge(key, mark, errors)):  # noqa: B023 - as above
                assert checkpoint is not None
                self._remember(checkpoint)
                return checkpoint

    def _load(self, key: str, load: Callable[[Checkpoint], None]) -> tuple[Checkpoint, None] | tuple[None, TrainerExit]:
        try:
            checkpoint = read_checkpoint(self._store, key)
            load(checkpoint)
        except TrainerExit as error:
            return None, error
        return checkpoint, None

    def _judge(self, key: str, mark: str, errors: Sequence[TrainerExit]) -> bool:
        """Rank 0: whether the load was good; what has nothing to do with the checkpoint is raised."""
        self._store.delete(mark)
        damages = [error for error in errors if isinstance(error, DamagedError | MissingError)]
        if others := [error for error in errors if error not in damages]:
            raise others[0]
        if damages:
            log.error("checkpoint_quarantined", manifest=key, error=str(damages[0]))
            quarantine(self._store, key)
        return not damages

    def _remember(self, checkpoint: Checkpoint) -> None:
        at = checkpoint.manifest.at
        self._committed_seconds = self._clock()
        self._statistics = replace(
            self._statistics, committed_step=at.step, committed_tokens=int(at.tokens), manifest=checkpoint.key
        )

    def close(self) -> None:
        """The run is over: a save that is on its way may still end, if it does so soon; its outcome means nothing."""
        if self._pending is not None:
            wait([self._pending], timeout=_CLOSE_SECONDS)

    def statistics(self) -> Statistics:
        """So far."""
        return self._statistics

    def _begin(self, state: State, at: At, kind: Kind, seconds: float) -> None:
        started = self._started = self._clock()
        staged = stage(state)
        self._count += 1
        head = Manifest(
            digest=self._writer.digest,
            kind=kind,
            resumable=state.resumable,
            at=at,
            optimizer_steps=state.optimizer_steps,
            world_size=self._peers.size,
            attempt=self._writer.attempt,
            writer=f"{self._writer.pod_uid}-{self._count:04}",
            objects=(),
            tensors={},
        )
        self._statistics = replace(self._statistics, block_seconds=self._clock() - started)
        self._pending = _on_a_thread(lambda: self._finish(head, staged, started, seconds))

    def _finish(self, head: Manifest, staged: Sequence[Staged], started: float, seconds: float) -> _Outcome:
        """The rest of a save, on its own thread."""
        try:
            needed = self._statistics.flush_seconds
            if not lead(self._peers, lambda: needed <= seconds):
                return _Outcome(head.at, error=f"{seconds:.0f} s are left, the last save took {needed:.0f} s")
            report = self._upload(head, staged, seconds)
        finally:
            for file in staged:
                file.close()
        reports = self._peers.gather(report)
        outcome = lead(self._peers, lambda: self._conclude(head, reports))
        return replace(outcome, seconds=self._clock() - started)

    def _upload(self, head: Manifest, staged: Sequence[Staged], seconds: float) -> Report:
        folder = step_folder(self._prefix, head.at.step)
        keys = [f"{head.writer}/rank-{self._peers.rank:05}-{file.role}.safetensors" for file in staged]
        try:
            hashes = self._flush([(folder + key, file.path) for key, file in zip(keys, staged, strict=True)], seconds)
        except TrainerExit as error:
            return Report(error=f"rank {self._peers.rank}: {error}")
        objects = tuple(
            ObjectEntry(key=key, bytes=file.bytes, blocks=tuple(map(Digest, blocks)))
            for key, file, blocks in zip(keys, staged, hashes, strict=True)
        )
        tensors = {
            file.role: {
                name: TensorEntry(dtype=dtype, shape=shape, pieces=((row, rows, number, start),))
                for name, dtype, shape, row, rows, start in file.shards
            }
            for number, file in enumerate(staged)
        }
        return Report(objects, tensors)

    def _conclude(self, head: Manifest, reports: Sequence[Report]) -> _Outcome:
        """Rank 0: commit what all ranks uploaded, or say why not."""
        error = "; ".join(report.error for report in reports if report.error)
        if not error:
            manifest = merge(head, reports)
            try:
                key = commit(self._store, self._prefix, manifest)
            except (StorageError, DamagedError, MissingError) as failure:
                error = f"rank 0: {failure}"
            else:
                return _Outcome(head.at, key, sum(entry.bytes for entry in manifest.objects))
        age_seconds = self._clock() - self._committed_seconds
        too_many = self._failures_in_a_row + 1 >= _FAILURES_IN_A_ROW
        return _Outcome(head.at, error=error, fatal=too_many or age_seconds > self._oldest_seconds)

    def _settle(self, seconds: float | None = None) -> None:
        """Wait for the save on its way, if there is one, and take note of how it ended."""
        if self._pending is None:
            return
        try:
            outcome = self._pending.result(seconds)
        except TimeoutError:
            raise StorageError(f"a save was not done within {seconds:.0f} s") from None
        self._pending = None
        known = self._statistics
        if outcome.error is None:
            self._failures_in_a_row = 0
            self._committed_seconds = self._started
            self._statistics = replace(
                known,
                committed_step=outcome.at.step,
                committed_tokens=int(outcome.at.tokens),
                manifest=outcome.manifest,
                saves=known.saves + 1,
                flush_seconds=outcome.seconds,
                bytes=outcome.bytes,
            )
            log.info("checkpoint_committed", step=outcome.at.step, manifest=outcome.manifest)
            return
        self._failures_in_a_row += 1
        self._statistics = replace(known, failures=known.failures + 1, last_error=outcome.error)
        log.warning("checkpoint_failed", step=outcome.at.step, error=outcome.error, in_a_row=self._failures_in_a_row)
        if outcome.fatal:
            raise StorageError(f"{self._failures_in_a_row} saves in a row have failed: {outcome.error}")


def _on_a_thread(act: Callable[[], T]) -> Future[T]:
    """The answer of `act`, which an ending process does not wait for."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(act())
        except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the answer
            future.set_exception(error)

    threading.Thread(target=run, name="checkpoint", daemon=True).start()
    return future
