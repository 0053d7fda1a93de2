"""Drawings as SVG and PNG: matplotlib with everything fixed that could differ between machines or runs.

Ids come from a fixed salt, no date or version is written, the user's own settings are left out, and the font is the one
that matplotlib brings. Colours have names: the page shows the same SVG in light and dark by giving them other values.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1f2329",
    "muted": "#667079",
    "line": "#d5dade",
    "accent": "#0b6b3a",
    "less": "#0f7d87",
    "more": "#b4540a",
    "series-1": "#86a8d9",
    "series-2": "#3f74be",
    "series-3": "#123f80",
}
"""By name; series go from the first rung to the last, so that they are told apart in grey, too."""
DARK = {
    "paper": "#15181c",
    "ink": "#e8eaed",
    "muted": "#9aa4ad",
    "line": "#363c43",
    "accent": "#55c98a",
    "less": "#4fc3cf",
    "more": "#f0a35e",
    "series-1": "#4d6a94",
    "series-2": "#7fa8e0",
    "series-3": "#cfe0fb",
}
"""The same names on dark paper."""
_STYLE: Any = {
    "svg.hashsalt": "cpt",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "figure.facecolor": LIGHT["paper"],
    "axes.facecolor": LIGHT["paper"],
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["ink"],
    "axes.titlecolor": LIGHT["ink"],
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.6,
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.labelcolor": LIGHT["ink"],
    "ytick.labelcolor": LIGHT["ink"],
    "text.color": LIGHT["ink"],
    "legend.frameon": False,
    "savefig.dpi": 160,
}
_NOTHING = {"Date": None, "Creator": None, "Format": None, "Type": None}


@dataclass(frozen=True, slots=True)
class Drawing:
    """Both forms of one drawing."""

    svg: bytes
    png: bytes


def draw(paint: Callable[[Any], None], width_inches: float, height_inches: float) -> Drawing:
    """`paint` is given an empty matplotlib figure."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
        paint(figure)
        return Drawing(_saved(figure, "svg", _NOTHING), _saved(figure, "png", {"Software": None}))


def inline(svg: bytes, name: str) -> str:
    """For the page: ids that no other drawing there has, and colours by name."""
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(
        r'<svg [^>]*?(width="[^"]*") [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 \2 aria-hidden="true">', text, count=1
    )
    text = re.sub(r'(\bid="|"#|url\(#)', rf"\g<1>{name}-", text)
    for colour, value in LIGHT.items():
        text = text.replace(value, f"var(--{colour})")
    return text


def series(count: int) -> list[str]:
    """Colours of that many rungs, the last one the strongest."""
    steps = [LIGHT["series-1"], LIGHT["series-2"], LIGHT["series-3"]]
    return [steps[max(0, len(steps) - count + number)] for number in range(count)]


def _saved(figure: Any, form: str, metadata: dict[str, None]) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format=form, metadata=metadata)
    return data.getvalue()
