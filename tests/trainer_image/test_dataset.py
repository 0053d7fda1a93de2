"""Reading a prepared dataset."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt_trainer.dataset import MANIFEST, DatasetManifest, File, HeldOutPart, Prepared, Shard
from cpt_trainer.errors import DamagedError, DataError, MissingError
from cpt_trainer.store import FolderStore
from make import make_digest

PREFIX = "data/team/x/"


def put(store: FolderStore, key: str, data: bytes) -> File:
    """An object of the dataset."""
    store.put(PREFIX + key, data)
    return File(key=key, bytes=len(data), sha256=make_digest(key))


def make_dataset(store: FolderStore, shards: Sequence[Sequence[int]], dtype: str = "uint16") -> Prepared:
    """A dataset of these tokens, with two held-out sections of one document."""
    entries = []
    for number, tokens in enumerate(shards):
        stream = put(store, f"tokens-{number:05}.bin", np.array(tokens, np.dtype(dtype).newbyteorder("<")).tobytes())
        ends = put(store, f"docs-{number:05}.idx", np.array([len(tokens)], "<u8").tobytes())
        entries.append(Shard(tokens=len(tokens), documents=1, stream=stream, ends=ends))
    lines = [{"document": "d1", "bytes": 5, "tokens": 3}, {"document": "d1", "bytes": 2, "tokens": 2}]
    held_out = HeldOutPart(
        documents=1,
        sections=2,
        tokens=5,
        source_bytes=7,
        stream=put(store, "heldout.bin", np.arange(5, dtype=np.dtype(dtype).newbyteorder("<")).tobytes()),
        index=put(store, "heldout.jsonl", "\n".join(map(json.dumps, lines)).encode()),
    )
    manifest = DatasetManifest.model_validate(
        {
            "source": make_digest("source"),
            "tokenizer": make_digest("tokenizer"),
            "vocabulary": 70_000,
            "dtype": dtype,
            "eos": 0,
            "tokens": sum(map(len, shards)),
            "documents": len(shards),
            "source_bytes": 1,
            "shards": entries,
            "held_out": held_out,
        }
    )
    store.put(PREFIX + MANIFEST, manifest.model_dump_json(by_alias=True).encode())
    return Prepared.open(store, PREFIX)


class TestRead:
    """The stream has no seams."""

    @given(st.data(), st.lists(st.lists(st.integers(0, 65_535), min_size=1, max_size=9), max_size=5))
    def test_any_range(self, data: st.DataObject, shards: list[list[int]]) -> None:
        """Any range is that of all shards, one after the other."""
        whole = [token for shard in shards for token in shard]
        start = data.draw(st.integers(0, len(whole)))
        length = data.draw(st.integers(0, len(whole) - start))
        with tempfile.TemporaryDirectory() as folder:
            assert (
                make_dataset(FolderStore(Path(folder)), shards).read(start, length).tolist()
                == (whole[start : start + length])
            )

    def test_wide(self, tmp_path: Path) -> None:
        """Large vocabularies have four bytes per token."""
        tokens = make_dataset(FolderStore(tmp_path), [[1, 66_000], [7]], "uint32").read(1, 2)
        assert tokens.tolist() == [66_000, 7]
        assert tokens.dtype == np.dtype("<u4")

    @pytest.mark.parametrize(("start", "length"), [(0, 4), (3, 1), (-1, 2), (2, -1)])
    def test_outside(self, tmp_path: Path, start: int, length: int) -> None:
        """Tokens that the dataset does not have are refused."""
        with pytest.raises(DataError, match="it has 3"):
            make_dataset(FolderStore(tmp_path), [[1, 2], [3]]).read(start, length)

    def test_cut(self, tmp_path: Path) -> None:
        """A shard that is shorter than the manifest says is damaged."""
        store = FolderStore(tmp_path)
        dataset = make_dataset(store, [[1, 2, 3]])
        store.put(PREFIX + "tokens-00000.bin", b"1234")
        with pytest.raises(DamagedError, match="tokens-00000"):
            dataset.read(1, 2)


class TestHeldOut:
    """Sections come as they were cut."""

    def test_sections(self, tmp_path: Path) -> None:
        """Tokens and bytes of each section, and their document."""
        held_out = make_dataset(FolderStore(tmp_path), []).held_out()
        assert [(s.document, s.bytes, s.tokens.tolist()) for s in held_out.sections] == [
            ("d1", 5, [0, 1, 2]),
            ("d1", 2, [3, 4]),
        ]
        assert (held_out.documents, held_out.bytes) == (1, 7)

    def test_damaged(self, tmp_path: Path) -> None:
        """Tokens that no section speaks of are damage."""
        store = FolderStore(tmp_path)
        dataset = make_dataset(store, [])
        store.put(PREFIX + "heldout.bin", b"123456")
        with pytest.raises(DamagedError, match="has 3 tokens"):
            dataset.held_out()


class TestOpen:
    """A dataset exists since its manifest does."""

    def test_missing(self, tmp_path: Path) -> None:
        """Without a manifest there is no dataset, whatever else lies there."""
        with pytest.raises(MissingError, match="Prepare trial has not succeeded"):
            Prepared.open(FolderStore(tmp_path), PREFIX)

    def test_damaged(self, tmp_path: Path) -> None:
        """A manifest that is none is damage."""
        store = FolderStore(tmp_path)
        store.put(PREFIX + MANIFEST, b"{}")
        with pytest.raises(DamagedError, match=MANIFEST):
            Prepared.open(store, PREFIX)
