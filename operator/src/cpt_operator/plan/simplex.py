"""Which mixtures of m datasets to look at, in thousandths: 3(m+1) of them that show how a loss depends on the weights.

    3 datasets    each alone     1000 0 0      0 1000 0     0 0 1000
                  neighbours     500 500 0     0 500 500    500 0 500
                  all alike      334 333 333
                  the rest       anywhere between, evenly spread:  414 318 268, …

The rest are Richtmyer's sequence (multiples of square roots of primes, modulo one) cut into gaps, which spreads points
evenly over a simplex. All of it is integers: the weights are part of digests, and every machine must find the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import isqrt

UNITS = 1000
Mixture = tuple[int, ...]
"""Thousandths; they sum to 1000."""
_SCALE = 1 << 64


def mixtures(datasets: int, also: Sequence[Mixture] = ()) -> tuple[Mixture, ...]:
    """Different ones; those in `also` among them."""
    alone = [_even(datasets, {number}) for number in range(datasets)]
    neighbours = [_even(datasets, {number, (number + 1) % datasets}) for number in range(datasets)]
    chosen = dict.fromkeys([*alone, _even(datasets, set(range(datasets))), *also, *neighbours])
    count = max(3 * (datasets + 1), len(chosen))
    for mixture in _spread(datasets):
        if len(chosen) == count:
            break
        chosen[mixture] = None
    return tuple(chosen)


def thousandths(weights: Sequence[Fraction]) -> Mixture:
    """The nearest mixture: what rounding down leaves over goes to those that lost most, of equals to the first."""
    total = sum(weights)
    exact = [weight * UNITS / total for weight in weights]
    units = [int(each) for each in exact]
    losers = sorted(range(len(exact)), key=lambda number: (units[number] - exact[number], number))
    for number in losers[: UNITS - sum(units)]:
        units[number] += 1
    return tuple(units)


def _even(datasets: int, among: set[int]) -> Mixture:
    return thousandths([Fraction(number in among) for number in range(datasets)])


def _spread(datasets: int) -> Iterator[Mixture]:
    """Without end."""
    steps = [isqrt(prime * _SCALE**2) % _SCALE for prime in itertools.islice(_primes(), datasets - 1)]
    for number in itertools.count(1):
        cuts = sorted(number * step % _SCALE for step in steps)
        gaps = [Fraction(after - before, _SCALE) for before, after in itertools.pairwise([0, *cuts, _SCALE])]
        yield thousandths(gaps)


def _primes() -> Iterator[int]:
    return (number for number in itertools.count(2) if all(number % factor for factor in range(2, isqrt(number) + 1)))
