"""What training costs: floating-point operations, GPU-hours, money.

    7B parameters, 1.5B tokens        6 · 7e9 · 1.5e9 = 6.3e19 FLOPs
    at 9,000 tokens/s per GPU         1.5e9 / 9,000 / 3,600 = 46.3 GPU-hours
    or 989 TFLOP/s, of which 40 %     989e12 · 0.4 / (6 · 7e9) = 9,419 tokens/s per GPU, 44.2 GPU-hours
    at 2.50 per GPU-hour              115.74 or 110.59

6ND is a convention for budgets: attention, evaluation and start-up are not in it. What the user did not tell is
unknown, and unknown is never zero.
"""

from __future__ import annotations

from dataclasses import dataclass

CONVENTION = "6ND"
_FLOPS_PER_PARAMETER = 6
"""Of a trained token: forward and backward."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What the user knows about model and machine."""

    parameters: int | None = None
    tokens_per_second_per_gpu: float | None = None
    """As measured."""
    per_gpu_hour: float | None = None
    gpu_teraflops: float | None = None
    """Of the data sheet; with `mfu` and `parameters` instead of a measured rate."""
    mfu: float | None = None
    """Which part of that training reaches."""

    @property
    def rate(self) -> float | None:
        """Tokens per second and GPU: as measured, or as assumed."""
        if self.tokens_per_second_per_gpu is not None:
            return self.tokens_per_second_per_gpu
        if self.parameters is None or self.gpu_teraflops is None or self.mfu is None:
            return None
        return self.gpu_teraflops * 1e12 * self.mfu / (_FLOPS_PER_PARAMETER * self.parameters)


@dataclass(frozen=True, slots=True)
class Bill:
    """Of so many trained tokens; None where a price is missing."""

    tokens: int
    flops: float | None
    gpu_hours: float | None
    cost: float | None

    @classmethod
    def of(cls, tokens: int, prices: Prices) -> Bill:
        """By the rules above."""
        gpu_hours = tokens / prices.rate / 3600 if prices.rate else None
        return cls(
            tokens=tokens,
            flops=float(_FLOPS_PER_PARAMETER * prices.parameters * tokens) if prices.parameters else None,
            gpu_hours=gpu_hours,
            cost=gpu_hours * prices.per_gpu_hour if gpu_hours is not None and prices.per_gpu_hour is not None else None,
        )
