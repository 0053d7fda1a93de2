"""From the files of a source to pieces of whole lines, in order, ahead of those who work on them.

    a.jsonl (20 MB), b.jsonl.gz (1 KB)  ->  pieces of a, each of about 1 MiB and ending with a line; one piece of b

A piece says where it comes from, so that a bad line can be named. A reader can begin in the middle: plain files are
read from the byte that is asked for, compressed ones are decompressed up to there again.

Of a .txt file a piece is a document: the whole file, or, of one above 8 MiB, a run of whole paragraphs.

Price: eight range GETs of 8 MiB on their way, and one piece; the longest line that is taken has 64 MiB.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from cpt_trainer.errors import DamagedError
from cpt_trainer.sources import Files
from cpt_trainer.store import Entry

TEXT_BYTES = 8 * 1024 * 1024
"""Of a document of a .txt file."""
LINE_BYTES = 64 * 1024 * 1024
_BLOCK_BYTES = 8 * 1024 * 1024
_BLOCKS_AHEAD = 8
_COMPRESSED_BYTES = 256 * 1024
"""Decompressed at once: text may grow tenfold."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How the work is divided. The dataset is the same whatever they are, but for the number of shards."""

    piece_bytes: int = 1024 * 1024
    """Of text, for one message to a process."""
    part_bytes: int = 128 * 1024 * 1024
    """Of text: what an attempt that is cut short loses at most."""
    shard_bytes: int = 256 * 1024 * 1024
    """Of tokens."""


class Format(StrEnum):
    """What a line is."""

    JSON_LINES = ".jsonl"
    TEXT = ".txt"


class Compression(StrEnum):
    """How a file is packed."""

    NONE = ""
    GZIP = ".gz"
    ZSTANDARD = ".zst"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a piece begins."""

    file: int = 0
    """Number of the file among those that hold text."""
    offset: int = 0
    """Bytes of its (decompressed) content before."""
    line: int = 0
    """Lines of it before."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole lines of one file."""

    at: Position
    next: Position
    """Where the piece after it begins."""
    name: str
    """The file's key below the address."""
    format: Format
    data: bytes


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def format_of(name: str) -> tuple[Format, Compression] | None:
    """By the ends of its name; None when it is no text that can be read."""
    for compression in (Compression.GZIP, Compression.ZSTANDARD, Compression.NONE):
        if name.endswith(compression.value):
            rest = name.removesuffix(compression.value)
            return next(((form, compression) for form in Format if rest.endswith(form.value)), None)
    return None


def is_hidden(name: str) -> bool:
    """Markers of other tools, such as `_SUCCESS` and `.gitattributes`."""
    return name.rpartition("/")[2].startswith((".", "_"))


def texts(files: Files) -> list[Entry]:
    """The files that hold text, by key."""
    return [entry for entry in files.entries if not is_hidden(entry.key) and format_of(entry.key)]


def pieces(files: Files, start: Position, piece_bytes: int) -> Iterator[Piece]:
    """All pieces from `start` on."""
    entries = texts(files)[start.file :]
    with ThreadPoolExecutor(_BLOCKS_AHEAD, thread_name_prefix="read") as pool:
        ahead = _ahead(pool, files, _ranges(entries, start))
        for number, entry in enumerate(entries, start.file):
            begin = start if number == start.file else Position(number)
            yield from _pieces_of(entry, begin, ahead, piece_bytes)


def opening(files: Files, entry: Entry) -> Piece:
    """The first whole lines of a file, as far as 256 KiB of it go; no data where the first line is longer."""
    found = format_of(entry.key)
    assert found is not None
    form, compression = found
    data = files.store.get_range(entry.key, 0, min(entry.size, _COMPRESSED_BYTES))
    if compression is not Compression.NONE and data:
        data = _decoded(_decoder_of(compression), data, entry.key)
    if entry.size > _COMPRESSED_BYTES:
        data = data[: data.rfind(b"\n") + 1]
    return Piece(Position(), Position(), entry.key, form, data.removeprefix(_BYTE_ORDER_MARK))


def _ranges(entries: Iterable[Entry], start: Position) -> Iterator[tuple[Entry, int, int]]:
    """Every GET: entry, first byte, length. An empty file has one of length 0, so that each file has a last one."""
    for number, entry in enumerate(entries, start.file):
        begin = start.offset if number == start.file and _is_plain(entry) else 0
        for first in range(begin, max(entry.size, begin + 1), _BLOCK_BYTES):
            yield entry, first, max(0, min(_BLOCK_BYTES, entry.size - first))


def _ahead(pool: ThreadPoolExecutor, files: Files, ranges: Iterator[tuple[Entry, int, int]]) -> Iterator[bytes]:
    waiting: deque[Future[bytes]] = deque()
    for entry, first, length in ranges:
        waiting.append(pool.submit(files.store.get_range, entry.key, first, length))
        if len(waiting) >= _BLOCKS_AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _is_plain(entry: Entry) -> bool:
    found = format_of(entry.key)
    return found is not None and found[1] is Compression.NONE


def _pieces_of(entry: Entry, begin: Position, ahead: Iterator[bytes], piece_bytes: int) -> Iterator[Piece]:
    """The pieces of one file, of which `ahead` gives the blocks first."""
    found = format_of(entry.key)
    assert found is not None
    form, compression = found
    offset = begin.offset if compression is Compression.NONE else 0
    count = max(1, -(-(entry.size - offset) // _BLOCK_BYTES))
    blocks = (next(ahead) for _ in range(count))
    content = _content(blocks, compression, entry.key)
    if compression is not Compression.NONE:
        content = _without(content, begin.offset)
    at = begin
    for data in _cut(content, form, piece_bytes if form is Format.JSON_LINES else TEXT_BYTES):
        after = Position(at.file, at.offset + len(data), at.line + data.count(b"\n"))
        text = data.removeprefix(_BYTE_ORDER_MARK) if at.offset == 0 else data
        yield Piece(at, after, entry.key, form, text)
        at = after


def _content(blocks: Iterable[bytes], compression: Compression, key: str) -> Iterator[bytes]:
    """Decompressed; files of several members or frames are one content."""
    if compression is Compression.NONE:
        yield from blocks
        return
    decoder: _Decoder | None = None
    for block in blocks:
        for start in range(0, len(block), _COMPRESSED_BYTES):
            rest = block[start : start + _COMPRESSED_BYTES]
            while rest:
                decoder = decoder or _decoder_of(compression)
                if data := _decoded(decoder, rest, key):
                    yield data
                rest = b""
                if decoder.eof:
                    rest, decoder = decoder.unused_data, None
    if decoder is not None:
        raise DamagedError(f"{key} ends in the middle of its compressed content; write it again")


def _decoder_of(compression: Compression) -> _Decoder:
    if compression is Compression.GZIP:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    import zstandard

    decoder: _Decoder = zstandard.ZstdDecompressor().decompressobj()
    return decoder


def _decoded(decoder: _Decoder, data: bytes, key: str) -> bytes:
    try:
        return decoder.decompress(data)
    except Exception as error:  # zlib and zstandard have an error class each
        raise DamagedError(f"{key} cannot be decompressed: {error}; write it again") from error


def _without(content: Iterator[bytes], length: int) -> Iterator[bytes]:
    """All but the first `length` bytes."""
    for data in content:
        yield data[length:]
        length = max(0, length - len(data))


def _cut(content: Iterable[bytes], form: Format, size: int) -> Iterator[bytes]:
    """Runs of whole lines of about that size."""
    buffer = bytearray()
    for data in content:
        buffer += data
        while len(buffer) > size:
            end = _end(buffer, size, form)
            if end == 0:
                break
            yield bytes(buffer[:end])
            del buffer[:end]
    if buffer:
        yield bytes(buffer)


def _end(buffer: bytearray, size: int, form: Format) -> int:
    """Where a piece ends; 0 when more must be read to know."""
    if form is Format.TEXT:
        for border in (b"\n\n", b"\n", b" "):
            if (found := buffer.rfind(border, 0, size)) >= 0:
                return found + len(border)
        while buffer[size] & 0xC0 == 0x80:  # not in the middle of a character
            size -= 1
        return size
    end = buffer.rfind(b"\n", 0, size) + 1
    if end == 0:
        end = buffer.find(b"\n", size) + 1
    return end or (len(buffer) if len(buffer) > LINE_BYTES else 0)
