"""The mean of models: one formula, for what is written and for what is only evaluated. Pure but for the reads.

    fp32:  (w1 t1 + w2 t2 + ...) / (w1 + w2 + ...)      in the order of the inputs; rounded once to the output's type

    weights 0.5 and 0.5, bf16 values 1.0078125 and 1.0       1.00390625 in fp32, 1.0 in bf16: ties go to the even one

Each step is a numpy operation of its own, so no machine fuses two of them, and how a tensor is cut into runs of rows
changes no bit. What is not finite is refused where it is found: no model is made of it.

Price: every byte of every input once; 16 MiB, over all inputs, of what was read, and a block that fits into a cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cpt_trainer.errors import DataError
from cpt_trainer.floats import Floats, is_finite, rounded, widened
from cpt_trainer.weights import NUMPY, Array, Readable, TensorInfo

RUN_BYTES = 8 * 1024 * 1024
"""Of one run of rows over all inputs, were they fp32."""
_BLOCK = 64 * 1024
"""Values that are worked on at a time: 256 KiB in fp32."""


@dataclass(frozen=True, slots=True)
class Part:
    """One model of a merge."""

    label: str
    """For messages, such as `inputs[1]`."""
    weights: Readable
    names: Mapping[str, str]
    """By the output's names: its own."""
    weight: np.float32
    """Above zero."""

    def read(self, name: str, rows: tuple[int, int]) -> Values:
        """Those rows of one of the output's tensors."""
        own = self.names[name]
        return Values(self, own, self.weights.read(own, rows).reshape(-1), self.weights.tensors[own].dtype)


@dataclass(frozen=True, slots=True)
class Values:
    """A run of one part's tensor, flat."""

    part: Part
    name: str
    """The part's own."""
    array: Array
    dtype: str

    def block(self, start: int) -> Floats:
        """Some of them, as fp32."""
        return widened(self.array[start : start + _BLOCK], self.dtype)


@dataclass(frozen=True, slots=True)
class Blend:
    """The merged model, made where it is read. Safe to share between threads."""

    tensors: Mapping[str, TensorInfo]
    """Of the output, in the order of the base; they lie nowhere."""
    parts: tuple[Part, ...]

    def read(self, name: str, rows: tuple[int, int] | None = None) -> Array:
        """As from a file that was written."""
        info = self.tensors[name]
        first, end = rows or (0, info.rows)
        output = np.empty((end - first, *info.shape[1:]), NUMPY[info.dtype])
        for start, stop in self.runs(name, first, end):
            run = [part.read(name, (start, stop)) for part in self.parts]
            _blend(run, output[start - first : stop - first].reshape(-1), info)
        return output if info.shape else output.reshape(())

    def runs(self, name: str, first: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
        """First row, and the one after the last, of runs that are small enough to be held."""
        info = self.tensors[name]
        row_bytes = info.row_bytes // NUMPY[info.dtype].itemsize * 4 * len(self.parts)
        step = max(1, RUN_BYTES // max(1, row_bytes))
        stop = info.rows if end is None else end
        for start in range(first, stop, step):
            yield start, min(stop, start + step)


def _blend(run: Sequence[Values], output: Array, info: TensorInfo) -> None:
    """Fill a run of the output."""
    weights = [values.part.weight for values in run]
    for start in range(0, output.size, _BLOCK):
        block = rounded(mean([values.block(start) for values in run], weights), info.dtype)
        if not is_finite(block, info.dtype):
            raise DataError(_blame(run, start, info))
        output[start : start + _BLOCK] = block


def mean(values: Sequence[Floats], weights: Sequence[np.float32]) -> Floats:
    """The formula, in fp32."""
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is refused
        total, sum_of_weights = values[0] * weights[0], weights[0]
        for value, weight in zip(values[1:], weights[1:], strict=True):
            total += value * weight
            sum_of_weights += weight
        total /= sum_of_weights
    return total


def _blame(run: Sequence[Values], start: int, info: TensorInfo) -> str:
    """Who is not finite: an input, or only the mean."""
    for values in run:
        bad = int(np.count_nonzero(~np.isfinite(values.block(start))))
        if bad:
            return (
                f"{values.part.label}: tensor {values.name} has {bad} NaN or infinite values in a block of "
                f"{_BLOCK}: a model cannot be made of it; take an earlier checkpoint, or leave it out"
            )
    return f"the mean of {info.name} does not fit into {info.dtype}, the base's type, though all inputs are finite"
