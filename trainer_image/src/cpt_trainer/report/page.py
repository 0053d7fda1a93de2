"""Sections to one HTML file. It asks for nothing from outside, and tells the browser to allow nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cpt_trainer.report.drawing import DARK, LIGHT, inline
from cpt_trainer.report.findings import Findings
from cpt_trainer.report.section import Cell, Figure, Section


def page(findings: Findings, sections: Sequence[Section]) -> bytes:
    """Names and sentences come from users: all but our own drawings is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": _cell, "drawing": _drawing}
    environment.tests["number"] = _is_number
    metrics = [metric for metric in (findings.target, findings.retention) if metric]
    has_suites = any(metric.is_suite for metric in metrics)
    scores = findings.scores if has_suites else "bits per byte of held-out text"
    text = environment.get_template("page.html").render(
        findings=findings, sections=sections, metrics=metrics, scores=scores, light=LIGHT, dark=DARK
    )
    return text.encode()


def _drawing(figure: Figure) -> Markup:
    return Markup(inline(figure.drawing.svg, figure.name))  # noqa: S704  matplotlib has escaped what is written in it


def _cell(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.4f}"
    return f"{cell:,d}" if isinstance(cell, int) else cell


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, int | float)
