"""Item tables: what an evaluation saw, item by item. Every decision reads only these.

    items = heldout_items(text, sections=["9f2c…/0", "9f2c…/1"], documents=["9f2c…", "9f2c…"], bits=[812.5, 90.25],
                          source_bytes=[700, 80])
    score, output = write_heldout(store, trial.data, text, items)
    score.table                                   "tables/heldout-4be1c0a9d2f3-77a01c5e9b20.parquet"

One compressed Parquet file per text or suite, its rows sorted, so equal items give equal bytes (with one version of
pyarrow). The name ends with a hash of the content: a forgotten attempt that writes late cannot change what a committed
`result.json` refers to.

Price: about 100 bytes an item, and 0.1 s to import pyarrow.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cpt_api.result import HeldOutScore, Output
from cpt_api.values import Digest
from cpt_trainer.decide.estimates import level, rounded, text_sums
from cpt_trainer.errors import DataError
from cpt_trainer.store import Store

Texts = npt.NDArray[np.str_]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

HELD_OUT = "Heldout"
"""The suite of held-out texts."""
UNKNOWN = -1
"""In `gold` and `correct`, of an item without choices."""

SCHEMA = pa.schema(
    [
        pa.field("suite", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("item", pa.string(), nullable=False),
        pa.field("itemHash", pa.string(), nullable=False),
        pa.field("promptHash", pa.string(), nullable=False),
        pa.field("stratum", pa.string(), nullable=False),
        pa.field("cluster", pa.string(), nullable=False),
        pa.field("choiceLogprobs", pa.list_(pa.float64()), nullable=False),
        pa.field("choiceTokens", pa.list_(pa.int32()), nullable=False),
        pa.field("choiceChars", pa.list_(pa.int32()), nullable=False),
        pa.field("choiceBytes", pa.list_(pa.int32()), nullable=False),
        pa.field("gold", pa.int32()),
        pa.field("bits", pa.float64()),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("correct", pa.bool_()),
        pa.field("margin", pa.float64()),
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """The columns of a table; all have one length, and (suite, task, item) names a row."""

    suite: Texts
    """`Heldout`, or the name of a suite."""
    task: Texts
    """The digest of a held-out text, or a task of the suite."""
    item: Texts
    """A section of the text, or a question."""
    item_hash: Texts
    """Of the item's content; empty where `task` and `item` are content hashes themselves."""
    prompt_hash: Texts
    """Of everything that stood before what was scored; empty for held-out text."""
    stratum: Texts
    """Fixed groups (subjects) inside a task; empty where there is one."""
    cluster: Texts
    """Items that share a passage or a document vary together."""
    choice_logprobs: Sequence[Sequence[float]]
    """Summed log-probability of each choice, in nats; none for held-out text."""
    choice_tokens: Sequence[Sequence[int]]
    """Length of each choice."""
    choice_chars: Sequence[Sequence[int]]
    """Length of each choice."""
    choice_bytes: Sequence[Sequence[int]]
    """Length of each choice in UTF-8."""
    gold: Integers
    """The right choice from 0, or UNKNOWN."""
    bits: Floats
    """Minus log2 of the probability of the text, or of the gold answer's; NaN where none was scored."""
    bytes: Integers
    """UTF-8 source bytes of that text."""
    correct: Integers
    """1, 0 or UNKNOWN."""
    margin: Floats
    """Of the gold choice over the best other one, in nats (for each token, byte or character where the task divides by
    them); NaN without choices."""

    def __post_init__(self) -> None:
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"columns of one length are expected, found {lengths}")

    def __len__(self) -> int:
        return len(self.item)


def heldout_items(
    text: Digest,
    sections: Sequence[str],
    documents: Sequence[str],
    bits: Sequence[float] | Floats,
    source_bytes: Sequence[int] | Integers,
) -> Items:
    """The items of one held-out text: a row per section, clustered by document."""
    rows = len(sections)
    empty = np.full(rows, "", dtype=np.str_)
    unknown = np.full(rows, UNKNOWN, dtype=np.int64)
    nothing: tuple[tuple[int, ...], ...] = ((),) * rows
    return Items(
        suite=np.full(rows, HELD_OUT),
        task=np.full(rows, str(text)),
        item=np.array(sections, dtype=np.str_),
        item_hash=empty,
        prompt_hash=empty,
        stratum=empty,
        cluster=np.array(documents, dtype=np.str_),
        choice_logprobs=nothing,
        choice_tokens=nothing,
        choice_chars=nothing,
        choice_bytes=nothing,
        gold=unknown,
        bits=np.asarray(bits, dtype=np.float64),
        bytes=np.asarray(source_bytes, dtype=np.int64),
        correct=unknown,
        margin=np.full(rows, np.nan),
    )


@dataclass(frozen=True, slots=True)
class Row:
    """One item of a suite; what was not scored is unknown."""

    task: str
    item: str
    item_hash: str
    prompt_hash: str
    stratum: str
    cluster: str
    logprobs: Sequence[float] = ()
    tokens: Sequence[int] = ()
    chars: Sequence[int] = ()
    sizes: Sequence[int] = ()
    """UTF-8 bytes of each choice."""
    gold: int = UNKNOWN
    bits: float = math.nan
    size: int = 0
    """UTF-8 bytes of the text whose bits are meant."""
    correct: int = UNKNOWN
    margin: float = math.nan


def suite_items(suite: str, rows: Sequence[Row]) -> Items:
    """The items of one suite."""
    return Items(
        suite=np.full(len(rows), suite),
        task=_texts(row.task for row in rows),
        item=_texts(row.item for row in rows),
        item_hash=_texts(row.item_hash for row in rows),
        prompt_hash=_texts(row.prompt_hash for row in rows),
        stratum=_texts(row.stratum for row in rows),
        cluster=_texts(row.cluster for row in rows),
        choice_logprobs=[row.logprobs for row in rows],
        choice_tokens=[row.tokens for row in rows],
        choice_chars=[row.chars for row in rows],
        choice_bytes=[row.sizes for row in rows],
        gold=np.array([row.gold for row in rows], dtype=np.int64),
        bits=np.array([row.bits for row in rows], dtype=np.float64),
        bytes=np.array([row.size for row in rows], dtype=np.int64),
        correct=np.array([row.correct for row in rows], dtype=np.int64),
        margin=np.array([row.margin for row in rows], dtype=np.float64),
    )


def where(items: Items, rows: npt.NDArray[np.bool_]) -> Items:
    """Some of the rows, in their order."""
    numbers = np.flatnonzero(rows)

    def part(column: Any) -> Any:
        return column[numbers] if isinstance(column, np.ndarray) else [column[number] for number in numbers]

    return Items(*(part(getattr(items, name)) for name in _NAMES))


def write_items(store: Store, prefix: str, name: str, items: Items, notes: Mapping[str, str] | None = None) -> Output:
    """Write `<prefix>tables/<name>-<hash>.parquet`; the output's key is relative to `prefix`."""
    data = to_parquet(items, notes)
    digest = Digest(hashlib.sha256(data).hexdigest())
    output = Output(key=f"tables/{name}-{digest.short}.parquet", bytes=len(data), sha256=digest)
    store.put(prefix + output.key, data)
    return output


def read_items(store: Store, key: str) -> Items:
    """The table at the full key."""
    return from_parquet(store.get(key), key)


def write_heldout(store: Store, prefix: str, text: Digest, items: Items) -> tuple[HeldOutScore, Output]:
    """Write the table of one held-out text, and say what stands in `result.json` about it."""
    output = write_items(store, prefix, f"heldout-{text.short}", items)
    bits_per_byte, standard_error = heldout_score(items)
    score = HeldOutScore(
        text=text,
        bits_per_byte=bits_per_byte,
        standard_error=standard_error,
        documents=len(np.unique(items.cluster)),
        bytes=int(items.bytes.sum()),
        table=output.key,
    )
    return score, output


def heldout_score(items: Items) -> tuple[float, float]:
    """Bits per byte of a held-out text, and its standard error: a ratio, clustered by document.

    Raises DataError for bits that are not finite, and for a single document: its score has no standard error.
    """
    if not np.isfinite(items.bits).all():
        raise DataError(
            f"held-out text {items.task[0]}: a section has no finite score; the model gives NaN or infinity"
        )
    score = level([text_sums(items)])
    return rounded(score.value), rounded(score.standard_error)


def to_parquet(items: Items, notes: Mapping[str, str] | None = None) -> bytes:
    """Sorted by (suite, task, item), with notes on all of it; raises ValueError for a row that stands there twice."""
    order = np.lexsort((items.item, items.task, items.suite))
    keys = np.stack([items.suite.astype(object), items.task.astype(object), items.item.astype(object)], axis=1)[order]
    twice = (keys[1:] == keys[:-1]).all(axis=1)
    if twice.any():
        raise ValueError(f"item {tuple(keys[1:][twice][0])} stands twice in the table")
    columns = [_column(getattr(items, name), kind, order) for name, kind in zip(_NAMES, SCHEMA.types, strict=True)]
    sink = pa.BufferOutputStream()
    schema = SCHEMA.with_metadata(notes) if notes else SCHEMA
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), sink, compression="zstd", write_statistics=False)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def from_parquet(data: bytes, key: str) -> Items:
    """The items of `to_parquet`, or DataError."""
    try:
        table = pq.read_table(pa.BufferReader(data))
    except pa.ArrowException as error:
        raise DataError(f"{key} is no item table: {error}") from None
    if not table.schema.equals(SCHEMA):
        raise DataError(f"{key}: its columns are not those of an item table: {table.schema.names}")
    return Items(*(_array(table.column(name)) for name in SCHEMA.names))


def notes_of(data: bytes, key: str) -> dict[str, str]:
    """What was noted on the table as a whole; empty for held-out texts."""
    try:
        metadata = pq.read_schema(pa.BufferReader(data)).metadata or {}
    except pa.ArrowException as error:
        raise DataError(f"{key} is no item table: {error}") from None
    return {name.decode(): note.decode() for name, note in metadata.items()}


def first_difference(one: Items, other: Items, names: Iterable[str]) -> tuple[str, int] | None:
    """The first of these columns in which two tables of one length differ, and the first row where they do."""
    for name in names:
        rows = np.flatnonzero(getattr(one, name) != getattr(other, name))
        if len(rows):
            return name, int(rows[0])
    return None


_NAMES = tuple(field.name for field in fields(Items))


def _texts(values: Iterable[str]) -> Texts:
    return np.array(list(values), dtype=np.str_)


def _column(values: Any, kind: Any, order: Integers) -> Any:
    """An Arrow array in that order; what is unknown is null."""
    if pa.types.is_list(kind):
        return pa.array([values[index] for index in order], type=kind)
    values = np.asarray(values)[order]
    if kind == pa.bool_():
        return pa.array(values == 1, type=kind, mask=values == UNKNOWN)
    if values.dtype.kind == "f":
        return pa.array(values, type=kind, mask=np.isnan(values))
    if kind == pa.int32():
        return pa.array(values, type=kind, mask=values == UNKNOWN)
    return pa.array(values.tolist() if values.dtype.kind == "U" else values, type=kind)


def _array(column: Any) -> Any:
    """As it stands in `Items`."""
    kind = column.type
    if pa.types.is_list(kind):
        return tuple(map(tuple, column.to_pylist()))
    if pa.types.is_string(kind):
        return np.array(column.to_pylist(), dtype=np.str_)
    if pa.types.is_floating(kind):
        return np.array(column.fill_null(float("nan")), dtype=np.float64)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int64())
    return np.array(column.fill_null(UNKNOWN), dtype=np.int64)
