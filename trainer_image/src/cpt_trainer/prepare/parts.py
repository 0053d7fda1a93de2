"""What has been tokenised so far: parts, each of about 128 MiB of text, its documents in the order of their keys.

    parts/00000.bin                 where each of 2,048 ranges of keys ends; a record per document; tokens
    parts/00000-candidates.bin      texts of documents that may be held out
    parts/00000.json                written last: the part exists since this does; where the next one begins

A later attempt goes on behind the last part. Since documents are in order, whoever makes a shard of the stream reads
one range of each part, and nothing twice: the merge needs no more memory than a shard.

Parts are the same bytes whoever writes them, and are deleted when the dataset is complete.

Price: the tokens are written twice and read once.
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cpt_api.model import Model, canonical_json, sha256
from cpt_api.values import Digest
from cpt_trainer.dataset import Count, File
from cpt_trainer.prepare.documents import RECORD, Batch, Tally
from cpt_trainer.prepare.read import Position
from cpt_trainer.store import Store

_RANGE_BITS = 11
RANGES = 2**_RANGE_BITS
"""Of keys, equally wide."""
_HEAD_BYTES = 2 * RANGES * 8
_CANDIDATE = np.dtype([("key", "V16"), ("end", "<u8")])
"""The key of a document that may be held out, and where its text ends in the object."""

Array = npt.NDArray[Any]


class Summary(Model):
    """`parts/<n>.json`."""

    documents: Count
    tokens: Count
    candidates: Count
    left_out: dict[str, Count] = Field(default_factory=dict)
    examples: tuple[str, ...] = ()
    """Bad lines."""
    file: Count
    """Where the next part begins: the number of the file …"""
    offset: Count
    """… bytes of its content before …"""
    line: Count
    """… and lines of it before."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document that may be held out."""

    key: bytes
    part: Part
    start: int
    length: int

    def text(self) -> str:
        """Of the document."""
        return self.part.store.get_range(self.part.candidates_name, self.start, self.length).decode()


@dataclass(frozen=True)
class Part:
    """A part in the store."""

    store: Store
    name: str
    """The beginning of its keys."""
    summary: Summary
    dtype: np.dtype[Any]

    @property
    def next(self) -> Position:
        """Where the part after it begins."""
        return Position(self.summary.file, self.summary.offset, self.summary.line)

    @property
    def candidates_name(self) -> str:
        """The object with the texts that may be held out."""
        return f"{self.name}-candidates.bin"

    def documents(self, first: int, end: int) -> tuple[Array, Array]:
        """Records and tokens of the documents whose keys are in the ranges from `first` up to, and without, `end`."""
        (begin, token_begin), (stop, token_stop) = self._ends[:, first].tolist(), self._ends[:, end].tolist()
        width, size = self.dtype.itemsize, RECORD.itemsize
        tokens_start = _HEAD_BYTES + self.summary.documents * size
        read = functools.partial(self.store.get_range, f"{self.name}.bin")
        records = read(_HEAD_BYTES + begin * size, (stop - begin) * size)
        tokens = read(tokens_start + token_begin * width, (token_stop - token_begin) * width)
        return np.frombuffer(records, RECORD), np.frombuffer(tokens, self.dtype)

    def candidates(self) -> Iterator[Candidate]:
        """By key, each key once."""
        start = self.summary.candidates * _CANDIDATE.itemsize
        head = np.frombuffer(self.store.get_range(self.candidates_name, 0, start), _CANDIDATE)
        for entry in head:
            end = int(entry["end"])
            yield Candidate(entry["key"].tobytes(), self, start, end - start)
            start = end

    @functools.cached_property
    def _ends(self) -> Array:
        """Documents (row 0) and tokens (row 1) before each range of keys, and in all."""
        head = np.frombuffer(self.store.get_range(f"{self.name}.bin", 0, _HEAD_BYTES), "<u8").reshape(2, RANGES)
        return np.concatenate([np.zeros((2, 1), np.int64), head.astype(np.int64)], axis=1)


def write_part(
    store: Store, prefix: str, number: int, batches: Sequence[Batch], after: Position, dtype: np.dtype[Any], most: int
) -> Part:
    """Sort and write. Of the candidates the first `most` by key are kept: no others can be held out."""
    records = np.concatenate([batch.records for batch in batches], dtype=RECORD)
    tokens = np.concatenate([batch.tokens for batch in batches])
    order = np.lexsort((records["low"], records["high"]))
    ends = np.cumsum(records["tokens"], dtype=np.int64)
    ranges = records["high"][order] >> np.uint64(64 - _RANGE_BITS)
    document_ends = np.searchsorted(ranges, np.arange(RANGES, dtype=np.uint64), side="right")
    token_ends = np.concatenate([[0], np.cumsum(records["tokens"][order], dtype=np.int64)])[document_ends]
    head = np.stack([document_ends, token_ends]).astype("<u8")
    name = f"{prefix}parts/{number:05}"
    put_arrays(store, f"{name}.bin", [head, records[order], *gathered(tokens, ends, records["tokens"], order)])
    kept = sorted({key: text for batch in batches for key, text in batch.candidates}.items())[:most]
    _put_candidates(store, f"{name}-candidates.bin", kept)
    tally = Tally()
    for batch in batches:
        tally.add(batch.tally)
    summary = Summary(
        documents=len(records),
        tokens=len(tokens),
        candidates=len(kept),
        left_out=dict(sorted(tally.left_out.items())),
        examples=tuple(tally.examples),
        file=after.file,
        offset=after.offset,
        line=after.line,
    )
    store.put(f"{name}.json", canonical_json(summary.to_dict()))
    return Part(store, name, summary, dtype)


def read_parts(store: Store, prefix: str, dtype: np.dtype[Any]) -> list[Part]:
    """The parts that earlier attempts left, without a gap."""
    parts: list[Part] = []
    for entry in store.list(f"{prefix}parts/"):
        name = f"{prefix}parts/{len(parts):05}"
        if entry.key == f"{name}.json":
            parts.append(Part(store, name, Summary.model_validate_json(store.get(entry.key)), dtype))
    return parts


def delete_parts(store: Store, prefix: str) -> None:
    """They have done their work. Summaries go first: a part without one does not exist."""
    keys = [entry.key for entry in store.list(f"{prefix}parts/")]
    for key in sorted(keys, key=lambda key: not key.endswith(".json")):
        store.delete(key)


def gathered(tokens: Array, ends: Array, lengths: Array, order: Iterable[int]) -> list[Array]:
    """The tokens of each document, in that order."""
    return [tokens[ends[n] - lengths[n] : ends[n]] for n in order]


def put_arrays(store: Store, key: str, arrays: Iterable[Array], prefix: str = "") -> File:
    """One object of all arrays, by way of a file, so that no copy of it is in memory."""
    digest = hashlib.sha256()
    with tempfile.NamedTemporaryFile() as file:
        for array in arrays:
            data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            digest.update(data)
            file.write(data)
        file.flush()
        store.put_file(prefix + key, Path(file.name))
        return File(key=key, bytes=file.tell(), sha256=Digest(digest.hexdigest()))


def put_bytes(store: Store, key: str, data: bytes, prefix: str = "") -> File:
    """A small object."""
    store.put(prefix + key, data)
    return File(key=key, bytes=len(data), sha256=sha256(data))


def _put_candidates(store: Store, key: str, candidates: Sequence[tuple[bytes, bytes]]) -> None:
    head = np.empty(len(candidates), _CANDIDATE)
    end = head.nbytes
    for entry, (document, text) in zip(head, candidates, strict=True):
        end += len(text)
        entry["key"], entry["end"] = document, end
    store.put(key, head.tobytes() + b"".join(text for _, text in candidates))
