"""The pieces of `prepare`: cutting files, cutting held-out text, and reading from the middle."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus import Corpus
from cpt_trainer.prepare.heldout import SECTION_BYTES, sections
from cpt_trainer.prepare.read import Compression, Format, Position, format_of, opening, pieces
from cpt_trainer.sources import Files, list_files

PACK: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}
TEXT = st.text(st.sampled_from("ab ö\n\U0001f642"), max_size=200)


class TestSections:
    """Held-out documents are cut into sections."""

    @given(TEXT, st.integers(4, 60))
    def test_whole(self, text: str, limit: int) -> None:
        """Joined, the sections are the document; none is longer than the limit, and none is empty."""
        found = sections(text, limit)
        assert "".join(found) == text
        assert all(len(section.encode()) <= limit for section in found)
        assert all(found) or text == ""

    @pytest.mark.parametrize(
        ("text", "want"),
        [
            pytest.param("aaaa\n\nbbbb\n\ncccc", ["aaaa\n\nbbbb\n\n", "cccc"], id="paragraphs"),
            pytest.param("aaaa\nbbbb\ncccccc", ["aaaa\nbbbb\n", "cccccc"], id="lines"),
            pytest.param("aaaa bbbb cccccc", ["aaaa bbbb", " cccccc"], id="words keep their space"),
            pytest.param("öööööööö", ["öööööö", "öö"], id="characters stay whole"),
            pytest.param("aaaa\n\nbbbb", ["aaaa\n\nbbbb"], id="short"),
        ],
    )
    def test_where(self, text: str, want: list[str]) -> None:
        """Paragraphs are kept whole where that is possible, then lines, words, characters."""
        assert sections(text, 12) == want

    def test_long(self) -> None:
        """A document of many megabytes is cut in no time."""
        assert len(sections("paragraph\n\n" * 400_000)) == -(-400_000 // (SECTION_BYTES // 11))


def put(folder: Path, name: str, data: bytes) -> Files:
    """A source of one file."""
    corpus = Corpus.in_folder(folder)
    corpus.put(f"data/{name}", data)
    return list_files(corpus.store, corpus.uri("data"))


class TestPieces:
    """Files are cut into pieces of whole lines."""

    @settings(max_examples=30)
    @given(st.lists(TEXT, max_size=20), st.sampled_from(list(PACK)), st.integers(1, 300), st.data())
    def test_any_cut(self, lines: list[str], packed: str, piece_bytes: int, data: st.DataObject) -> None:
        """Pieces are the file in order, end with a line, know their line number, and may begin at any of them."""
        content = "\n".join(lines).encode()
        with tempfile.TemporaryDirectory() as folder:
            files = put(Path(folder), f"a.jsonl{packed}", PACK[packed](content))
            found = list(pieces(files, Position(), piece_bytes))
            assert b"".join(piece.data for piece in found) == content
            for piece in found:
                assert content[: piece.at.offset].count(b"\n") == piece.at.line
                assert piece is found[-1] or piece.data.endswith(b"\n")
            if found:
                start = data.draw(st.integers(0, len(found) - 1))
                assert list(pieces(files, found[start].at, piece_bytes)) == found[start:]
                assert list(pieces(files, found[-1].next, piece_bytes)) == []

    @settings(max_examples=30)
    @given(TEXT)
    def test_text_is_one_document(self, text: str) -> None:
        """A short text file is one piece."""
        with tempfile.TemporaryDirectory() as folder:
            found = list(pieces(put(Path(folder), "a.txt", text.encode()), Position(), 10))
            assert [piece.data.decode() for piece in found] == ([text] if text else [])

    def test_long_text(self, tmp_path: Path) -> None:
        """A long text file is cut behind a paragraph."""
        data = b"some words\n\n" * 1_000_000
        found = list(pieces(put(tmp_path, "a.txt", data), Position(), 10))
        assert b"".join(piece.data for piece in found) == data
        assert len(found) == 2
        assert found[0].data.endswith(b"\n\n")

    def test_many_blocks(self, tmp_path: Path) -> None:
        """A file of more than one range GET has no seam, plain or compressed."""
        line = b'{"text": "%d"}\n'
        content = b"".join(line % n for n in range(1_300_000))
        assert len(content) > 2 * 8 * 1024 * 1024
        for packed in ("", ".gz"):
            files = put(tmp_path / packed, f"a.jsonl{packed}", PACK[packed](content))
            found = list(pieces(files, Position(), 1024 * 1024))
            assert b"".join(piece.data for piece in found) == content
            middle = found[len(found) // 2]
            assert next(pieces(files, middle.at, 1024 * 1024)) == middle

    def test_many_files(self, tmp_path: Path) -> None:
        """Files come by key, and a reader may begin at any of them."""
        corpus = Corpus.in_folder(tmp_path)
        for number in range(30):
            corpus.put(f"data/{number:02}.jsonl", b"{}\n" * number)
        files = list_files(corpus.store, corpus.uri("data"))
        found = list(pieces(files, Position(), 1000))
        assert [piece.name for piece in found] == [f"{n:02}.jsonl" for n in range(1, 30)]
        assert [piece.name for piece in pieces(files, Position(file=20), 1000)] == [
            f"{n:02}.jsonl" for n in range(20, 30)
        ]


class TestOpening:
    """The first lines of a file."""

    @pytest.mark.parametrize("packed", list(PACK))
    def test_short(self, tmp_path: Path, packed: str) -> None:
        """A short file is looked at whole."""
        files = put(tmp_path, f"a.jsonl{packed}", PACK[packed](b"{}\n{}"))
        assert opening(files, files.entries[0]).data == b"{}\n{}"

    def test_long(self, tmp_path: Path) -> None:
        """Of a long one whole lines are looked at."""
        files = put(tmp_path, "a.jsonl", b"0123456789\n" * 100_000)
        data = opening(files, files.entries[0]).data
        assert 200_000 < len(data) < 300_000
        assert data.endswith(b"\n")


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("a.jsonl", (Format.JSON_LINES, Compression.NONE)),
        ("a.b.jsonl.gz", (Format.JSON_LINES, Compression.GZIP)),
        ("x/a.txt.zst", (Format.TEXT, Compression.ZSTANDARD)),
        ("a.json", None),
        ("a.gz", None),
        ("jsonl", None),
    ],
)
def test_format(name: str, want: object) -> None:
    """The ends of a name say what a file is."""
    assert format_of(name) == want
