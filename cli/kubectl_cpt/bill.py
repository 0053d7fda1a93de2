"""What training and evaluation cost: floating-point operations, GPU-hours, money.

    7B parameters, 1.5B tokens        6 · 7e9 · 1.5e9 = 6.3e19 FLOPs
    at 9,000 tokens/s per GPU         1.5e9 / 9,000 / 3,600 = 46.3 GPU-hours
    or 989 TFLOP/s, of which 40 %     989e12 · 0.4 / (6 · 7e9) = 9,419 tokens/s per GPU, 44.2 GPU-hours
    at 2.50 per GPU-hour              115.74 or 110.59

    0.5B of it on a base of 13B       1B + 0.5B · 13/7 = 1.93B tokens of the 7B model: 59.5 GPU-hours
    10 evaluations that read 60M      10 · 60M / 3 = 0.2B tokens more: reading is a third of training, 2ND

6ND is a convention for budgets: attention and start-up are not in it. What the user did not tell is unknown, and
unknown is never zero. How many tokens a model reads to be scored hangs on suites and tokenizer: the result of an
Evaluate trial says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

CONVENTION = "6ND"
_FLOPS_PER_PARAMETER = 6
"""Of a trained token: forward and backward."""
_TRAINED_PER_READ = 1 / 3
"""Of a token that is only read: forward."""


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
    further: Mapping[str, int] = field(default_factory=dict)
    """Parameters of further bases, by name."""
    tokens_per_evaluation: int | None = None
    """That a model reads when it is asked all suites that decide."""

    @property
    def rate(self) -> float | None:
        """Tokens per second and GPU: as measured, or as assumed."""
        if self.tokens_per_second_per_gpu is not None:
            return self.tokens_per_second_per_gpu
        if self.parameters is None or self.gpu_teraflops is None or self.mfu is None:
            return None
        return self.gpu_teraflops * 1e12 * self.mfu / (_FLOPS_PER_PARAMETER * self.parameters)

    def on_the_base(self, tokens: int, further: Mapping[str, int]) -> float | None:
        """What these cost, in tokens of the base; `further` of them go through other bases, by name."""
        if not any(further.values()):
            return float(tokens)
        if self.parameters is None or any(name not in self.further for name in further):
            return None
        elsewhere = sum(count * self.further[name] for name, count in further.items())
        return tokens - sum(further.values()) + elsewhere / self.parameters


@dataclass(frozen=True, slots=True)
class Bill:
    """Of so many trained tokens, and of scores; None where a price is missing."""

    tokens: int
    flops: float | None
    gpu_hours: float | None
    cost: float | None
    evaluation: float | None = None
    """The part of all of it that scores on suites take."""

    @classmethod
    def of(
        cls,
        tokens: int,
        prices: Prices,
        further: Mapping[str, int] = MappingProxyType({}),
        scored: Mapping[str, int] = MappingProxyType({}),
    ) -> Bill:
        """By the rules above; `further` of the tokens are trained on other bases, by name.

        `scored`: models on suites by the same names, those of the base by an empty one. Without
        `tokens_per_evaluation` they are left out.
        """
        trained = prices.on_the_base(tokens, further)
        each = prices.tokens_per_evaluation or 0
        read = prices.on_the_base(
            each * sum(scored.values()), {name: each * count for name, count in scored.items() if name}
        )
        worth = trained + _TRAINED_PER_READ * read if trained is not None and read is not None else None
        gpu_hours = worth / prices.rate / 3600 if worth is not None and prices.rate else None
        return cls(
            tokens=tokens,
            flops=_FLOPS_PER_PARAMETER * prices.parameters * worth if worth is not None and prices.parameters else None,
            gpu_hours=gpu_hours,
            cost=gpu_hours * prices.per_gpu_hour if gpu_hours is not None and prices.per_gpu_hour is not None else None,
            evaluation=_TRAINED_PER_READ * read / worth if worth and read else None,
        )
