"""The formula, against torch and against numpy written in another way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch

from cpt_trainer.errors import DataError
from cpt_trainer.floats import rounded, widened
from cpt_trainer.merge import blend
from cpt_trainer.merge.blend import Blend, Part
from cpt_trainer.weights import Array, TensorInfo

TORCH = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
SHAPE = (7, 30_000)
"""Of more values than a block has."""


class Held:
    """Tensors in memory."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._arrays = {name: bits(tensor) for name, tensor in tensors.items()}
        types = {dtype: name for name, dtype in TORCH.items()}
        self.tensors = {name: TensorInfo(name, types[t.dtype], tuple(t.shape), ()) for name, t in tensors.items()}

    def read(self, name: str, rows: tuple[int, int] | None = None) -> Array:
        """As from a file."""
        array = self._arrays[name]
        return array[slice(*rows)] if rows and array.shape else array


def bits(tensor: torch.Tensor) -> Array:
    """As the reader of weights gives it."""
    array: Array = (tensor.view(torch.uint16) if tensor.dtype is torch.bfloat16 else tensor).numpy()
    return array


def same(one: Array, other: Array) -> bool:
    """Bit by bit."""
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def random_tensor(seed: int, dtype: str = "F32", shape: Sequence[int] = SHAPE) -> torch.Tensor:
    """Of normal values."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(TORCH[dtype])


def blend_of(weights: Sequence[float], tensors: Sequence[torch.Tensor], dtype: str) -> Blend:
    """Of one tensor, `w`."""
    parts = [
        Part(f"inputs[{n}]", Held({"w": tensor}), {"w": "w"}, np.float32(weight))
        for n, (weight, tensor) in enumerate(zip(weights, tensors, strict=True))
    ]
    return Blend({"w": TensorInfo("w", dtype, tuple(tensors[0].shape), ())}, tuple(parts))


class TestRounding:
    """Between fp32 and what weights are kept in."""

    @pytest.mark.parametrize("dtype", TORCH)
    def test_torch(self, dtype: str) -> None:
        """Every kind of bit pattern is rounded as torch rounds it: ties, subnormals, what overflows, infinities."""
        patterns = np.random.default_rng(1).integers(0, 2**32, 200_000, dtype=np.uint32)
        upper = np.arange(2**16, dtype=np.uint32) << np.uint32(16)
        ties = [upper, upper | np.uint32(0x7FFF), upper | np.uint32(0x8000), upper | np.uint32(0x8001)]
        values = np.concatenate([patterns, *ties]).view(np.float32)
        values = values[~np.isnan(values)]
        assert same(rounded(values, dtype), bits(torch.from_numpy(values.copy()).to(TORCH[dtype])))

    @pytest.mark.parametrize("dtype", TORCH)
    def test_nan(self, dtype: str) -> None:
        """What is no number stays none, whatever its bits."""
        nans = np.array([0x7F800001, 0x7FFFFFFF, 0xFF800001, 0x7FC00000], np.uint32).view(np.float32)
        assert np.isnan(widened(rounded(nans, dtype), dtype)).all()

    @pytest.mark.parametrize("dtype", ["BF16", "F16"])
    def test_there_and_back(self, dtype: str) -> None:
        """Widening loses nothing."""
        every = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(TORCH[dtype])
        every = every[torch.isfinite(every)]
        assert same(rounded(widened(bits(every), dtype), dtype), bits(every))


class TestMean:
    """fp32, in the order of the inputs, rounded once."""

    @pytest.mark.parametrize("dtype", TORCH)
    @pytest.mark.parametrize("weights", [(1.0,), (0.5, 0.5), (0.25, 0.75), (3.0, 1.0, 0.1), (0.2, 0.3, 0.1, 0.4, 7.0)])
    def test_reference(self, weights: tuple[float, ...], dtype: str) -> None:
        """Bit for bit what torch computes step by step, for inputs of all types at once."""
        inputs = [random_tensor(n, list(TORCH)[n % 3]) for n in range(len(weights))]
        scales = [torch.tensor(weight, dtype=torch.float32) for weight in weights]
        total, scale_sum = torch.zeros(SHAPE), torch.tensor(0.0)
        for tensor, scale in zip(inputs, scales, strict=True):
            total, scale_sum = total + tensor.float() * scale, scale_sum + scale
        want = (total / scale_sum).to(TORCH[dtype])
        assert same(blend_of(weights, inputs, dtype).read("w"), bits(want))

    def test_ties(self) -> None:
        """The example of the module."""
        inputs = [torch.tensor([1.0078125]).bfloat16(), torch.tensor([1.0]).bfloat16()]
        assert widened(blend_of((0.5, 0.5), inputs, "BF16").read("w"), "BF16").tolist() == [1.0]
        assert blend_of((0.5, 0.5), inputs, "F32").read("w").tolist() == [1.00390625]

    def test_one_alone(self) -> None:
        """A single input with weight 1 is that model."""
        tensor = random_tensor(5, "BF16")
        assert same(blend_of([1.0], [tensor], "BF16").read("w"), bits(tensor))

    def test_scalar(self) -> None:
        """A tensor without dimensions has one value."""
        assert blend_of((1, 3), [torch.tensor(1.0), torch.tensor(5.0)], "F32").read("w").tolist() == 4.0


class TestRuns:
    """How a tensor is cut changes nothing."""

    @pytest.mark.parametrize(("run_bytes", "block"), [(1, 1000), (300_000, 64), (10**9, 10**9)])
    def test_cuts(self, monkeypatch: pytest.MonkeyPatch, run_bytes: int, block: int) -> None:
        """Runs and blocks of any size give the same bits."""
        whole = blend_of((0.3, 0.7), [random_tensor(1), random_tensor(2, "BF16")], "BF16")
        want = whole.read("w")
        monkeypatch.setattr(blend, "RUN_BYTES", run_bytes)
        monkeypatch.setattr(blend, "_BLOCK", block)
        assert same(whole.read("w"), want)
        assert same(np.concatenate([whole.read("w", rows) for rows in whole.runs("w")]), want)

    @pytest.mark.parametrize("rows", [(0, 7), (2, 5), (6, 7), (3, 3)])
    def test_rows(self, rows: tuple[int, int]) -> None:
        """A rank of a sharded model reads its own rows."""
        whole = blend_of((0.3, 0.7), [random_tensor(1), random_tensor(2)], "F32")
        assert same(whole.read("w", rows), whole.read("w")[slice(*rows)])


class TestNotFinite:
    """No model is made of what is no number."""

    @pytest.mark.parametrize("dtype", TORCH)
    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_input(self, value: float, dtype: str) -> None:
        """The input is named, and the tensor, and how many."""
        bad = random_tensor(1, dtype)
        bad[3, 7:9] = value
        with pytest.raises(DataError, match=r"inputs\[1\]: tensor w has 2 NaN or infinite values"):
            blend_of((0.5, 0.5), [random_tensor(2), bad], dtype).read("w")

    def test_infinities_that_cancel(self) -> None:
        """+inf and -inf are no number either."""
        one = torch.full(SHAPE, float("inf"))
        with pytest.raises(DataError, match=r"inputs\[0\]"):
            blend_of((0.5, 0.5), [one, -one], "F32").read("w")

    def test_output(self) -> None:
        """A mean that its type cannot hold is refused, not made infinite."""
        large = torch.full((2, 2), 1e6)
        with pytest.raises(DataError, match="does not fit into F16"):
            blend_of((0.5, 0.5), [large, large], "F16").read("w")
