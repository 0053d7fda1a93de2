"""A prepared dataset: what `prepare` leaves below its data prefix, and how it is read. No torch here.

    manifest.json                   written last: the dataset exists since this does
    tokens-00000.bin                the training stream, little-endian uint16 or uint32; every document ends with EOS
    docs-00000.idx                  where each of its documents ends, uint64, counted from the shard's first token
    heldout.bin, heldout.jsonl      tokens of the held-out sections; one line each: document, source bytes, tokens

A document is its tokens and EOS, after BOS where the tokenizer adds it, in the stream as in the held-out text. The
stream runs on across shards, and a reader sees no seam:

    shards of 1000 and 500 tokens   ->  read(990, 20) is the last 10 of the one and the first 10 of the other

Sequence p of length L is read(p * L, L + 1): the inputs are all but the last token, the targets all but the first.

Price: one range GET for each shard touched, and nothing in memory but the manifest (300 bytes per shard).
"""

from __future__ import annotations

import bisect
import itertools
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from cpt_api.model import Model
from cpt_api.result import Key
from cpt_api.values import Digest
from cpt_trainer.errors import DamagedError, DataError, MissingError
from cpt_trainer.store import Store

MANIFEST = "manifest.json"

Tokens = npt.NDArray[Any]
"""Of the dataset's dtype."""
Count = Annotated[int, Field(ge=0)]


class File(Model):
    """One object below the dataset's prefix."""

    key: Key
    """Below the prefix."""
    bytes: Count
    """Its size."""
    sha256: Digest
    """Of its bytes."""


class Shard(Model):
    """A run of whole documents of the training stream."""

    tokens: Count
    """With EOS."""
    documents: Count
    """Each ends with EOS."""
    stream: File
    """The tokens."""
    ends: File
    """Where documents end."""


class HeldOutPart(Model):
    """The text that nothing trains on."""

    documents: Count
    """Clusters of every statistic."""
    sections: Count
    """Pieces of at most 8 KB."""
    tokens: Count
    """With BOS, where the tokenizer adds it, and EOS."""
    source_bytes: Count
    """UTF-8 bytes of the text."""
    stream: File
    """The tokens."""
    index: File
    """One JSON line per section."""


class DatasetManifest(Model):
    """`manifest.json`."""

    format: Literal[1] = 1
    """Of this document."""
    source: Digest
    """Of the listing of the source's files."""
    tokenizer: Digest
    """SHA-256 of tokenizer.json."""
    vocabulary: Annotated[int, Field(ge=1)]
    """Every token is below."""
    dtype: Literal["uint16", "uint32"]
    """Of a token, little-endian."""
    eos: Count
    """Ends every document, and stands nowhere else."""
    bos: Count | None = None
    """Begins every held-out section, where the tokenizer adds it."""
    tokens: Count
    """Of the training stream."""
    documents: Count
    """Of the training stream."""
    source_bytes: Count
    """UTF-8 bytes of their texts."""
    shards: tuple[Shard, ...]
    """In the order of the stream."""
    held_out: HeldOutPart
    """The held-out text."""
    left_out: dict[str, Count] = Field(default_factory=dict)
    """What did not get in, by why: duplicates, bad lines, empty documents …"""
    bad_lines: tuple[str, ...] = ()
    """The first ones: file, line, what was found."""


@dataclass(frozen=True, slots=True)
class Section:
    """A piece of a held-out document."""

    document: str
    """Its content hash: sections of one document are one cluster."""
    bytes: int
    """UTF-8 bytes of its text."""
    tokens: Tokens
    """With BOS, where the tokenizer adds it, and EOS."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A held-out text."""

    sections: tuple[Section, ...]
    """By document, and within a document by place."""
    documents: int
    """Distinct ones."""
    bytes: int
    """UTF-8 bytes of all sections."""


@dataclass(frozen=True)
class Prepared:
    """A prepared dataset. Safe to share between threads."""

    manifest: DatasetManifest
    """What it has."""
    store: Store
    """Where it lies."""
    prefix: str
    """Below which; ends with a slash."""

    @classmethod
    def open(cls, store: Store, prefix: str) -> Prepared:
        """The dataset below `prefix`."""
        key = prefix + MANIFEST
        try:
            return cls(DatasetManifest.model_validate_json(store.get(key)), store, prefix)
        except MissingError as error:
            raise MissingError(f"no prepared dataset: expected {key}; its Prepare trial has not succeeded") from error
        except ValidationError as error:
            raise DamagedError(f"{key}: {error.error_count()} errors, the first: {error.errors()[0]['msg']}") from error

    @property
    def tokens(self) -> int:
        """Of the training stream."""
        return self.manifest.tokens

    @property
    def eos(self) -> int:
        """Ends every document, and stands nowhere else: document masks come from it."""
        return self.manifest.eos

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a token."""
        return np.dtype(self.manifest.dtype).newbyteorder("<")

    def read(self, start: int, length: int) -> Tokens:
        """Tokens [start, start + length) of the training stream."""
        if start < 0 or length < 0 or start + length > self.tokens:
            raise DataError(
                f"tokens {start} to {start + length} of {self.prefix} are wanted, it has {self.tokens}: "
                "the sequences are longer than the dataset, or it is another one"
            )
        data = bytearray()
        width = self.dtype.itemsize
        number = bisect.bisect_right(self._starts, start) - 1
        while len(data) < length * width:
            shard, begin = self.manifest.shards[number], start + len(data) // width - self._starts[number]
            take = min(shard.tokens - begin, length - len(data) // width)
            data += self.store.get_range(self.prefix + shard.stream.key, begin * width, take * width)
            number += 1
        return np.frombuffer(data, self.dtype)

    def held_out(self) -> HeldOut:
        """The held-out text, whole."""
        part = self.manifest.held_out
        tokens = np.frombuffer(self.store.get(self.prefix + part.stream.key), self.dtype)
        lines = [json.loads(line) for line in self.store.get(self.prefix + part.index.key).splitlines()]
        ends = list(itertools.accumulate((line["tokens"] for line in lines), initial=0))
        if ends[-1] != len(tokens) or len(lines) != part.sections:
            raise DamagedError(
                f"{self.prefix}{part.index.key} lists {len(lines)} sections with {ends[-1]} tokens; the manifest says "
                f"{part.sections} sections, and {part.stream.key} has {len(tokens)} tokens"
            )
        sections = tuple(
            Section(line["document"], line["bytes"], tokens[begin:end])
            for line, (begin, end) in zip(lines, itertools.pairwise(ends), strict=True)
        )
        return HeldOut(sections, part.documents, part.source_bytes)

    @cached_property
    def _starts(self) -> list[int]:
        """The first token of each shard, and the end."""
        return list(itertools.accumulate((shard.tokens for shard in self.manifest.shards), initial=0))
