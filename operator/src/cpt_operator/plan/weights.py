"""Weights of a mix: exact parts of one, by the digest of what was prepared.

    proportional({python: 8B, perl: 40B})              1/6, 5/6
    capped(…, {python: 1/10, perl: 2})                 1/10, 9/10     python would be repeated too often
    rounded(…)                                         0.1000, 0.9000: what a manifest can hold, and a digest names

Nobody can tell a mix from one that differs in the fifth digit, so weights have four: they stay the same when a count of
tokens changes a little, and people can read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction

from cpt_api.values import Digest

Weights = Mapping[Digest, Fraction]
"""Above zero; their sum is one."""

UNITS = 10_000
"""A rounded weight is a whole number of these parts."""


def uniform(names: Iterable[Digest]) -> Weights:
    """All alike."""
    return proportional(dict.fromkeys(names, 1))


def proportional(amounts: Mapping[Digest, int | Fraction]) -> Weights:
    """To amounts above zero."""
    total = sum(map(Fraction, amounts.values()))
    return {name: Fraction(amounts[name]) / total for name in sorted(amounts)}


def capped(weights: Weights, caps: Weights) -> Weights:
    """None above its cap; what that frees goes to the others, in their proportions.

    Where the caps together leave no place for all, each has its part of them: all are repeated alike.
    """
    if sum(caps.values()) <= 1:
        return proportional(caps)
    fixed: dict[Digest, Fraction] = {}
    free = dict(weights)
    while over := [name for name, weight in free.items() if weight > caps[name]]:
        fixed |= {name: caps[name] for name in over}
        rest = proportional({name: weights[name] for name in weights if name not in fixed})
        free = {name: part * (1 - sum(fixed.values())) for name, part in rest.items()}
    return {name: fixed[name] if name in fixed else free[name] for name in sorted(weights)}


def rounded(weights: Weights, caps: Weights | None = None) -> Weights:
    """To whole units, of which everyone has at least one; what rounding down leaves goes to the largest remainders.

    Not to those at their cap, unless all are.
    """
    exact = {name: weights[name] * UNITS for name in sorted(weights)}
    units = {name: max(1, int(share)) for name, share in exact.items()}
    at_cap = {name for name in exact if caps and weights[name] >= caps[name]}
    able = [name for name in exact if name not in at_cap] or list(exact)
    able.sort(key=lambda name: (int(exact[name]) - exact[name], name))
    left = UNITS - sum(units.values())
    for number in range(left):
        units[able[number % len(able)]] += 1
    for _ in range(-left):  # more than one unit were given to the very smallest
        units[max(units, key=lambda name: (units[name], name))] -= 1
    return {name: Fraction(count, UNITS) for name, count in units.items()}
