"""Shards of a merged model: streamed into the store, read back, and taken as they are by a later attempt.

    export/model-00001-of-00003.safetensors      1 GiB or less, unless one tensor has more
           …
           model.safetensors.index.json          last: the model exists since this does
    merged/model-00001-of-00003.json             size and SHA-256 of a shard, once it was read back

Which tensors a shard holds depends on the base alone, so every attempt cuts alike, and writes the same bytes.

Price: a killed attempt loses the shard it was at; what was uploaded of it is a multipart upload that nobody completes,
which a lifecycle rule of the bucket removes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import structlog

from cpt_api.layout import EXPORT
from cpt_api.model import canonical_json
from cpt_api.result import Output
from cpt_api.values import Digest
from cpt_trainer.errors import DamagedError, MissingError
from cpt_trainer.merge.blend import Blend
from cpt_trainer.store import sha256_of
from cpt_trainer.trial import Trial, put_progress
from cpt_trainer.weights import INDEX, TensorInfo, layout, open_weights

log = structlog.get_logger()

SHARD_BYTES = 1024**3
"""Of one file, unless a single tensor has more."""
_MARKS = "merged/"


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of the output."""

    tensors: tuple[str, ...]
    output: Output


def write_shards(trial: Trial, blend: Blend, shard_bytes: int = SHARD_BYTES) -> tuple[Shard, ...]:
    """All of them; those of an earlier attempt are not made again."""
    groups = cut(blend.tensors.values(), shard_bytes)
    total, done, shards = _values(blend.tensors, blend.tensors), 0, []
    for number, names in enumerate(groups, start=1):
        name = f"model-{number:05}-of-{len(groups):05}"
        output = _earlier(trial, name) or _write(trial, blend, names, name)
        shards.append(Shard(names, output))
        done += _values(blend.tensors, names)
        # progress is counted in values here, and a shard is a step: a preempted attempt that wrote one was not in vain
        put_progress(trial, tokens=done, planned_tokens=total, step=number, committed_step=number)
    return tuple(shards)


def cut(tensors: Iterable[TensorInfo], shard_bytes: int) -> list[tuple[str, ...]]:
    """Names by file, in their order."""
    groups: list[list[str]] = []
    room = 0
    for info in tensors:
        if not groups or info.bytes > room:
            groups.append([])
            room = shard_bytes
        groups[-1].append(info.name)
        room -= info.bytes
    return [tuple(group) for group in groups]


def _values(tensors: Mapping[str, TensorInfo], names: Iterable[str]) -> int:
    return sum(math.prod(tensors[name].shape) for name in names)


def _earlier(trial: Trial, name: str) -> Output | None:
    """What an attempt before this one has written and read back."""
    try:
        output = Output.model_validate_json(trial.store.get(_mark(trial, name)))
        size = trial.store.stat(trial.data + output.key).size
    except MissingError:
        return None
    if size != output.bytes:
        raise DamagedError(
            f"{trial.data}{output.key} has {size} bytes, {output.bytes} were written: something else wrote there; "
            f"delete {trial.data} and run the trial again"
        )
    log.info("shard_written_already", key=output.key)
    return output


def _write(trial: Trial, blend: Blend, names: Sequence[str], name: str) -> Output:
    key = f"{EXPORT}{name}.safetensors"
    written = _Written()
    trial.store.put_stream(trial.data + key, written.counted(_chunks(blend, names)))
    if (found := sha256_of(trial.store, trial.data + key)) != written.sha256:
        raise DamagedError(
            f"{trial.data}{key}: read back, its SHA-256 is {found[:12]}…, {written.sha256[:12]}… was written: the "
            "store does not give back what it got"
        )
    output = Output(key=key, bytes=written.bytes, sha256=written.sha256)
    trial.store.put(_mark(trial, name), canonical_json(output.to_dict()))
    log.info("shard_written", key=key, bytes=output.bytes)
    return output


def _mark(trial: Trial, name: str) -> str:
    return f"{trial.data}{_MARKS}{name}.json"


class _Written:
    """What went by."""

    def __init__(self) -> None:
        self.bytes = 0
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> Digest:
        return Digest(self._hash.hexdigest())

    def counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._hash.update(chunk)
            self.bytes += len(chunk)
            yield chunk


def _chunks(blend: Blend, names: Sequence[str]) -> Iterator[bytes]:
    """A safetensors file."""
    infos = [blend.tensors[name] for name in names]
    head, starts = layout([(info.name, info.dtype, info.shape) for info in infos])
    yield head
    for _, name in sorted(zip(starts, names, strict=False)):
        for rows in blend.runs(name):
            yield blend.read(name, rows).tobytes()


def write_index(trial: Trial, blend: Blend, shards: Sequence[Shard]) -> Output:
    """The last object; then the whole is opened as anybody would, and has the tensors that it should."""
    files = {name: shard.output.key.removeprefix(EXPORT) for shard in shards for name in shard.tensors}
    size = sum(info.bytes for info in blend.tensors.values())
    data = canonical_json({"metadata": {"total_size": size}, "weight_map": files})
    trial.store.put(trial.data + EXPORT + INDEX, data)
    want = {name: (info.dtype, info.shape) for name, info in blend.tensors.items()}
    found = open_weights(trial.store, trial.data + EXPORT).tensors
    if {name: (info.dtype, info.shape) for name, info in found.items()} != want:
        raise DamagedError(f"{trial.data}{EXPORT} does not hold the tensors that were written: delete it, and retry")
    return Output(key=EXPORT + INDEX, bytes=len(data), sha256=Digest(hashlib.sha256(data).hexdigest()))
