"""What training costs: floating-point operations, GPU-hours, money.

    7B parameters, 1.5B tokens        6 · 7e9 · 1.5e9 = 6.3e19 FLOPs
    at 9,000 tokens/s per GPU         1.5e9 / 9,000 / 3,600 = 46.3 GPU-hours
    at 2.50 per GPU-hour              115.74

6ND is a convention for budgets: attention, evaluation and start-up are not in it. What the user did not tell is
unknown, and unknown is never zero.
"""

from __future__ import annotations

from dataclasses import dataclass

CONVENTION = "6ND"


@dataclass(frozen=True, slots=True)
class Prices:
    """What the user knows about model and machine."""

    parameters: int | None = None
    tokens_per_second_per_gpu: float | None = None
    per_gpu_hour: float | None = None


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
        gpu_hours = tokens / prices.tokens_per_second_per_gpu / 3600 if prices.tokens_per_second_per_gpu else None
        return cls(
            tokens=tokens,
            flops=6.0 * prices.parameters * tokens if prices.parameters else None,
            gpu_hours=gpu_hours,
            cost=gpu_hours * prices.per_gpu_hour if gpu_hours is not None and prices.per_gpu_hour is not None else None,
        )
