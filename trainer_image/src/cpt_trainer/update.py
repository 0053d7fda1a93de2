"""From gradients to new weights: sum, divide, clip, AdamW. One object, three steps of the loop:

    update.square()             this rank's part of the squared norm, for the one reduction of a step
    norm = update.apply(square of all ranks, valid tokens of all ranks, rate)
    None                        the norm was not finite: nothing was changed, on no rank

Everything works on this rank's rows, so a sharded model and a plain one take the same path.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from cpt_api.trial import Optimizer


class Update:
    """AdamW on a model's parameters."""

    def __init__(self, lm: nn.Module, spec: Optimizer) -> None:
        decayed, plain = _groups(lm)
        self._clip = float(spec.gradient_clip)
        self._parameters = decayed + plain
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": float(spec.weight_decay)},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=0.0,  # set at each step
            betas=(float(spec.beta1), float(spec.beta2)),
            eps=float(spec.epsilon),
            fused=True,
        )

    def square(self) -> float:
        """Squared norm of this rank's rows of the gradient, in fp64 over fp32 tensors."""
        norms = torch._foreach_norm(self._gradients())  # noqa: SLF001 - as torch.nn.utils does
        return float(torch.stack(norms).double().square().sum())

    def apply(self, square: float, valid: float, rate: float) -> float | None:
        """Make the step, and return the norm of the gradient of the mean loss; None where it is not finite."""
        norm = math.sqrt(square) / valid if square >= 0 else math.nan
        if math.isfinite(norm):
            scale = 1.0 / valid
            if self._clip and norm > self._clip:
                scale *= self._clip / norm
            torch._foreach_mul_(self._gradients(), scale)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm if math.isfinite(norm) else None

    def _gradients(self) -> list[Tensor]:
        return list(_local(p.grad for p in self._parameters if p.grad is not None))


def _groups(lm: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Matrices, which are decayed; norms, biases and embeddings (so also a tied head), which are not."""
    embedding = lm.get_input_embeddings().weight  # type: ignore[operator]
    decayed = [p for p in lm.parameters() if p.dim() > 1 and p is not embedding]
    return decayed, [p for p in lm.parameters() if p.dim() <= 1 or p is embedding]


def _local(tensors: Iterable[Tensor]) -> Iterable[Tensor]:
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors)
