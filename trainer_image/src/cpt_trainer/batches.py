"""What a rank reads in a step: rows of tokens with their targets, positions and documents, fetched ahead of time.

    ... the end . EOS | A new docu ment     tokens     8   3   9   0 | 21  40  7
                                            targets    3   9   0   - | 40   7  ...       - counts nothing
                                            positions  0   1   2   3 |  0   1   2

With masked documents positions begin anew after each EOS, and what follows an EOS is not predicted from it. On a GPU
transformers finds documents from the positions; on a CPU we hand it the mask, built once for a micro-batch, and none at
all where each row is one document.

Every rank makes the same number of passes, since passes have collectives: where a rank has no row left it passes one
whose targets count nothing.

Price: 64 MiB of memory for each dataset that fits into it (read once); a range GET for each sequence of larger ones, by
eight threads, four steps ahead.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cpt_api.model import canonical_json, sha256
from cpt_api.values import Digest
from cpt_trainer.dataset import Prepared
from cpt_trainer.loss import IGNORED
from cpt_trainer.order import Length, Order, Place

_SMALL_BYTES = 64 * 1024 * 1024
"""A dataset that is read whole."""
_READERS = 8
_AHEAD = 4

Row = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one forward pass. Shapes: B rows, T tokens."""

    tokens_BT: Tensor
    targets_BT: Tensor
    positions_BT: Tensor
    mask_B1TT: Tensor | None
    """What sees what; None: everything before it in its row, or what positions say (on a GPU)."""

    def to(self, device: torch.device) -> Batch:
        """There; documents travel as positions."""
        if device.type == "cpu":
            return self
        return Batch(self.tokens_BT.to(device), self.targets_BT.to(device), self.positions_BT.to(device), None)


@dataclass(frozen=True, slots=True)
class Share:
    """What one rank reads in one step."""

    batches: Sequence[Batch]
    """One for each pass."""
    datasets: Sequence[Sequence[Digest | None]]
    """Of each row of each batch; None: a row whose targets count nothing."""
    valid: int
    """Targets that count."""
    pairs: int
    """Pairs of tokens that see each other."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How a global batch is cut up."""

    batch: int
    """Sequences of all ranks."""
    rank: int
    size: int
    micro_batch: int
    """Rows of one pass."""
    sequence_tokens: int

    @property
    def slots(self) -> tuple[int, int]:
        """The first slot of this rank, and the one after its last."""
        return self.rank * self.batch // self.size, (self.rank + 1) * self.batch // self.size

    @property
    def passes(self) -> int:
        """The same on all ranks."""
        largest = -(-self.batch // self.size)
        return -(-largest // self.micro_batch)


def open_datasets(datasets: Mapping[Digest, Prepared], sequence_tokens: int) -> dict[Digest, Length]:
    """Their lengths and identities, for the order."""
    return {
        digest: Length((prepared.tokens - 1) // sequence_tokens, sha256(canonical_json(prepared.manifest.to_dict())))
        for digest, prepared in datasets.items()
    }


class Reader:
    """Sequences of prepared datasets. Safe to share between threads."""

    def __init__(self, datasets: Mapping[Digest, Prepared], sequence_tokens: int) -> None:
        self._datasets = datasets
        self._tokens = sequence_tokens
        self._lock = threading.Lock()
        self._whole = functools.cache(lambda digest: datasets[digest].read(0, datasets[digest].tokens))

    @property
    def datasets(self) -> list[Digest]:
        """By digest."""
        return sorted(self._datasets)

    def sequences(self, dataset: Digest) -> int:
        """In an epoch."""
        return (self._datasets[dataset].tokens - 1) // self._tokens

    def eos(self, dataset: Digest) -> int:
        """The token that ends its documents."""
        return self._datasets[dataset].eos

    def read(self, place: Place) -> Row:
        """One sequence and the token after it."""
        prepared = self._datasets[place.dataset]
        start, length = place.position * self._tokens, self._tokens + 1
        if prepared.tokens * prepared.dtype.itemsize > _SMALL_BYTES:
            return prepared.read(start, length).astype(np.int64)
        with self._lock:
            whole = self._whole(place.dataset)
        return whole[start : start + length].astype(np.int64)


def shares(order: Order, reader: Reader, cut: Cut, steps: range, *, masked: bool) -> Iterator[Future[Share]]:
    """The share of each step, in order; a few are being fetched while one is trained on."""
    readers, builder = ThreadPoolExecutor(_READERS, "data"), ThreadPoolExecutor(1, "batches")

    def fetch(step: int) -> Future[Share]:
        places = order.batch_places(step, *cut.slots)
        rows = [readers.submit(reader.read, place) for place in places]
        sources = [(place.dataset, reader.eos(place.dataset)) for place in places]
        return builder.submit(lambda: build([row.result() for row in rows], sources, cut, masked=masked))

    ahead: deque[Future[Share]] = deque()
    try:
        for step in steps:
            ahead.append(fetch(step))
            if len(ahead) > _AHEAD:
                yield ahead.popleft()
        while ahead:
            yield ahead.popleft()
    finally:  # a read that waits for the store is not waited for
        readers.shutdown(wait=False, cancel_futures=True)
        builder.shutdown(wait=False, cancel_futures=True)


def build(rows: Sequence[Row], sources: Sequence[tuple[Digest, int]], cut: Cut, *, masked: bool) -> Share:
    """Cut a rank's rows, with the dataset and the EOS of each, into passes."""
    batches: list[Batch] = []
    datasets: list[list[Digest | None]] = []
    valid = pairs = 0
    for first in range(0, cut.passes * cut.micro_batch, cut.micro_batch):
        some = rows[first : first + cut.micro_batch]
        origin = sources[first : first + cut.micro_batch]
        if not some:
            batch, _ = make_batch(np.zeros((1, cut.sequence_tokens + 1), np.int64), np.array([-1]))
            batch.targets_BT.fill_(IGNORED)
            batches.append(batch)
            datasets.append([None])
            continue
        batch, pairs_B = make_batch(np.stack(some), np.array([eos if masked else -1 for _, eos in origin]))
        batches.append(batch)
        datasets.append([dataset for dataset, _ in origin])
        valid += int((batch.targets_BT != IGNORED).sum())
        pairs += int(pairs_B.sum())
    return Share(batches, datasets, valid, pairs)


def make_batch(tokens: Row, eos_B: Row) -> tuple[Batch, Row]:
    """Rows of T + 1 tokens, with the token that ends a document in each (-1: none does); and each row's pairs."""
    inputs, targets = tokens[:, :-1], tokens[:, 1:].copy()
    is_end = inputs == eos_B[:, None]
    targets[is_end] = IGNORED
    places = np.arange(inputs.shape[1], dtype=np.int64)
    begins = np.zeros_like(inputs)
    begins[:, 1:] = np.where(is_end[:, :-1], places[1:], 0)
    begins = np.maximum.accumulate(begins, axis=1)  # where the document of each token begins
    positions = places - begins
    mask = None
    if begins.any():
        same = torch.from_numpy(begins)
        mask = (same[:, None, :, None] == same[:, None, None, :]).tril_()
    batch = Batch(
        torch.from_numpy(np.ascontiguousarray(inputs)), torch.from_numpy(targets), torch.from_numpy(positions), mask
    )
    return batch, (positions + 1).sum(axis=1)
