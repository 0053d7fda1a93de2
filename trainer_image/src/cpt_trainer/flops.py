"""Floating-point operations, with the convention in the name, since there are several.

    6 (N - embeddings)      per token: two for each weight forward and four backward; the head counts even when tied
    12 L H d * pairs        per layer and head: QK and AV over all (query, key) pairs that the mask leaves, thrice

A document of n tokens has n (n + 1) / 2 pairs, so a sequence of two documents costs less than one of the same length:

    256 tokens, one document: 32,896 pairs        two of 128: 16,512

Only a forward pass is a third of it. 6 N D is for budgets, never for how well a device is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from cpt_api.result import Flops

TRAINING = "6(N-embeddings) + 12*layers*heads*headDim*pairs; causal, documents' real lengths; head counted"
FORWARD = "2(N-embeddings) + 4*layers*heads*headDim*pairs; causal, documents' real lengths; head counted"


PEAKS: Mapping[str, float] = {
    "A100": 312e12,
    "H20": 148e12,
    "H100": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H200": 989e12,
    "B200": 2250e12,
    "GB200": 2500e12,
    "L40S": 362e12,
    "MI300X": 1300e12,
}
"""Dense bf16 operations per second, by what stands in a device's name (torchtitan's table)."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Operations of a forward pass."""

    per_token: int
    per_pair: int

    def training(self, tokens: int, pairs: int) -> Flops:
        """Forward and backward."""
        return Flops(total=float(3 * self.forward_operations(tokens, pairs)), convention=TRAINING)

    def forward(self, tokens: int, pairs: int) -> Flops:
        """Forward alone."""
        return Flops(total=float(self.forward_operations(tokens, pairs)), convention=FORWARD)

    def mfu_full_attention(
        self, sequence_tokens: int, tokens_per_second: float, gpus: int, device: str
    ) -> float | None:
        """Part of the peak that training uses, every pair of a sequence counted, as torchtitan and PaLM count.

        None for a device that is not in PEAKS: no figure is better than a guess.
        """
        known = [name for name in PEAKS if name in device]
        if not known or not gpus:
            return None
        per_token = 3 * (self.per_token + self.per_pair * sequence_tokens)
        return tokens_per_second * per_token / (gpus * PEAKS[max(known, key=len)])

    def forward_operations(self, tokens: int, pairs: int) -> int:
        """Of so many tokens with so many pairs that see each other."""
        return self.per_token * tokens + self.per_pair * pairs


def cost_of(lm: torch.nn.Module) -> Cost:
    """Of a causal model of transformers; matrices alone count."""
    config: Any = lm.config
    head, embedding = lm.get_output_embeddings().weight, lm.get_input_embeddings().weight  # type: ignore[operator]
    matrices = {p for p in lm.parameters() if p.dim() == 2 and p is not embedding} | {head}
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    return Cost(2 * sum(p.numel() for p in matrices), 4 * config.num_hidden_layers * heads * head_dim)
