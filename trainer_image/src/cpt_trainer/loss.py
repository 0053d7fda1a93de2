"""Cross-entropy of next tokens, always in fp32, and as a sum: who trains divides by the valid tokens of the whole
global batch, so the loss does not depend on ranks, micro-batches or padding.

    hidden_BTD -> logits_BTV -> nats_BT, 0 where the target is IGNORED -> sum

Logits are the largest tensor of a step: 8,192 tokens of a vocabulary of 128,256 in fp32 have 4 GB. Above CHUNK_BYTES
the head and the loss are computed in runs of tokens, and again in the backward pass, so that only one run's logits
exist.

Price of a chunked head: one more product with the head, 2 D V operations per token (1.8 % of a step of Llama-3 8B).

Shapes: B sequences, T tokens, D width, V vocabulary, N tokens of a chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

IGNORED = -100
"""A target that counts nothing."""
CHUNK_BYTES = 256 * 1024 * 1024
"""Of fp32 logits that exist at a time."""


def token_losses_BT(hidden_BTD: Tensor, head_VD: Tensor, targets_BT: Tensor, chunk_bytes: int = CHUNK_BYTES) -> Tensor:
    """Cross-entropy in nats and fp32, 0 where the target is IGNORED; the caller divides by all valid tokens."""
    hidden_ND, targets_N = hidden_BTD.flatten(0, 1), targets_BT.flatten()
    rows = max(1, chunk_bytes // (4 * head_VD.shape[0]))
    if len(targets_N) <= rows:
        return _nats_N(hidden_ND, head_VD, targets_N).view_as(targets_BT)
    parts = [
        checkpoint(_nats_N, hidden, head_VD, targets, use_reentrant=False)
        for hidden, targets in zip(torch.split(hidden_ND, rows), torch.split(targets_N, rows), strict=True)
    ]
    return torch.cat(parts).view_as(targets_BT)


def _nats_N(hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor) -> Tensor:
    nats: Tensor = _HeadLoss.apply(hidden_ND, head_VD, targets_N)
    return nats


class _HeadLoss(torch.autograd.Function):
    """The head and the cross-entropy as one: logits, their exponentials and their gradient are one buffer in turn.

    torch keeps three of that size. The gradient of nats by a logit is softmax minus 1 at the target.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor) -> Tensor:
        """nats_N."""
        scores_NV = functional.linear(hidden_ND, head_VD).float()
        counts_N = targets_N != IGNORED
        target_N1 = targets_N.where(counts_N, 0)[:, None]
        scores_NV -= scores_NV.amax(dim=1, keepdim=True)  # exponentials of at most 1 do not overflow
        gold_N = scores_NV.gather(1, target_N1).squeeze(1)
        exponentials_NV = scores_NV.exp_()
        sums_N = exponentials_NV.sum(dim=1)
        ctx.save_for_backward(hidden_ND, head_VD, exponentials_NV, sums_N, target_N1, counts_N)
        return (sums_N.log() - gold_N).where(counts_N, 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_N: Tensor) -> tuple[Tensor, Tensor, None]:
        """Of hidden states and head, in their types."""
        hidden_ND, head_VD, exponentials_NV, sums_N, target_N1, counts_N = ctx.saved_tensors
        gradient_N1 = (gradient_N * counts_N)[:, None]
        gradient_NV = exponentials_NV.mul_(gradient_N1 / sums_N[:, None])
        gradient_NV.scatter_add_(1, target_N1, -gradient_N1)
        typed_NV = gradient_NV.to(hidden_ND.dtype)
        return typed_NV @ head_VD, typed_NV.T @ hidden_ND, None
