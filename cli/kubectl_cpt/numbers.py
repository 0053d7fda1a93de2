"""Numbers for people: exact while they are short, four digits when they are long.

>>> amount(1_441_792), amount(376_500_000_000), span(5, 5), span(40, 52)
('1,441,792', '376.5B', '5', '40 to 52')
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

N = TypeVar("N", int, float)
_EXACT_BELOW = 100_000_000
_SUFFIXES = (("T", 10**12), ("B", 10**9), ("M", 10**6))


def amount(count: float) -> str:
    """A count of tokens, trials or parameters."""
    if abs(count) < _EXACT_BELOW:
        return f"{count:,.0f}"
    suffix, multiple = next(entry for entry in _SUFFIXES if abs(count) >= entry[1])
    return f"{count / multiple:.4g}{suffix}"


def span(least: N, most: N, show: Callable[[N], str] = amount) -> str:
    """One number, or two when they look different."""
    low, high = show(least), show(most)
    return low if low == high else f"{low} to {high}"


def flops(count: float) -> str:
    """In powers of ten."""
    return f"{count:.3g}"


def money(value: float) -> str:
    """In the currency of the given price, which is not ours to know."""
    return f"{value:,.2f}" if value < 1000 else f"{value:,.0f}"


def hours(value: float) -> str:
    """GPU-hours."""
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Such as `45 s`, `12 min` and `3 h 05 min`."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: int) -> str:
    """Of bytes, in powers of a thousand, as stores bill them."""
    for suffix, multiple in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= multiple:
            return f"{count / multiple:.1f} {suffix}"
    return f"{count} B"


def percent(part: float, whole: float) -> str:
    """Of a whole."""
    return f"{100 * part / whole:.0f} %"
