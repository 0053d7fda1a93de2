"""RegMix's tables: mixtures with the losses of models that were trained on them (README.md here)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

FOLDER = Path(__file__).parent
_LOSS = "loss_"
_DRAWS = 4

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A row for each mixture."""

    weights: Floats
    """One column for each domain; rows sum to one."""
    losses: Floats
    """One column for each text."""
    texts: tuple[str, ...]
    """Their names."""

    def few(self) -> Iterator[Self]:
        """As many rows as MergeProxy has merges, drawn some times."""
        count = 3 * (self.weights.shape[1] + 1)
        for seed in range(_DRAWS):
            rows = np.random.default_rng(seed).permutation(len(self.weights))[:count]
            yield replace(self, weights=self.weights[rows], losses=self.losses[rows])

    @classmethod
    def read(cls, name: str) -> Self:
        """Of a file here."""
        head, *rows = (FOLDER / f"{name}.csv").read_text().splitlines()
        texts = tuple(column.removeprefix(_LOSS) for column in head.split(",") if column.startswith(_LOSS))
        values = np.array([[float(value) for value in row.split(",")] for row in rows])
        weights = values[:, : -len(texts)]  # printed to three digits: they sum to one within 0.004
        return cls(weights / weights.sum(axis=1, keepdims=True), values[:, -len(texts) :], texts)


Predict = Callable[[Table, int, Floats], Floats]
"""From rows that are fitted, the number of a loss, and weights: predicted losses, or what has their order."""


def compare(predict: Predict, fitted: Iterable[Table], unseen: Table) -> tuple[float, float]:
    """Rank correlation and regret (in standard deviations of the loss), means over losses and fits."""
    found = []
    for table in fitted:
        for number in range(len(unseen.texts)):
            predicted, true = predict(table, number, unseen.weights), unseen.losses[:, number]
            regret = (true[predicted.argmin()] - true.min()) / true.std()
            found.append((float(np.corrcoef(_ranks(predicted), _ranks(true))[0, 1]), float(regret)))
    return float(np.mean([one for one, _ in found])), float(np.mean([regret for _, regret in found]))


def _ranks(values: Floats) -> Floats:
    """Equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places], dtype=np.float64)
