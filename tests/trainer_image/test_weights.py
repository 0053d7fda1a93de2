"""Reading tensors by rows, compared with what the safetensors library wrote."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from cpt_trainer.errors import DataError, MissingError
from cpt_trainer.store import FolderStore
from cpt_trainer.weights import INDEX, SINGLE, Array, Piece, TensorInfo, Weights, layout, open_weights

TENSORS: dict[str, Array] = {
    "embed": np.arange(40, dtype=np.float32).reshape(10, 4),
    "norm": np.arange(5, dtype=np.float16),
    "step": np.array(7, dtype=np.int64),
}


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """A folder with one model in one file."""
    safetensors.numpy.save_file(TENSORS, tmp_path / SINGLE)
    return FolderStore(tmp_path)


class TestHuggingFace:
    """Folders as others write them."""

    @pytest.mark.parametrize("name", TENSORS)
    def test_whole(self, store: FolderStore, name: str) -> None:
        """A tensor comes back with its type, shape and values."""
        read = open_weights(store).read(name)
        assert read.dtype == TENSORS[name].dtype
        np.testing.assert_array_equal(read, TENSORS[name])

    @pytest.mark.parametrize("rows", [(0, 10), (3, 7), (9, 10), (4, 4)])
    def test_rows(self, store: FolderStore, rows: tuple[int, int]) -> None:
        """Rows are those of the array."""
        np.testing.assert_array_equal(open_weights(store).read("embed", rows), TENSORS["embed"][slice(*rows)])

    def test_bfloat16(self, tmp_path: Path) -> None:
        """bfloat16 comes as its bits."""
        want = torch.randn(3, 5, dtype=torch.bfloat16)
        safetensors.torch.save_file({"w": want}, tmp_path / SINGLE)
        weights = open_weights(FolderStore(tmp_path))
        assert weights.tensors["w"].dtype == "BF16"
        assert torch.equal(torch.from_numpy(weights.read("w").copy()).view(torch.bfloat16), want)

    def test_index(self, tmp_path: Path) -> None:
        """Several files with an index are one set of tensors."""
        files = {"a.safetensors": "embed", "b.safetensors": "norm"}
        for file, name in files.items():
            safetensors.numpy.save_file({name: TENSORS[name]}, tmp_path / file)
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": {name: file for file, name in files.items()}}))
        weights = open_weights(FolderStore(tmp_path))
        assert set(weights.tensors) == {"embed", "norm"}
        np.testing.assert_array_equal(weights.read("norm"), TENSORS["norm"])


class TestRefused:
    """What is wrong is said with the key."""

    def test_no_weights(self, tmp_path: Path) -> None:
        """A folder without weights is missing something."""
        with pytest.raises(MissingError, match=SINGLE):
            open_weights(FolderStore(tmp_path))

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda b: b[:-4], id="cut"),
            pytest.param(lambda b: b + b"1234", id="longer"),
            pytest.param(lambda b: b"\xff" * 8 + b[8:], id="header length"),
            pytest.param(lambda b: b.replace(b"[10,4]", b"[10,5]"), id="shape"),
            pytest.param(lambda b: b.replace(b'"F32"', b'"F99"'), id="type"),
            pytest.param(lambda b: b[:8] + b"#" + b[9:], id="json"),
        ],
    )
    def test_damaged(self, store: FolderStore, change: object) -> None:
        """A damaged header is refused before anything is read by it."""
        assert callable(change)
        store.put(SINGLE, change(store.get(SINGLE)))
        with pytest.raises(DataError, match=SINGLE):
            open_weights(store)

    @pytest.mark.parametrize("index", ["[]", "{}", "nonsense", '{"weight_map": {"a": "../../x.safetensors"}}'])
    def test_index(self, store: FolderStore, index: str) -> None:
        """An index that is none, or leaves the folder, is refused."""
        store.put(INDEX, index.encode())
        with pytest.raises(DataError, match=INDEX):
            open_weights(store)

    def test_unknown_tensor(self, store: FolderStore) -> None:
        """The name that was asked for is in the message."""
        with pytest.raises(DataError, match="lm_head"):
            open_weights(store).read("lm_head")

    @pytest.mark.parametrize("rows", [(0, 11), (-1, 3), (5, 4)])
    def test_rows(self, store: FolderStore, rows: tuple[int, int]) -> None:
        """Rows outside the tensor are refused."""
        with pytest.raises(DataError, match="10 rows"):
            open_weights(store).read("embed", rows)


def test_pieces() -> None:
    """Rows that lie in several objects are put together, and only their bytes are read."""
    whole = TENSORS["embed"]
    objects = {"x": b"head" + whole[:5].tobytes(), "y": whole[5:].tobytes()}
    asked: list[tuple[str, int, int]] = []

    def read_range(key: str, start: int, length: int) -> bytes:
        asked.append((key, start, length))
        return objects[key][start : start + length]

    info = TensorInfo("embed", "F32", (10, 4), (Piece(0, 5, "x", 4), Piece(5, 5, "y", 0)))
    np.testing.assert_array_equal(Weights({"embed": info}, read_range).read("embed", (4, 7)), whole[4:7])
    assert asked == [("x", 4 + 4 * 16, 16), ("y", 0, 32)]


def test_layout() -> None:
    """Our own files are read by the safetensors library, and every tensor is aligned to its type."""
    tensors = [("flag", "BOOL", (3,)), ("w", "F32", (2, 2)), ("n", "I64", ())]
    head, starts = layout(tensors)
    data = bytearray(head.ljust(starts[-1], b"\0"))
    data[starts[1] : starts[1] + 16] = np.array([[1, 2], [3, 4]], np.float32).tobytes()
    read = safetensors.numpy.load(bytes(data))
    assert {name: value.shape for name, value in read.items()} == {name: shape for name, _, shape in tensors}
    assert read["w"].tolist() == [[1, 2], [3, 4]]
    assert starts[2] % 8 == 0
