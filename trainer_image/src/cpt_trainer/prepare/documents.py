"""From pieces of lines to tokenised documents with their keys: what a worker process does.

    {"text": "Call me Ishmael."}       key 9c56cc51…, 5 tokens with EOS, 16 source bytes
    {"body": "…"}                      left out: no text; counted, and named by file and line

The key of a document is a hash of its text. It is everything to `prepare`: the order of the stream, which documents
are held out, and which are the same. It is salted, so that it has nothing to do with a hash by which somebody chose
the documents of this dataset.

Price: JSON and hash cost a tenth of the tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from cpt_trainer.prepare.read import Format, Piece
from cpt_trainer.tokenizer import Tokenizer, TokenizerFiles

KEY_BYTES = 16
_SALT = b"cpt-documents-1"
"""The seed of the shuffle; part of `protocol`."""
EXAMPLES = 5
"""Bad lines that are named."""

RECORD = np.dtype([("high", "<u8"), ("low", "<u8"), ("tokens", "<u4"), ("bytes", "<u4")])
"""Of a document: the two halves of its key, its tokens, its source bytes. Little-endian, since joining arrays of
records turns them into the order of the machine."""


class LeftOut(StrEnum):
    """Why a line did not become a document."""

    NOT_UTF8 = "notUtf8"
    NOT_JSON = "notJson"
    NO_TEXT = "noText"
    EMPTY = "empty"


BAD = (LeftOut.NOT_UTF8, LeftOut.NOT_JSON, LeftOut.NO_TEXT)
"""These are somebody's mistakes; an empty document is none."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is the same for all pieces."""

    tokenizer: TokenizerFiles
    text_field: str
    candidates_below: int
    """Documents whose key's first half is below may be held out: their texts come back too."""
    trains: bool
    """False where everything is held out, and no tokens are wanted."""


@dataclass(slots=True)
class Tally:
    """What was read, and what was left out."""

    documents: int = 0
    """Kept ones."""
    left_out: Counter[str] = field(default_factory=Counter)
    """By reason."""
    examples: list[str] = field(default_factory=list)
    """The first bad lines: file, line, what was found."""

    def add(self, other: Tally) -> None:
        """Count what another one counted after this one."""
        self.documents += other.documents
        self.left_out.update(other.left_out)
        self.examples = (self.examples + other.examples)[:EXAMPLES]


@dataclass(frozen=True, slots=True)
class Batch:
    """The documents of some pieces, in their order."""

    records: np.ndarray[Any, Any]
    """One `RECORD` each."""
    tokens: np.ndarray[Any, Any]
    """Of all of them."""
    candidates: tuple[tuple[bytes, bytes], ...]
    """Key and text of those that may be held out."""
    tally: Tally


class _BadLineError(Exception):
    def __init__(self, why: LeftOut, found: str) -> None:
        super().__init__(found)
        self.why = why


def key_of(text: bytes) -> bytes:
    """Of a document's UTF-8 text."""
    return hashlib.blake2b(text, digest_size=KEY_BYTES, person=_SALT).digest()


def work(pieces: Sequence[Piece], task: Task, tokenizer: Tokenizer) -> Batch:
    """Parse, hash and tokenise."""
    tally = Tally()
    texts = [text for piece in pieces for text in documents_of(piece, task.text_field, tally)]
    sources = [text.encode() for text in texts]
    keys = [key_of(source) for source in sources]
    tokens = tokenizer.encode(texts) if task.trains else [np.empty(0, task.tokenizer.dtype)] * len(texts)
    records = np.empty(len(texts), RECORD)
    halves = np.frombuffer(b"".join(keys), ">u8").reshape(-1, 2)
    records["high"], records["low"] = halves[:, 0], halves[:, 1]
    records["tokens"] = [len(ids) for ids in tokens]
    records["bytes"] = [len(source) for source in sources]
    tally.documents = len(texts)
    return Batch(
        records,
        np.concatenate([np.empty(0, task.tokenizer.dtype), *tokens]),
        tuple((keys[n], sources[n]) for n, high in enumerate(halves[:, 0]) if int(high) < task.candidates_below),
        tally,
    )


def documents_of(piece: Piece, text_field: str, tally: Tally) -> Iterator[str]:
    """The texts of a piece; what is wrong with its lines is tallied."""
    is_text = piece.format is Format.TEXT
    parsed = []
    for number, line in enumerate(piece.data.split(b"\n"), piece.at.line + 1):
        try:
            if is_text:
                parsed.append(_decoded(line))
            elif line.strip():
                parsed.append(_text_of(line, text_field))
        except _BadLineError as error:
            tally.left_out[error.why] += 1
            if len(tally.examples) < EXAMPLES:
                tally.examples.append(f"{piece.name} line {number}: {error}")
    for text in ["\n".join(parsed)] if is_text else parsed:
        if text.strip():
            yield text
        else:
            tally.left_out[LeftOut.EMPTY] += 1


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise _BadLineError(
            LeftOut.NOT_UTF8, f"byte {error.start + 1} is 0x{line[error.start]:02x}, which is not UTF-8"
        ) from None


def _text_of(line: bytes, text_field: str) -> str:
    """The text of a JSON line."""
    try:
        content = json.loads(_decoded(line))
    except ValueError as error:
        raise _BadLineError(LeftOut.NOT_JSON, f"it is not JSON: {error}") from None
    text = content.get(text_field) if isinstance(content, dict) else None
    if not isinstance(text, str):
        raise _BadLineError(LeftOut.NO_TEXT, f"expected an object with a string {text_field!r}, {_found(content)}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _BadLineError(LeftOut.NOT_UTF8, "it has half of a surrogate pair, which is no character") from None
    return text


def _found(content: object) -> str:
    if not isinstance(content, dict):
        return f"found a {type(content).__name__}"
    return f"found fields {', '.join(repr(name)[:40] for name in list(content)[:8]) or 'none'}"
