"""Token counts of a recipe: whole batches, and the rungs where nobody gave some."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from cpt_api.conditions import Reason
from cpt_api.values import Tokens
from cpt_operator.plan.types import Finding

_FIRST_RUNG = Tokens.parse("1B")
"""At most."""


class InvalidRecipeError(ValueError):
    """The manifest cannot be carried out as written; the message says what to change."""

    @property
    def finding(self) -> Finding:
        """As the experiment's condition shows it."""
        return Finding(Reason.INVALID, str(self))


def whole_batches(lengths: Iterable[Tokens], batch_tokens: int) -> tuple[Tokens, ...]:
    """Rising; lengths that are the same number of batches are one."""
    batches = {max(1, round(Fraction(length) / batch_tokens)) for length in lengths}
    return tuple(Tokens(count * batch_tokens) for count in sorted(batches))


def first_rung(durations: Iterable[Tokens]) -> Tokens:
    """1B, or half of the shortest duration where that is less."""
    return min((_FIRST_RUNG, *(Tokens(duration // 2) for duration in durations)))
