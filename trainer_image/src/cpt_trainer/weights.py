"""The one reader of weights: named tensors by rows, from Hugging Face safetensors or from a checkpoint, without torch.

A tensor lies in one or more pieces, each a run of rows in some object. A reader of rows [a, b) fetches just the bytes
that it needs, so a rank of a sharded model never holds more than its own share:

    embed 10x4 fp32, saved by two ranks       pieces: rows 0..5 in rank-0 from byte 128, rows 5..10 in rank-1 from 128
    read("embed", (4, 7))                     16 bytes of rank-0, 32 bytes of rank-1 -> array of 3x4

bfloat16 has no numpy type: its bits come as uint16, and `TensorInfo.dtype` says BF16.

Price: one range GET per piece touched, and one or two small ones per file to learn where the tensors lie.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cpt_trainer.errors import DataError, MissingError
from cpt_trainer.store import Store

Array = npt.NDArray[Any]
ReadRange = Callable[[str, int, int], bytes]
"""Key, first byte, length."""

NUMPY: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
"""safetensors' names of types."""

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_HEADER_MAX_BYTES = 100 * 1024 * 1024
"""As in safetensors' own reader."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of whole rows of one tensor in one object."""

    row: int
    rows: int
    key: str
    start: int
    """Of the first row, in bytes from the beginning of the object."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor, and where it lies. A scalar is one row."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    """By row, without gap or overlap."""

    @property
    def rows(self) -> int:
        """Length of dimension 0."""
        return self.shape[0] if self.shape else 1

    @property
    def row_bytes(self) -> int:
        """Size of one row."""
        return math.prod(self.shape[1:]) * NUMPY[self.dtype].itemsize

    @property
    def bytes(self) -> int:
        """Size of all rows."""
        return self.rows * self.row_bytes


class Readable(Protocol):
    """Named tensors, wherever their values come from."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """By name."""
        ...

    def read(self, name: str, rows: tuple[int, int] | None = None) -> Array:
        """All rows, or those from the first up to, and without, the second number."""
        ...


@dataclass(frozen=True, slots=True)
class Weights:
    """Named tensors. Safe to share between threads."""

    tensors: Mapping[str, TensorInfo]
    read_range: ReadRange

    def read(self, name: str, rows: tuple[int, int] | None = None) -> Array:
        """All rows, or those from the first up to, and without, the second number."""
        info = self.tensors.get(name)
        if info is None:
            raise DataError(f"no tensor {name!r} among the {len(self.tensors)} of these weights")
        first, end = rows or (0, info.rows)
        if not 0 <= first <= end <= info.rows:
            raise DataError(f"tensor {name!r} has {info.rows} rows; {first} up to {end} were asked for")
        data = bytearray().join(self._parts(info, first, end))  # unlike bytes, an array over it can be written
        shape = (end - first, *info.shape[1:]) if info.shape else ()
        return np.frombuffer(data, NUMPY[info.dtype]).reshape(shape)

    def _parts(self, info: TensorInfo, first: int, end: int) -> Iterable[bytes]:
        for piece in info.pieces:
            begin, stop = max(first, piece.row), min(end, piece.row + piece.rows)
            if begin < stop:
                start = piece.start + (begin - piece.row) * info.row_bytes
                yield self.read_range(piece.key, start, (stop - begin) * info.row_bytes)


def open_weights(store: Store, prefix: str = "") -> Weights:
    """The weights of a Hugging Face folder: one safetensors file, or several with an index."""
    tensors: dict[str, TensorInfo] = {}
    for file in _files(store, prefix):
        for info in read_header(store, prefix + file):
            if info.name in tensors:
                raise DataError(f"tensor {info.name!r} is in {prefix}{file} and in another file of the same model")
            tensors[info.name] = info
    return Weights(tensors, store.get_range)


def _files(store: Store, prefix: str) -> list[str]:
    try:
        index = json.loads(store.get(prefix + INDEX))
        files = sorted(set(index["weight_map"].values()))
    except MissingError:
        return [SINGLE]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(
            f"{prefix}{INDEX}: expected an object with a 'weight_map' of names to files: {error}"
        ) from error
    if strange := [f for f in files if not isinstance(f, str) or "/" in f or not f.endswith(".safetensors")]:
        raise DataError(
            f"{prefix}{INDEX}: expected files of the same folder ending in .safetensors, found {strange[0]!r}"
        )
    return files


def read_header(store: Store, key: str) -> list[TensorInfo]:
    """The tensors of one safetensors file."""
    length = int.from_bytes(store.get_range(key, 0, 8), "little")
    if length > _HEADER_MAX_BYTES:
        raise DataError(f"{key}: its header would have {length} bytes; is this a safetensors file?")
    try:
        header = json.loads(store.get_range(key, 8, length))
        header.pop("__metadata__", None)
        tensors = [_entry(name, entry, key, 8 + length) for name, entry in header.items()]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"{key}: its safetensors header cannot be read: {error!r}") from error
    end = max((info.pieces[0].start + info.bytes for info in tensors), default=8 + length)
    if (size := store.stat(key).size) != end:
        raise DataError(f"{key}: by its header it has {end} bytes, in the store it has {size}")
    return tensors


def _entry(name: str, entry: Mapping[str, Any], key: str, data_start: int) -> TensorInfo:
    shape = tuple(int(n) for n in entry["shape"])
    begin, end = entry["data_offsets"]
    rows = shape[0] if shape else 1
    info = TensorInfo(name, entry["dtype"], shape, (Piece(0, rows, key, data_start + begin),))
    if begin < 0 or min(shape, default=0) < 0 or end - begin != info.bytes:
        raise ValueError(f"{name}: {entry['dtype']} of shape {list(shape)} does not fill bytes {begin} to {end}")
    return info


def layout(tensors: Sequence[tuple[str, str, tuple[int, ...]]]) -> tuple[bytes, list[int]]:
    """The header of a safetensors file of (name, dtype, shape), and where each tensor starts; the size comes last.

    Wide types go first, so that every tensor is aligned to its type.
    """
    order = sorted(range(len(tensors)), key=lambda i: (-NUMPY[tensors[i][1]].itemsize, i))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    starts = [0] * len(tensors)
    end = 0
    for i in order:
        name, dtype, shape = tensors[i]
        starts[i], end = end, end + math.prod(shape) * NUMPY[dtype].itemsize
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [starts[i], end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    return head, [len(head) + start for start in (*starts, end)]
