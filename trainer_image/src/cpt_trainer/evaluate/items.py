"""Item files: the questions of a task, as they lie in a folder or below an S3 prefix.

    items/manifest.json          {"files": [{"items": "mmlu", "key": "mmlu.jsonl.gz", "sha256": "…", "digest": "…", …}]}
    items/mmlu.jsonl.gz          {"id": "anatomy/0", "stratum": "anatomy", "fields": {…}, "choices": […], "gold": 2}

    folder = ItemFolder(store, "items/")
    folder.read("mmlu").scored   14,042 items, in the order of the file

Every byte is held against the manifest. What is wrong is named by file, and by line where there is one; nothing is
skipped. The order of the lines is the order of everything that follows.

Price: an item file is held in memory; 14,000 items are read in 0.3 s.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator

from cpt_api.model import Model, canonical_json, sha256
from cpt_api.values import Digest
from cpt_trainer.errors import DamagedError, DataError, MissingError
from cpt_trainer.evaluate.task import ANSWER, CHOICE, LETTER, OPTIONS, Task, TaskName
from cpt_trainer.store import Store

MANIFEST = "manifest.json"
SHORT = 16
"""Hexadecimal digits of a hash in a table: among a million items two are equal with probability 3e-8."""
_SPACES = re.compile(r"\s+")
_GZIP = b"\x1f\x8b"
_ITEM_MAX_BYTES = 4 * 1024 * 1024


class Role(StrEnum):
    """What an item is there for."""

    SCORED = "Scored"
    SHOT = "Shot"
    """An example before others."""


class Item(Model):
    """One question."""

    id: Annotated[str, Field(min_length=1, max_length=256)]
    """Within its file."""
    role: Role = Role.SCORED
    """What it is there for."""
    stratum: Annotated[str, Field(max_length=128)] = ""
    """Subject; shots come from the same."""
    cluster: Annotated[str, Field(max_length=128)] | None = None
    """Items with one passage vary together; absent: it stands alone, with those that say the very same."""
    fields: dict[str, str]
    """What fills a prompt."""
    choices: tuple[str, ...] = ()
    """Among which one is right."""
    gold: Annotated[int, Field(ge=0)] | None = None
    """Which, from 0."""
    answers: tuple[str, ...] = ()
    """The right text; of a question that is answered freely, all that count as right, the best first."""

    @model_validator(mode="after")
    def _gold_is_a_choice(self) -> Self:
        if (self.gold is None) != (not self.choices) or (self.gold is not None and self.gold >= len(self.choices)):
            raise ValueError(f"gold {self.gold} is none of {len(self.choices)} choices")
        if len(self.choices) == 1:
            raise ValueError("one choice alone is always right: expected two or more, or none")
        if not self.choices and not self.answers:
            raise ValueError("it has neither choices nor answers")
        if reserved := {OPTIONS, CHOICE, LETTER, ANSWER} & set(self.fields):
            raise ValueError(f"field {min(reserved)!r} is a name that prompts use themselves")
        return self

    @cached_property
    def hash(self) -> str:
        """Of what it asks, whatever its name."""
        return hashlib.sha256(canonical_json(self._content())).hexdigest()[:SHORT]

    @cached_property
    def meaning(self) -> bytes:
        """Equal for items that differ in case and white space only."""
        return _SPACES.sub(" ", canonical_json(self._content()).decode().casefold().replace("\\n", " ")).encode()

    def _content(self) -> dict[str, object]:
        return {"fields": self.fields, "choices": self.choices, "gold": self.gold, "answers": self.answers}


class ItemFile(Model):
    """What the manifest says of one item file."""

    items: TaskName
    """Its name."""
    key: Annotated[str, Field(pattern=r"^[a-z0-9._-]+\.jsonl(\.gz)?$", max_length=128)]
    """Beside the manifest."""
    sha256: Digest
    """Of its bytes."""
    digest: Digest
    """Of its text: the same however it was packed."""
    scored: Annotated[int, Field(ge=1)]
    """Items."""
    shots: Annotated[int, Field(ge=0)]
    """Items that are examples only."""
    source: Annotated[str, Field(max_length=1024)]
    """What it was made from, for people."""


class Manifest(Model):
    """Of a folder of item files."""

    format: Annotated[int, Field(ge=1, le=1)] = 1
    """Of the files."""
    files: Annotated[tuple[ItemFile, ...], Field(max_length=1024)]
    """By name."""


@dataclass(frozen=True)
class ItemSet:
    """The items of one file."""

    file: ItemFile
    items: tuple[Item, ...]

    @cached_property
    def scored(self) -> tuple[Item, ...]:
        """In the order of the file."""
        return tuple(item for item in self.items if item.role is Role.SCORED)

    @cached_property
    def shots(self) -> tuple[Item, ...]:
        """In the order of the file."""
        return tuple(item for item in self.items if item.role is Role.SHOT)


@dataclass(frozen=True)
class ItemFolder:
    """Item files below a prefix of a store."""

    store: Store
    prefix: str = ""

    @cached_property
    def manifest(self) -> Manifest:
        """What there is."""
        key = self.prefix + MANIFEST
        try:
            data = self.store.get(key)
        except MissingError as error:
            raise MissingError(
                f"{error}: no items lie there; make some with cpt-trainer evaluate --fetch-items"
            ) from None
        try:
            return Manifest.model_validate_json(data)
        except ValidationError as error:
            raise DataError(f"{key} is no manifest of item files: {_first(error)}") from None

    def file(self, name: str) -> ItemFile:
        """As the manifest names it; raises MissingError."""
        file = next((file for file in self.manifest.files if file.items == name), None)
        if file is None:
            there = ", ".join(file.items for file in self.manifest.files) or "none"
            raise MissingError(
                f"{self.prefix + MANIFEST} names no items {name!r}, it names {there}: fetch them with cpt-trainer "
                "evaluate --fetch-items; a suite is scored as a whole or not at all"
            )
        return file

    def read(self, name: str) -> ItemSet:
        """The items of that name; raises MissingError, DamagedError or DataError."""
        file = self.file(name)
        key = self.prefix + file.key
        data = self.store.get(key)
        if (found := sha256(data)) != file.sha256:
            raise DamagedError(
                f"{key} has SHA-256 {found}, the manifest names {file.sha256}: its bytes have changed; fetch them anew"
            )
        text = _unpacked(data, key)
        if (found := sha256(text)) != file.digest:
            raise DamagedError(f"{key}: its text has SHA-256 {found}, the manifest names {file.digest}; fetch it anew")
        read = ItemSet(file, tuple(_items(text, key)))
        if (len(read.scored), len(read.shots)) != (file.scored, file.shots):
            raise DamagedError(
                f"{key} has {len(read.scored)} items and {len(read.shots)} shots, the manifest names {file.scored} and "
                f"{file.shots}; fetch it anew"
            )
        return read

    def file_for(self, task: Task) -> ItemFile:
        """The file of a task; where the suite pins it, that and no other."""
        file = self.file(task.items)
        if task.items_digest is not None and task.items_digest != file.digest:
            raise DataError(
                f"task {task.name}: the items {task.items} have digest {file.digest}, the suite asks for "
                f"{task.items_digest}: they were made from other data, or by another version"
            )
        return file

    def read_for(self, task: Task) -> ItemSet:
        """The items of a task; where the suite pins them, those and no others."""
        return self.read(self.file_for(task).items)


def write_items(store: Store, prefix: str, name: str, items: Iterable[Item], source: str) -> ItemFile:
    """Write one item file; the manifest is written by `write_manifest`."""
    listed = tuple(items)
    text = b"".join(canonical_json(item.to_dict()) + b"\n" for item in listed)
    key = f"{name}.jsonl.gz"
    for _ in _items(text, key):  # what could not be read is not written
        pass
    data = gzip.compress(text, mtime=0)
    store.put(prefix + key, data)
    shots = sum(item.role is Role.SHOT for item in listed)
    return ItemFile(
        items=name,
        key=key,
        sha256=sha256(data),
        digest=sha256(text),
        scored=len(listed) - shots,
        shots=shots,
        source=source,
    )


def write_manifest(store: Store, prefix: str, files: Sequence[ItemFile]) -> Manifest:
    """After all files; those of an earlier manifest that were not made anew stay in it."""
    made = {file.items: file for file in files}
    with contextlib.suppress(MissingError):
        made = {file.items: file for file in ItemFolder(store, prefix).manifest.files} | made
    manifest = Manifest(files=tuple(made[name] for name in sorted(made)))
    store.put(prefix + MANIFEST, canonical_json(manifest.to_dict()))
    return manifest


def _unpacked(data: bytes, key: str) -> bytes:
    if not data.startswith(_GZIP):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise DamagedError(f"{key} cannot be unpacked: {error}; fetch it anew") from None


def _items(text: bytes, key: str) -> Iterator[Item]:
    seen: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if len(line) > _ITEM_MAX_BYTES:
            raise DataError(f"{key}:{number}: an item of {len(line)} bytes; the most is {_ITEM_MAX_BYTES}")
        try:
            item = Item.model_validate_json(line)
        except ValidationError as error:
            raise DataError(f"{key}:{number}: {_first(error)}") from None
        if item.id in seen:
            raise DataError(
                f"{key}:{number}: item {item.id!r} stands in line {seen[item.id]} already: it would count twice"
            )
        seen[item.id] = number
        yield item


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"].removeprefix("Value error, ")
