"""A part of the page: words, figures, and the tables with the very numbers that the figures show."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from cpt_api.result import Estimate
from cpt_api.values import Tokens
from cpt_trainer.report.drawing import Drawing

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Table:
    """One CSV file, and one table of the page."""

    name: str
    """Of the file."""
    title: str
    columns: tuple[str, ...]
    """As in the file; the page has spaces for underscores."""
    rows: tuple[tuple[Cell, ...], ...]
    is_open: bool = False
    """Whether the page shows it at once."""

    def csv(self) -> bytes:
        """RFC 4180, but for line ends of one character; numbers in full."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(["" if cell is None else cell for cell in row] for row in self.rows)
        return text.getvalue().encode()


@dataclass(frozen=True, slots=True)
class Figure:
    """One drawing with its words."""

    name: str
    """Of the files."""
    title: str
    caption: str
    alt: str
    """What it shows, for those who do not see it."""
    drawing: Drawing


@dataclass(frozen=True, slots=True)
class Section:
    """What the page says about one question."""

    name: str
    """For links."""
    title: str
    words: tuple[str, ...]
    """Paragraphs."""
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()


def bounds(estimate: Estimate | None) -> tuple[float | None, float | None, float | None]:
    """Its value and interval, as cells."""
    return (estimate.value, estimate.lower, estimate.upper) if estimate else (None, None, None)


def at_most(estimate: Estimate | None) -> tuple[float | None, float | None]:
    """Its value and upper bound, as cells."""
    return (estimate.value, estimate.upper) if estimate else (None, None)


def amount(tokens: float) -> str:
    """Three digits: '1.36M'. For people; tables hold the count."""
    for size, suffix in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")):
        if abs(tokens) >= size:
            return f"{tokens / size:.3g}{suffix}"
    return f"{tokens:.0f}"


def at_tokens(tokens: Tokens | None) -> str:
    """Such as '131k tokens'."""
    return f"{amount(tokens)} tokens" if tokens is not None else "the end"
