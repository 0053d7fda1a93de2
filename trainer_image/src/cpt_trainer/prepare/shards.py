"""From parts to the training stream: shards of about 256 MiB, documents in the order of their keys, each once.

    part 0: keys 1a.. 5c.. 9f..     shard 0, keys from 00 to 7f:   1a.. 5c..
    part 1: keys 5c.. a0..          shard 1, keys from 80 to ff:   9f.. a0..

Equal documents have equal keys, so they meet in one shard, side by side: exact deduplication needs no table of all
documents. And the order of a hash is a random one that is the same on every machine, whatever the files are called
and however the work was divided: it is the shuffle.

With `maxTokens` the stream ends with the last document that fits: a random sample of the documents, not the first file.

Price: two range GETs for each part and shard, and twice the tokens of one shard in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cpt_api.model import Model, canonical_json
from cpt_trainer.dataset import Count, Shard
from cpt_trainer.errors import MissingError
from cpt_trainer.prepare.documents import RECORD
from cpt_trainer.prepare.parts import RANGES, Array, Part, gathered, put_arrays
from cpt_trainer.store import Store

_MOST_SHARDS = 512
"""All of them are named in `result.json`."""
_THREADS = 8


class ShardEntry(Model):
    """`parts/shard-<n>.json`: a finished shard, for an attempt that goes on behind it."""

    shard: Shard | None
    """None where no document is left."""
    source_bytes: Count
    """Of its documents."""
    duplicates: Count
    """Documents that are equal to one of the stream."""
    beyond: Count
    """Documents that `maxTokens` leaves out."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What of all documents becomes the stream."""

    first_key: bytes
    """Documents with smaller keys are held out."""
    max_tokens: int | None
    """Of the stream."""


def write_shards(store: Store, prefix: str, parts: Sequence[Part], cut: Cut, shard_bytes: int) -> list[ShardEntry]:
    """The whole stream; shards that an earlier attempt finished are taken as they are."""
    total_bytes = sum(part.summary.tokens * part.dtype.itemsize for part in parts)
    count = min(_MOST_SHARDS, max(1, -(-total_bytes // shard_bytes)))
    entries: list[ShardEntry] = []
    room = cut.max_tokens
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="merge") as pool:
        for number in range(count):
            key = f"{prefix}parts/shard-{number:05}.json"
            try:
                entry = ShardEntry.model_validate_json(store.get(key))
            except MissingError:
                first, end = RANGES * number // count, RANGES * (number + 1) // count
                found = list(pool.map(lambda part: part.documents(first, end), parts))  # noqa: B023 - used at once
                entry = _write_shard(store, prefix, number, _merged(found, cut.first_key, room))
                store.put(key, canonical_json(entry.to_dict()))
            if room is not None:
                room -= entry.shard.tokens if entry.shard else 0
                room = 0 if entry.beyond else room  # a later document might fit, but the stream has ended
            entries.append(entry)
    return entries


@dataclass(frozen=True, slots=True)
class _Merged:
    """The documents of one shard, in their order."""

    tokens: Sequence[Array]
    records: Array
    duplicates: int
    beyond: int


def _merged(found: Sequence[tuple[Array, Array]], first_key: bytes, room: int | None) -> _Merged:
    records = np.concatenate([np.empty(0, RECORD), *(part for part, _ in found)])
    tokens = np.concatenate([part for _, part in found]) if found else np.empty(0)
    order = np.lexsort((records["low"], records["high"]))
    high, low = records["high"][order], records["low"][order]
    first_high, first_low = (np.uint64(int.from_bytes(half, "big")) for half in (first_key[:8], first_key[8:]))
    trained = (high > first_high) | ((high == first_high) & (low >= first_low))
    again = np.zeros(len(order), np.bool_)
    again[1:] = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
    kept = order[trained & ~again]
    fit = len(kept)
    if room is not None:
        fit = int(np.searchsorted(np.cumsum(records["tokens"][kept], dtype=np.int64), room, side="right"))
    ends = np.cumsum(records["tokens"], dtype=np.int64)
    return _Merged(
        gathered(tokens, ends, records["tokens"], kept[:fit]),
        records[kept[:fit]],
        int(np.count_nonzero(trained & again)),
        len(kept) - fit,
    )


def _write_shard(store: Store, prefix: str, number: int, merged: _Merged) -> ShardEntry:
    shard = None
    if len(merged.records):
        ends = np.cumsum(merged.records["tokens"], dtype="<u8")
        shard = Shard(
            tokens=int(ends[-1]),
            documents=len(ends),
            stream=put_arrays(store, f"tokens-{number:05}.bin", merged.tokens, prefix),
            ends=put_arrays(store, f"docs-{number:05}.idx", [ends], prefix),
        )
    return ShardEntry(
        shard=shard,
        source_bytes=int(merged.records["bytes"].sum(dtype=np.int64)),
        duplicates=merged.duplicates,
        beyond=merged.beyond,
    )
