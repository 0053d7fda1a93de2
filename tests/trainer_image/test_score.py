"""Held-out text: which windows, and that nobody's share of the work changes the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_trainer.batches import Batch
from cpt_trainer.dataset import HeldOut, Section
from cpt_trainer.loss import IGNORED
from cpt_trainer.peers import Alone
from cpt_trainer.process import Process
from cpt_trainer.score import blocks_of, score, windows_of
from cpt_trainer.tables import Items
from make import make_digest

TEXT = make_digest("text")
CPU = torch.device("cpu")


def held_out(*lengths: int) -> HeldOut:
    """Sections of those many tokens, two to a document."""
    chance = np.random.default_rng(1)
    sections = [
        Section(f"document {n // 2}", 3 * length, chance.integers(1, 50, length)) for n, length in enumerate(lengths)
    ]
    return HeldOut(tuple(sections), (len(lengths) + 1) // 2, 3 * sum(lengths))


def nats(batch: Batch) -> torch.Tensor:
    """A model that finds a token harder the larger it is, and the further it is from its place."""
    value = torch.sin(batch.targets_BT.double() * 0.7 + batch.tokens_BT.double() * 0.1 + batch.positions_BT) + 2
    return torch.where(batch.targets_BT == IGNORED, 0.0, value).float()


@dataclass(frozen=True)
class Played(Process):
    """A rank whose part of a sum is kept, and who is told the sum where it is known."""

    parts: list[list[float]] = field(default_factory=list)
    total: list[float] | None = None

    def sum(self, values: Sequence[float]) -> list[float]:
        """As if the others had answered."""
        self.parts.append(list(values))
        return self.total or list(values)


def play(text: HeldOut, size: int = 1) -> Items:
    """What all ranks have in the end: each plays its part, then one is told the sum."""
    parts: list[list[float]] = []
    for rank in range(size):
        score(nats, TEXT, text, 8, Played(rank, size, CPU, 1, Alone(), parts))
    total = [sum(values) for values in zip(*parts, strict=True)]
    return score(nats, TEXT, text, 8, Played(0, size, CPU, 1, Alone(), total=total)).items


class TestWindows:
    """Design 3: "consecutive windows of `sequenceLength` without overlap"."""

    @given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(1, 20))
    @settings(max_examples=50, deadline=None)
    def test_every_token_once(self, lengths: list[int], window: int) -> None:
        """Each token but a section's first is a target exactly once."""
        text = held_out(*lengths)
        for number, section in enumerate(text.sections):
            mine = [w.tokens for w in windows_of(text, window) if w.section == number]
            assert all(2 <= len(tokens) <= window + 1 for tokens in mine)
            targets = np.concatenate([tokens[1:] for tokens in mine]) if mine else np.array([])
            assert targets.tolist() == section.tokens[1:].tolist()

    @given(st.lists(st.integers(2, 60), min_size=1, max_size=20), st.integers(1, 100))
    @settings(max_examples=50, deadline=None)
    def test_blocks(self, lengths: list[int], block_tokens: int) -> None:
        """Each window is in one block, and no block of several is larger than it may be."""
        windows = windows_of(held_out(*lengths), 16)
        blocks = blocks_of(windows, block_tokens)
        assert sorted(number for block in blocks for number in block) == list(range(len(windows)))
        for block in blocks:
            longest = max(len(windows[number].tokens) - 1 for number in block)
            assert len(block) == 1 or len(block) * longest <= block_tokens


class TestScore:
    """Bits by section."""

    def test_bits(self) -> None:
        """They are those of each section alone."""
        text = held_out(20, 9, 33, 4)
        items = play(text)
        alone = [play(HeldOut((section,), 1, section.bytes)).bits[0] for section in text.sections]
        np.testing.assert_allclose(items.bits, alone, rtol=1e-6)
        assert items.item.tolist() == ["document 0/0", "document 0/1", "document 1/0", "document 1/1"]
        assert items.bytes.tolist() == [60, 27, 99, 12]

    @pytest.mark.parametrize("size", [2, 3, 8])
    def test_ranks(self, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """The table is identical for any number of ranks."""
        monkeypatch.setattr("cpt_trainer.score.BLOCK_TOKENS", 16)
        text = held_out(*range(3, 40, 3))
        assert play(text, size).bits.tolist() == play(text).bits.tolist()

    def test_work(self) -> None:
        """Tokens and pairs are those of the windows, without padding."""
        scored = score(nats, TEXT, held_out(9, 5), 8, Process(0, 1, CPU, 1, Alone()))
        assert (scored.tokens, scored.pairs) == (8 + 4, 36 + 10)
