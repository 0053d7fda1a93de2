"""Item files: what is written is read, and what is wrong is named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_api.model import canonical_json, sha256
from cpt_trainer.errors import DamagedError, DataError, MissingError
from cpt_trainer.evaluate.items import MANIFEST, Item, ItemFolder, Role, write_items, write_manifest
from cpt_trainer.store import FolderStore
from evaluation_suites import CLOZE, make_item, make_task


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """With the items `quiz`: three questions and a shot."""
    store = FolderStore(tmp_path)
    items = [*map(make_item, range(3)), make_item(9, role=Role.SHOT)]
    write_manifest(store, "", [write_items(store, "", "quiz", items, "made up")])
    return store


def rewrite(store: FolderStore, lines: list[str]) -> None:
    """Other items, with a manifest that is right about their bytes."""
    data = "\n".join(lines).encode()
    store.put("quiz.jsonl", data)
    manifest = json.loads(store.get(MANIFEST))
    (file,) = manifest["files"]
    file |= {"key": "quiz.jsonl", "sha256": sha256(data), "digest": sha256(data), "scored": len(lines), "shots": 0}
    store.put(MANIFEST, canonical_json(manifest))


class TestFolder:
    """Written and read."""

    def test_order(self, store: FolderStore) -> None:
        """Items keep their order; shots stand apart."""
        read = ItemFolder(store).read("quiz")
        assert [item.id for item in read.scored] == ["000", "001", "002"]
        assert [item.id for item in read.shots] == ["009"]

    def test_digest(self, store: FolderStore) -> None:
        """How a file is packed changes its bytes, not its digest."""
        before = ItemFolder(store).manifest.files[0]
        text = gzip.decompress(store.get(before.key))
        store.put("quiz.jsonl", text)
        entry = before.model_copy(update={"key": "quiz.jsonl", "sha256": sha256(text)})
        store.put(MANIFEST, canonical_json({"files": [entry.to_dict()]}))
        assert ItemFolder(store).read("quiz").file.digest == before.digest

    def test_others_stay(self, store: FolderStore) -> None:
        """Fetching more keeps what is there."""
        write_manifest(store, "", [write_items(store, "", "more", [make_item()], "made up")])
        assert [file.items for file in ItemFolder(store).manifest.files] == ["more", "quiz"]

    @given(st.text(max_size=9), st.lists(st.text(max_size=9), min_size=2, max_size=4))
    @settings(max_examples=30, deadline=None)
    def test_any_text(self, question: str, choices: list[str]) -> None:
        """Whatever stands in an item comes back, line ends too."""
        item = make_item(fields={"question": question}, choices=choices, gold=0)
        assert Item.model_validate_json(canonical_json(item.to_dict())) == item


class TestWrong:
    """Named by file and line."""

    def test_changed_byte(self, store: FolderStore) -> None:
        """A byte that is not the one that was written."""
        data = bytearray(store.get("quiz.jsonl.gz"))
        data[-9] ^= 1
        store.put("quiz.jsonl.gz", bytes(data))
        with pytest.raises(DamagedError, match=r"quiz.jsonl.gz has SHA-256 .*, the manifest names .*fetch them anew"):
            ItemFolder(store).read("quiz")

    def test_missing(self, store: FolderStore) -> None:
        """Items that nobody fetched."""
        with pytest.raises(MissingError, match=r"manifest\.json names no items 'mmlu', it names quiz"):
            ItemFolder(store).read("mmlu")

    def test_no_manifest(self, tmp_path: Path) -> None:
        """A folder without items."""
        with pytest.raises(MissingError, match="--fetch-items"):
            ItemFolder(FolderStore(tmp_path / "empty")).read("quiz")

    def test_file_gone(self, store: FolderStore) -> None:
        """A manifest that outlived its file."""
        store.delete("quiz.jsonl.gz")
        with pytest.raises(MissingError, match=r"quiz\.jsonl\.gz"):
            ItemFolder(store).read("quiz")

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"gold": 4}, "gold 4 is none of 4 choices"),
            ({"gold": None}, "gold None is none of 4 choices"),
            ({"choices": ["only"], "gold": 0}, "one choice alone"),
            ({"choices": [], "gold": None}, "neither choices nor answers"),
            ({"fields": {"options": "x"}}, "'options' is a name that prompts use"),
            ({"colour": "red"}, "colour: Extra inputs"),
            ({"id": "000"}, "item '000' stands in line 1 already"),
        ],
    )
    def test_line(self, store: FolderStore, changes: dict[str, Any], reason: str) -> None:
        """An item that is none, or that stands twice."""
        good, bad = (make_item(n).to_dict() for n in range(2))
        content = {name: value for name, value in (bad | changes).items() if value is not None}
        rewrite(store, [json.dumps(good), json.dumps(content)])
        with pytest.raises(DataError, match=rf"^quiz.jsonl:2: .*{reason}"):
            ItemFolder(store).read("quiz")

    def test_fewer_lines(self, store: FolderStore) -> None:
        """A manifest that counts more than there is."""
        rewrite(store, [json.dumps(make_item().to_dict())])
        manifest = json.loads(store.get(MANIFEST))
        manifest["files"][0]["scored"] = 2
        store.put(MANIFEST, canonical_json(manifest))
        with pytest.raises(DamagedError, match="has 1 items and 0 shots, the manifest names 2 and 0"):
            ItemFolder(store).read("quiz")

    def test_pinned(self, store: FolderStore) -> None:
        """A suite that asks other items than these."""
        task = make_task(CLOZE, items="quiz", itemsDigest="0" * 64)
        with pytest.raises(DataError, match=r"task cloze: the items quiz have digest .*, the suite asks for 0000"):
            ItemFolder(store).read_for(task)

    def test_written_twice(self, tmp_path: Path) -> None:
        """What could not be read is not written."""
        with pytest.raises(DataError, match="stands in line 1 already"):
            write_items(FolderStore(tmp_path), "", "quiz", [make_item(), make_item()], "made up")


class TestHash:
    """What an item asks."""

    def test_name(self) -> None:
        """Names and subjects are not part of it."""
        assert make_item(1, id="other", stratum="art").hash == make_item(1).hash
        assert make_item(1, gold=2).hash != make_item(1).hash

    def test_meaning(self) -> None:
        """Case and white space are not part of what it says."""
        assert (
            make_item(fields={"question": "WHAT  is\nit?"}).meaning
            == make_item(fields={"question": "what is it?"}).meaning
        )
        assert (
            make_item(fields={"question": "what is it!"}).meaning
            != make_item(fields={"question": "what is it?"}).meaning
        )
