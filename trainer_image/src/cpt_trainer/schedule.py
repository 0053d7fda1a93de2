"""The learning rate as a pure function of tokens: there is no scheduler that could be in another state than the run.

    peak 1e-3, warm-up 10,000 tokens, cooldown 80,000..100,000:

    1e-3        ________________________
               /                        \\
    0    _____/                          \\_______     a step has the rate at the middle of its tokens, so neither
         0   10k                     80k  100k         its first nor its last step is one at rate zero

A whole-run cosine or line (for parity with published runs) is a cooldown that begins where the warm-up ends.
"""

from __future__ import annotations

import math
from fractions import Fraction

from cpt_api.trial import Cooldown, CooldownShape, Schedule


def learning_rate(schedule: Schedule, first: int, end: int) -> float:
    """The rate of a step that reads the run's tokens first..end."""
    middle = Fraction(first + end, 2)
    factor = _warm(schedule.warmup_tokens, middle)
    if schedule.cooldown is not None:
        factor *= _cool(schedule.cooldown, middle)
    return float(schedule.peak_learning_rate) * factor


def _warm(warmup_tokens: int, middle: Fraction) -> float:
    return float(middle / warmup_tokens) if middle < warmup_tokens else 1.0


def _cool(cooldown: Cooldown, middle: Fraction) -> float:
    begin, end = cooldown.start_tokens, cooldown.end_tokens
    if middle >= end:
        return 0.0
    x = float(max(Fraction(0), (middle - begin) / (end - begin)))
    match cooldown.shape:
        case CooldownShape.ONE_MINUS_SQRT:
            return 1.0 - math.sqrt(x)
        case CooldownShape.LINEAR:
            return 1.0 - x
        case CooldownShape.COSINE:
            return 0.5 * (1.0 + math.cos(math.pi * x))
