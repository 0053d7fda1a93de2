"""Bits that a model needs for a held-out text, section by section: the same windows in the loop and in `evaluate`.

    section of 700 tokens, windows of 256     inputs 0..256, 256..512, 512..699; targets one further; no overlap
    windows by length -> blocks of at most 8,192 tokens -> rank k of n scores blocks k, k + n, k + 2n, ...

What is in a block never depends on the number of ranks, so neither does the table. The first token is not predicted
from anything, unless the tokenizer puts BOS before it.

Price: a forward pass over the text, padded to the longest window of each block (windows of equal length lie together).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from cpt_api.values import Digest
from cpt_trainer.batches import Batch, make_batch
from cpt_trainer.dataset import HeldOut
from cpt_trainer.loss import IGNORED
from cpt_trainer.process import Process

if TYPE_CHECKING:
    from cpt_trainer.tables import Items

BLOCK_TOKENS = 8192
"""Of a forward pass. It is part of how scores are rounded, so changing it needs a new protocol."""

Nats = Callable[[Batch], torch.Tensor]
"""nats_BT of a batch."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Window:
    """A run of tokens of one section: each but the first is predicted from those before it."""

    section: int
    tokens: npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Scored:
    """What a text cost, in bits and in work."""

    items: Items
    tokens: int
    """That went through the model, all ranks, without padding."""
    pairs: int
    """That saw each other."""


def score(nats: Nats, text: Digest, held_out: HeldOut, sequence_tokens: int, process: Process) -> Scored:
    """Score every section. All ranks call this with the same text and make the same number of passes."""
    from cpt_trainer.tables import heldout_items

    windows = windows_of(held_out, sequence_tokens)
    per_window = _window_nats(nats, windows, blocks_of(windows), process)
    bits: Floats = np.zeros(len(held_out.sections))
    for window, found in zip(windows, per_window, strict=True):
        bits[window.section] += found / math.log(2)
    lengths = [len(window.tokens) - 1 for window in windows]
    items = heldout_items(
        text,
        sections=_names(held_out),
        documents=[section.document for section in held_out.sections],
        bits=bits,
        source_bytes=[section.bytes for section in held_out.sections],
    )
    return Scored(items, sum(lengths), sum(n * (n + 1) // 2 for n in lengths))


def windows_of(held_out: HeldOut, sequence_tokens: int) -> list[Window]:
    """Consecutive windows of each section; one token alone predicts nothing."""
    return [
        Window(number, section.tokens[start : start + sequence_tokens + 1])
        for number, section in enumerate(held_out.sections)
        for start in range(0, len(section.tokens) - 1, sequence_tokens)
    ]


def blocks_of(windows: Sequence[Window], block_tokens: int = BLOCK_TOKENS) -> list[list[int]]:
    """Numbers of windows, the longest first, in blocks that fill at most that many tokens (or have one window)."""
    order = sorted(range(len(windows)), key=lambda number: (-len(windows[number].tokens), number))
    blocks = []
    while order:
        rows = max(1, block_tokens // (len(windows[order[0]].tokens) - 1))
        blocks.append(order[:rows])
        order = order[rows:]
    return blocks


@torch.no_grad()
def _window_nats(nats: Nats, windows: Sequence[Window], blocks: Sequence[list[int]], process: Process) -> list[float]:
    """Summed over all targets of each window."""
    found = [0.0] * len(windows)
    for first in range(0, len(blocks), process.size):
        mine = first + process.rank
        block = blocks[mine] if mine < len(blocks) else []
        nats_BT = nats(_padded([windows[number] for number in block]).to(process.device))
        sums = nats_BT.double().sum(dim=1).tolist()
        for number, value in zip(block, sums, strict=False):
            found[number] = value
    return process.sum(found)


def _padded(windows: Sequence[Window]) -> Batch:
    """Rows of one length; a rank without a block passes a row that counts nothing, as passes have collectives."""
    length = max((len(window.tokens) for window in windows), default=2)
    tokens = np.zeros((max(1, len(windows)), length), np.int64)
    for number, window in enumerate(windows):
        tokens[number, : len(window.tokens)] = window.tokens
    batch, _ = make_batch(tokens, np.full(len(tokens), -1))
    for number, end in enumerate([len(window.tokens) - 1 for window in windows] or [0]):
        batch.targets_BT[number, end:] = IGNORED
    return batch


def _names(held_out: HeldOut) -> list[str]:
    """`<document>/<number of the section within it>`."""
    seen: Counter[str] = Counter()
    names = []
    for section in held_out.sections:
        names.append(f"{section.document}/{seen[section.document]}")
        seen[section.document] += 1
    return names
