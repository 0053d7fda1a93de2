"""One forward pass: log-probabilities of what a block's questions ask for.

    tokens, positions, mask of the block's rows -> hidden states -> the few that something is read behind -> logits

The head is applied to those alone: of 8,192 tokens of five-shot questions to 96, of endings to a quarter.
Log-probabilities are in fp32 whatever the model computes in, and are summed in fp64.

Price: 256 MiB of logits at most.

Shapes: B rows, T tokens, K seen tokens, N read places, V vocabulary, D width, A answers (one for each target).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cpt_trainer.evaluate.attention import Memory
from cpt_trainer.evaluate.blocks import Block
from cpt_trainer.evaluate.requests import Likelihood
from cpt_trainer.evaluate.tree import see
from cpt_trainer.loss import CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class Pass:
    """The tensors of a block."""

    tokens_BT: Tensor
    positions_BT: Tensor
    mask_B1TK: Tensor
    """0 where a token is seen, minus infinity where not; the prefix comes first and is seen by all."""
    places_N: Tensor
    """Of the hidden states that are read, in the flattened rows; ascending."""
    reads_A: Tensor
    """For each target the number of its place."""
    targets_A: Tensor


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose targets follow each other in a pass."""

    question: int
    pair: int
    targets: int


def pass_of(block: Block, dtype: torch.dtype, device: torch.device) -> tuple[Pass, list[Asked]]:
    """Rows are padded with tokens that see themselves alone and that nothing sees."""
    rows, length, before = len(block.rows), block.row_tokens, len(block.prefix)
    tokens, positions = np.zeros((rows, length), np.int64), np.zeros((rows, length), np.int64)
    ends = np.tile(np.arange(1, length + 1, dtype=np.int32), (rows, 1))
    asked, places, targets = [], [], []
    for number, row in enumerate(block.rows):
        first = 0
        for leaf in row:
            tree, here = leaf.tree, slice(first, first + len(leaf.tree))
            tokens[number, here] = tree.tokens
            positions[number, here] = before + tree.depths
            ends[number, here] = first + tree.ends
            for pair, reads in zip(leaf.pairs, tree.reads, strict=True):
                asked.append(Asked(leaf.question, pair, len(reads.targets)))
                places.append(number * length + first + reads.places)
                targets.append(reads.targets)
            first += len(tree)
    distinct, reads_A = np.unique(np.concatenate(places), return_inverse=True)
    there = torch.from_numpy(see(ends))[:, None].to(device)
    mask = torch.zeros(rows, 1, length, before + length, dtype=dtype, device=device)
    mask[..., before:].masked_fill_(~there, float("-inf"))
    made = Pass(
        torch.from_numpy(tokens).to(device),
        torch.from_numpy(positions).to(device),
        mask,
        torch.from_numpy(distinct).to(device),
        torch.from_numpy(reads_A).to(device),
        torch.from_numpy(np.concatenate(targets).astype(np.int64)).to(device),
    )
    return made, asked


def answers(given: Pass, decoder: Any, head_VD: Tensor, memory: Memory, *, masked: bool) -> Tensor:
    """Log-probability of each target, and 1 where nothing was more likely: 2 A, in fp64 on the CPU."""
    output = decoder(
        input_ids=given.tokens_BT,
        attention_mask=given.mask_B1TK if masked else None,
        position_ids=given.positions_BT,
        use_cache=False,
        memory=memory,
    )
    hidden_ND = output.last_hidden_state.flatten(0, 1)[given.places_N]
    rows = max(1, CHUNK_BYTES // (4 * head_VD.shape[0]))
    found_2A = torch.empty(2, len(given.targets_A), dtype=torch.float64, device=hidden_ND.device)
    for first in range(0, len(hidden_ND), rows):
        logits_NV = functional.linear(hidden_ND[first : first + rows], head_VD).float()
        mine_A = (given.reads_A >= first) & (given.reads_A < first + rows)
        reads_A, targets_A = given.reads_A[mine_A] - first, given.targets_A[mine_A]
        logprobs_A = logits_NV[reads_A, targets_A] - logits_NV.logsumexp(dim=1)[reads_A]
        found_2A[0, mine_A] = logprobs_A.double()
        found_2A[1, mine_A] = (logits_NV.argmax(dim=1)[reads_A] == targets_A).double()
    return found_2A.cpu()


def likelihoods(asked: list[Asked], found_2A: Tensor) -> Iterator[tuple[Asked, Likelihood]]:
    """Summed over the targets of each pair."""
    first = 0
    logprobs, greedy = found_2A.numpy()
    for one in asked:
        here = slice(first, first + one.targets)
        yield one, Likelihood(float(logprobs[here].sum()), one.targets, bool(greedy[here].all()))
        first += one.targets
