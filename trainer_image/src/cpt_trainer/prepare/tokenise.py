"""Tokenises a source into parts, on every CPU that the trial has.

    reader ──pieces──► process 1 ──batches──► parts/00000, parts/00001, …
       (threads)       process 2 …            (this process: sorts, writes, tells how far it is)

Pieces are worked on out of order and taken in order, a few per process at a time: a slow reader or writer holds up the
processes, and nothing piles up. Each process encodes on one thread: the threads of `tokenizers` share caches and locks,
processes share nothing.

The processes are forked, so they start at once, with all that is imported here.

Price: a copy of each piece and of its tokens from process to process.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from decimal import Decimal

import structlog

from cpt_api.values import Tokens
from cpt_trainer.output import die_with
from cpt_trainer.prepare.documents import Batch, Task, work
from cpt_trainer.prepare.parts import Part, read_parts, write_part
from cpt_trainer.prepare.read import Piece, Position, Sizes, pieces, texts
from cpt_trainer.sources import Files
from cpt_trainer.tokenizer import Tokenizer
from cpt_trainer.trial import Trial, put_progress

log = structlog.get_logger()

_PROGRESS_SECONDS = 15.0
_TASKS_PER_PROCESS = 3
"""One at work, one waiting, one done."""

Pieces = tuple[Piece, ...]


def tokenise(trial: Trial, files: Files, task: Task, most_candidates: int, sizes: Sizes) -> list[Part]:
    """All parts of the source; those of earlier attempts are taken as they are."""
    dtype = task.tokenizer.dtype
    parts = read_parts(trial.store, trial.data, dtype)
    start = parts[-1].next if parts else Position()
    log.info("tokenise", uri=files.uri, bytes=files.bytes, parts_before=len(parts), begins_at=str(start))
    report = _Report(trial, files)
    report.put(parts, start, ())
    group: list[Batch] = []
    group_bytes = 0
    after = start
    chunks = _chunks(pieces(files, start, sizes.piece_bytes), sizes.piece_bytes)
    for chunk, batch in _worked(chunks, task, processes(trial)):
        group.append(batch)
        group_bytes += sum(len(piece.data) for piece in chunk)
        after = chunk[-1].next
        if group_bytes >= sizes.part_bytes:
            parts.append(write_part(trial.store, trial.data, len(parts), group, after, dtype, most_candidates))
            group, group_bytes = [], 0
        if report.is_due():
            report.put(parts, after, group)
    if group:
        parts.append(write_part(trial.store, trial.data, len(parts), group, after, dtype, most_candidates))
    report.put(parts, after, ())
    return parts


def processes(trial: Trial) -> int:
    """As many as the trial asked for CPUs; all that there are where it did not say."""
    resources = trial.spec.run.resources
    if resources.cpu is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    thousandths = resources.cpu.endswith("m")
    cpus = Decimal(resources.cpu.removesuffix("m")) / (1000 if thousandths else 1)
    return max(1, math.ceil(cpus))


def _chunks(source: Iterable[Piece], piece_bytes: int) -> Iterator[Pieces]:
    """Small files together, so that a message to a process is worth its while."""
    waiting: list[Piece] = []
    size = 0
    for piece in source:
        waiting.append(piece)
        size += len(piece.data)
        if size >= piece_bytes // 2:
            yield tuple(waiting)
            waiting, size = [], 0
    if waiting:
        yield tuple(waiting)


# --- processes ------------------------------------------------------------------------------------------------------

_here: list[tuple[Task, Tokenizer]] = []
"""What `_work` works with; processes inherit it, so that nothing is sent or read again."""


def _worked(chunks: Iterable[Pieces], task: Task, count: int) -> Iterator[tuple[Pieces, Batch]]:
    """Each chunk with its batch, in order."""
    _here[:] = [(task, Tokenizer(task.tokenizer))]
    if count == 1:  # nothing to gain
        yield from ((chunk, _work(chunk)) for chunk in chunks)
        return
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(count, fork, initializer=die_with, initargs=(os.getpid(),)) as pool:
        pool.submit(os.getpid).result()  # forks all of them now: the reader's threads, and their locks, come later
        at_work: deque[tuple[Pieces, Future[Batch]]] = deque()
        for chunk in chunks:
            at_work.append((chunk, pool.submit(_work, chunk)))
            if len(at_work) >= _TASKS_PER_PROCESS * count:
                done, future = at_work.popleft()
                yield done, future.result()
        while at_work:
            done, future = at_work.popleft()
            yield done, future.result()


def _work(chunk: Pieces) -> Batch:
    task, tokenizer = _here[0]
    return work(chunk, task, tokenizer)


# --- progress -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Report:
    """Tells how far it is; a part is a step, and is committed when it is written."""

    trial: Trial
    files: Files
    last: float = 0.0

    def is_due(self) -> bool:
        """Whether some seconds have passed since."""
        return time.monotonic() - self.last >= _PROGRESS_SECONDS

    def put(self, parts: Sequence[Part], at: Position, group: Sequence[Batch]) -> None:
        """Overwrite progress.json; how much there will be is reckoned from the part of the source that was read."""
        self.last = time.monotonic()
        committed = sum(part.summary.tokens for part in parts)
        tokens = committed + sum(len(batch.tokens) for batch in group)
        put_progress(
            self.trial,
            tokens=tokens,
            planned_tokens=max(tokens, round(tokens / max(self._share_read(at), 1e-9))) if tokens else 0,
            step=len(parts),
            committed_step=len(parts),
            committed_tokens=Tokens(committed),
        )

    def _share_read(self, at: Position) -> float:
        entries = texts(self.files)
        before = sum(entry.size for entry in entries[: at.file])
        within = min(at.offset, entries[at.file].size) if at.file < len(entries) else 0
        return (before + within) / max(1, sum(entry.size for entry in entries))
