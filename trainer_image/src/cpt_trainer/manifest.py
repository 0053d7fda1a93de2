"""What a checkpoint is, where it lies, and which one counts. No torch here: evaluation and merges read it too.

    <prefix>step-000000001200/manifest.json                        the checkpoint exists since this does
                              <writer>/rank-00003-weights.safetensors
                              loading-<writer>                      a load that has not ended (yet)
                              quarantined-<n>.json                  a manifest that was found damaged

A manifest is written once, last, and only where none is: of two attempts that reach the same step one wins, and the
other's objects, under a writer of their own, harm nobody. It lists every tensor with the pieces that make it up, and
every object with the SHA-256 of each of its blocks, so any run of rows can be read *and verified* at any world size:

    1.2 KB of rows in block 7 of a 3 GB object    ->  one GET of 16 MiB, hashed, cut

Price: a reader of a few rows reads whole blocks; the manifest of a 70B model on 64 ranks has about 10 MB.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from cpt_api.model import Model
from cpt_api.result import Key
from cpt_api.values import Digest, Tokens
from cpt_trainer.errors import DamagedError, DataError
from cpt_trainer.store import Store
from cpt_trainer.weights import Piece, TensorInfo, Weights

BLOCK_BYTES = 16 * 1024 * 1024
"""Of one hash."""
_KEPT = 2
_LOADS = 2
CACHED_BLOCKS = 8
"""Held for the next read: one for each thread that fills a model."""

Count = Annotated[int, Field(ge=0)]


class Kind(StrEnum):
    """Why a checkpoint was made."""

    PERIODIC = "Periodic"
    WARM_START = "WarmStart"
    """Right after the weights were read, before the first step."""
    SEGMENT_END = "SegmentEnd"
    """Kept for ever: other segments start here."""
    FINAL = "Final"
    """Kept for ever: what is evaluated and exported."""

    @property
    def permanent(self) -> bool:
        """Whether pruning passes it by."""
        return self in (Kind.SEGMENT_END, Kind.FINAL)


class Role(StrEnum):
    """What a tensor is to its parameter. Each has its own objects, so that an optimizer can be dropped."""

    WEIGHTS = "weights"
    EXP_AVG = "expAvg"
    EXP_AVG_SQ = "expAvgSq"


class TensorEntry(Model):
    """One tensor of a role."""

    dtype: str
    """safetensors' name of its type."""
    shape: tuple[Count, ...]
    """Of the whole tensor."""
    pieces: tuple[tuple[Count, Count, Count, Count], ...]
    """First row, number of rows, number of the object, first byte; by row."""


class ObjectEntry(Model):
    """One object."""

    key: Key
    """Below the folder of the step."""
    bytes: Count
    """Its size."""
    blocks: tuple[Digest, ...]
    """SHA-256 of each run of `blockBytes`; the last one may be shorter."""


class At(Model):
    """How far a run is; all counts begin at token zero of the run."""

    step: Count
    """Optimizer steps."""
    samples: Count
    """Sequences read."""
    tokens: Tokens
    """Tokens read."""
    order: Digest
    """Of the order of the data: seed, sequence length, phases, data."""


TensorTable = dict[Role, dict[str, TensorEntry]]


class Manifest(Model):
    """`manifest.json`."""

    format: Literal[1] = 1
    """Of this document."""
    digest: Digest
    """Of the trial."""
    kind: Kind
    """Why it was made."""
    resumable: bool
    """Whether it has the optimizer's state."""
    at: At
    """How far the run was."""
    optimizer_steps: Count
    """Steps that the optimizer has made: fewer than `step` where some were skipped."""
    world_size: Annotated[int, Field(ge=1)]
    """Ranks that wrote it."""
    attempt: Annotated[int, Field(ge=1)]
    """Of the trial."""
    writer: str
    """Rank 0's pod and the number of the save in its life."""
    block_bytes: Annotated[int, Field(ge=1)] = BLOCK_BYTES
    """Of one hash."""
    objects: tuple[ObjectEntry, ...]
    """Everything it consists of."""
    tensors: TensorTable
    """By role and name."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A manifest, and where it was found."""

    store: Store
    key: str
    """Of the manifest."""
    manifest: Manifest

    @property
    def folder(self) -> str:
        """Of the step, with a slash."""
        return self.key.rpartition("/")[0] + "/"

    def tensors(self, role: Role = Role.WEIGHTS, cached_blocks: int = CACHED_BLOCKS) -> Weights:
        """Its tensors of that role; every byte is verified as it is read. So many blocks are held for the next read."""
        keys = [self.folder + entry.key for entry in self.manifest.objects]
        infos = {
            name: TensorInfo(name, e.dtype, e.shape, tuple(Piece(row, n, keys[o], at) for row, n, o, at in e.pieces))
            for name, e in self.manifest.tensors.get(role, {}).items()
        }
        objects = dict(zip(keys, self.manifest.objects, strict=True))
        return Weights(infos, _Verified(self.store, objects, self, cached_blocks).read)


class _Verified:
    """Reads ranges of a checkpoint's objects by whole blocks, and hashes each."""

    def __init__(
        self, store: Store, objects: Mapping[str, ObjectEntry], checkpoint: Checkpoint, cached_blocks: int
    ) -> None:
        self._store = store
        self._objects = objects
        self._manifest_key = checkpoint.key
        self._block_bytes = checkpoint.manifest.block_bytes
        self._block = functools.lru_cache(maxsize=cached_blocks)(self._fetch)

    def read(self, key: str, start: int, length: int) -> bytes:
        """The bytes of that range."""
        size, end = self._block_bytes, start + length
        numbers = range(start // size, (end - 1) // size + 1)
        return b"".join(
            memoryview(self._block(key, n))[max(0, start - n * size) : min(size, end - n * size)] for n in numbers
        )

    def _fetch(self, key: str, number: int) -> bytes:
        entry = self._objects[key]
        start = number * self._block_bytes
        if number >= len(entry.blocks):
            raise DamagedError(f"{self._manifest_key}: a tensor lies beyond the end of {entry.key}")
        data = self._store.get_range(key, start, min(self._block_bytes, entry.bytes - start))
        if (found := hashlib.sha256(data).hexdigest()) != entry.blocks[number]:
            raise DamagedError(
                f"{key}: block {number} has SHA-256 {found[:12]}…, expected {entry.blocks[number][:12]}… "
                f"by {self._manifest_key}"
            )
        return data


# --- where they lie -------------------------------------------------------------------------------------------------


def step_folder(prefix: str, step: int) -> str:
    """Of one step's checkpoint."""
    return f"{prefix}step-{step:012}/"


def manifest_key(prefix: str, step: int) -> str:
    """Of one step's manifest."""
    return f"{step_folder(prefix, step)}manifest.json"


def read_checkpoint(store: Store, key: str) -> Checkpoint:
    """The checkpoint with that manifest; MissingError, or DamagedError when it cannot be understood."""
    try:
        return Checkpoint(store, key, Manifest.model_validate_json(store.get(key)))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise DamagedError(f"{key}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def newest(store: Store, prefix: str) -> Checkpoint | None:
    """The newest checkpoint whose manifest can be read."""
    keys = Listing.of(store, prefix).manifests()
    for key in keys:
        try:
            return read_checkpoint(store, key)
        except DamagedError:
            continue
    if keys:
        raise DataError(f"none of the {len(keys)} manifests below {prefix} can be read")
    return None


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies below a prefix of checkpoints, by step."""

    prefix: str
    keys: Mapping[int, Sequence[str]]

    @classmethod
    def of(cls, store: Store, prefix: str) -> Listing:
        """As the store has it now."""
        keys: defaultdict[int, list[str]] = defaultdict(list)
        for entry in store.list(prefix):
            if found := re.match(r"step-(\d{12})/", entry.key.removeprefix(prefix)):
                keys[int(found[1])].append(entry.key)
        return cls(prefix, keys)

    def manifests(self) -> list[str]:
        """Keys of manifests, the newest step first."""
        wanted = [(step, manifest_key(self.prefix, step)) for step in sorted(self.keys, reverse=True)]
        return [key for step, key in wanted if key in self.keys[step]]

    def quarantined(self) -> list[str]:
        """Keys of manifests that were found damaged."""
        return [key for keys in self.keys.values() for key in keys if "/quarantined-" in key]

    def loads(self, manifest: str) -> list[str]:
        """Keys that loads of that checkpoint left: they ended badly, or have not ended yet."""
        folder = manifest.rpartition("/")[0]
        return [key for keys in self.keys.values() for key in keys if key.startswith(f"{folder}/loading-")]


# --- which one counts -----------------------------------------------------------------------------------------------


def candidate(store: Store, prefix: str) -> str | None:
    """The manifest to load from: the newest that two loads have not failed on. None where no checkpoint ever was."""
    listing = Listing.of(store, prefix)
    for key in listing.manifests():
        if len(listing.loads(key)) < _LOADS:
            return key
        quarantine(store, key)
    if listing.manifests() or listing.quarantined():
        raise DataError(
            f"every checkpoint below {prefix} is damaged (see the quarantined-*.json there); training does not begin "
            "again by itself: to let it, delete that prefix"
        )
    return None


def quarantine(store: Store, key: str) -> None:
    """Take a manifest out of the way: what it says is kept beside it, and its step can be committed again."""
    data = store.get(key)
    store.put(key.replace("manifest.json", f"quarantined-{hashlib.sha256(data).hexdigest()[:12]}.json"), data)
    store.delete(key)


def prune(store: Store, prefix: str) -> None:
    """Remove what lies before the last two checkpoints and is not to be kept for ever; each manifest goes first."""
    listing = Listing.of(store, prefix)
    manifests = listing.manifests()
    if len(manifests) <= _KEPT:
        return
    oldest_kept = manifests[_KEPT - 1]
    for step, keys in listing.keys.items():
        manifest = manifest_key(prefix, step)
        if manifest >= oldest_kept or (manifest in keys and read_checkpoint(store, manifest).manifest.kind.permanent):
            continue
        for key in sorted(keys, key=lambda key: key != manifest):
            store.delete(key)
