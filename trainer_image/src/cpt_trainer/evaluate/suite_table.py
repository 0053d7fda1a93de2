"""The item table of a suite: rows, and beside them all that is needed to understand and to compare them.

    output = write_suite_table(store, trial.data, about, items)
    table = read_suite_table(data, "tables/mmlu-4be1c0a9d2f3.parquet")
    table.about.suite, table.about.scoring, table.items

The suite stands in the file's notes, whole, so that whoever has two files can compare them, years later and without the
suite's YAML. A table lacks no item of its suite: else it is neither written nor read.

The prompts are a file of their own, each once under its hash; what many of them begin with is stored once.

Price: about 95 bytes an item (1.3 MB for MMLU), and its prompts 250.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from cpt_api.model import Model, canonical_json
from cpt_api.result import Output
from cpt_api.values import Digest
from cpt_trainer.errors import DataError
from cpt_trainer.evaluate.answers import prompt_hash
from cpt_trainer.evaluate.prompts import Posed, PosedTask
from cpt_trainer.evaluate.requests import Completion
from cpt_trainer.evaluate.suite import Suite
from cpt_trainer.evaluate.task import TaskName
from cpt_trainer.store import Store
from cpt_trainer.tables import Items, from_parquet, notes_of, write_items

NOTE = "cpt"
"""Where it stands among the notes of the file."""

_PROMPTS = pa.schema(
    [
        pa.field("promptHash", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        pa.field("prefix", pa.string(), nullable=False),
        pa.field("context", pa.string(), nullable=False),
        pa.field("continuations", pa.list_(pa.string()), nullable=False),
    ]
)


class TaskItems(Model):
    """What one task was asked."""

    task: TaskName
    """Of the suite."""
    digest: Digest
    """Of the item file's text."""
    scored: Annotated[int, Field(ge=1)]
    """Items; the table has as many rows of the task."""
    contaminated: Annotated[int, Field(ge=0)] = 0
    """Items that stood, solved, among their own shots."""


class Scoring(Model):
    """How it was scored; tables are compared only where all of it is equal, but for the tokenizer."""

    protocol: Annotated[int, Field(ge=1)]
    """Of defaults and of the scorer."""
    fingerprint: dict[str, str | int]
    """Precision, attention, geometry of blocks: what may move the last digits."""
    tokenizer: Digest
    """Of the model's tokenizer."""


class About(Model):
    """What stands beside the rows."""

    suite: Suite
    """Whole."""
    tasks: tuple[TaskItems, ...]
    """One for each task of the suite, in its order."""
    scoring: Scoring
    """How."""


@dataclass(frozen=True, eq=False)
class SuiteTable:
    """One model on one suite."""

    about: About
    items: Items

    @property
    def suite(self) -> Suite:
        """What was asked."""
        return self.about.suite


def write_suite_table(store: Store, prefix: str, about: About, items: Items) -> Output:
    """Write `<prefix>tables/<suite>-<hash>.parquet`; raises DataError when an item is missing."""
    _require_complete(about, items, f"suite {about.suite.name}")
    return write_items(store, prefix, about.suite.name, items, {NOTE: canonical_json(about.to_dict()).decode()})


def read_suite_table(data: bytes, key: str) -> SuiteTable:
    """What `write_suite_table` wrote, or DataError."""
    items = from_parquet(data, key)
    note = notes_of(data, key).get(NOTE)
    if note is None:
        raise DataError(
            f"{key} is an item table, but not of a suite: held-out texts are compared by their trials' results"
        )
    try:
        about = About.model_validate_json(note)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise DataError(f"{key}: its note is none of a suite's table: {first['loc']}: {first['msg']}") from None
    _require_complete(about, items, key)
    return SuiteTable(about, items)


def write_prompts(store: Store, prefix: str, suite: Suite, tasks: Iterable[PosedTask]) -> Output:
    """Write `<prefix>prompts/<suite>-<hash>.parquet`: each prompt once, by hash."""
    found = {prompt_hash(posed): posed for task in tasks for posed in task.items}
    rows = [row for name in sorted(found) for row in _prompt_rows(name, found[name])]
    columns = [
        pa.array(column, type=kind) for column, kind in zip(zip(*rows, strict=True), _PROMPTS.types, strict=True)
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(columns, schema=_PROMPTS), sink, compression="zstd", write_statistics=False)
    data: bytes = sink.getvalue().to_pybytes()
    digest = Digest(hashlib.sha256(data).hexdigest())
    output = Output(key=f"prompts/{suite.name}-{digest.short}.parquet", bytes=len(data), sha256=digest)
    store.put(prefix + output.key, data)
    return output


def _prompt_rows(name: str, posed: Posed) -> Iterable[tuple[str, str, str, str, list[str]]]:
    """A row for each context: most items have one."""
    if isinstance(posed.main, Completion):
        yield name, "answer", posed.prefix, posed.main.context.removeprefix(posed.prefix), []
    else:
        for context in dict.fromkeys(pair.context for pair in posed.main.pairs):
            continuations = [pair.continuation for pair in posed.main.pairs if pair.context == context]
            yield name, "choices", posed.prefix, context.removeprefix(posed.prefix), continuations
    if posed.text is not None:
        (pair,) = posed.text.pairs
        yield name, "text", posed.text_prefix, pair.context.removeprefix(posed.text_prefix), [pair.continuation]


def _require_complete(about: About, items: Items, what: str) -> None:
    """Every item of every task, and no other."""
    if [task.name for task in about.suite.tasks] != [one.task for one in about.tasks]:
        raise DataError(f"{what}: it tells of the tasks {[one.task for one in about.tasks]}, its suite has others")
    counts = Counter(items.task.tolist())
    for one in about.tasks:
        if counts.pop(one.task, 0) != one.scored:
            raise DataError(
                f"{what}: task {one.task} has {int((items.task == one.task).sum())} of {one.scored} items; a suite is "
                "scored as a whole or not at all: evaluate it again"
            )
    if counts:
        raise DataError(f"{what}: it has rows of {min(counts)!r}, which is no task of the suite")
