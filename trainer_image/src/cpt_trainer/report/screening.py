"""Screening: which datasets help more than replay data alone, and what each does to every text.

Two figures: the effects with their bounds, one row for each dataset, and the matrix of datasets and texts. In both,
what is right of zero is better.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cpt_api.result import Cell as Effect
from cpt_api.result import Judgement, Screened
from cpt_api.trial import Question
from cpt_trainer.report.drawing import LIGHT, draw
from cpt_trainer.report.findings import Findings
from cpt_trainer.report.panels import name_metric
from cpt_trainer.report.section import Figure, Section, Table, at_most, bounds

_COLOURS = {"Helps": "less", "Hurts": "more"}
_ROW_INCHES = 0.34


@dataclass(frozen=True, slots=True)
class _Row:
    """One dataset."""

    name: str
    answer: Screened


def section(findings: Findings) -> Section | None:
    """None where nothing was screened."""
    answers = findings.of(Question.SCREENING)
    if not answers:
        return None
    decisions = [answer.decision for answer in answers]
    rows = [_Row(findings.label(one.dataset), one) for decision in decisions for one in decision.screened or ()]
    rows.sort(key=lambda row: row.name)
    texts = [findings.label(text) for text in decisions[0].texts or ()]
    sentences = dict.fromkeys(decision.sentence for decision in decisions)
    return Section(
        name="screening",
        title="Which datasets help",
        words=tuple(_words(rows, list(sentences))),
        figures=(_effects(findings, rows), *([_matrix(rows, texts)] if any(row.answer.cells for row in rows) else [])),
        tables=tuple(
            table
            for table in (_verdicts(rows), _retention(rows), _arms(rows), _matrix_table(rows, texts))
            if table.rows
        ),
    )


def _words(rows: Sequence[_Row], sentences: Sequence[str]) -> Iterator[str]:
    yield (
        "Each dataset is held against replay data alone, trained for as many tokens at the same rate: the one where it "
        "does best. The bounds allow for that choice and for the number of datasets. More bits saved are better."
    )
    yield from sentences
    yield from (f"{row.name}: {row.answer.reason}" for row in rows)


# --- tables -----------------------------------------------------------------------------------------------------------


def _verdicts(rows: Sequence[_Row]) -> Table:
    return Table(
        name="verdicts",
        title="On the target",
        columns=("dataset", "verdict", "learning_rate", "tokens", "effect", "effect_low", "effect_high", "p_helps",
                 "detectable"),
        rows=tuple(
            (
                row.name,
                row.answer.target.verdict.value,
                str(row.answer.learning_rate) if row.answer.learning_rate is not None else None,
                int(row.answer.tokens) if row.answer.tokens is not None else None,
                *bounds(row.answer.target.effect),
                row.answer.target.p_helps,
                row.answer.target.detectable,
            )
            for row in rows
        ),
        is_open=True,
    )  # fmt: skip


def _retention(rows: Sequence[_Row]) -> Table:
    return Table(
        name="retention",
        title="On the retention; and what these very models forgot of the base",
        columns=("dataset", "verdict", "effect", "effect_low", "effect_high", "forgotten", "forgotten_at_most"),
        rows=tuple(
            (
                row.name,
                row.answer.retention.verdict.value,
                *bounds(row.answer.retention.effect),
                *at_most(row.answer.forgotten),
            )
            for row in rows
            if row.answer.retention
        ),
        is_open=True,
    )


def _arms(rows: Sequence[_Row]) -> Table:
    return Table(
        name="screened-arms",
        title="Every rate against the control",
        columns=("dataset", "learning_rate", "tokens", "outcome", "gain", "gain_low", "gain_high"),
        rows=tuple(
            (row.name, str(arm.learning_rate), int(arm.tokens), arm.outcome, *bounds(arm.gain))
            for row in rows
            for arm in row.answer.arms
        ),
    )


def _matrix_table(rows: Sequence[_Row], texts: Sequence[str]) -> Table:
    return Table(
        name="matrix",
        title="Every dataset on every text",
        columns=("dataset", "text", "effect", "low", "high", "stands_out"),
        rows=tuple(
            (row.name, text, cell.effect, *(cell.interval or (None, None)), "yes" if cell.marked else "no")
            for row in rows
            for text, cell in zip(texts, row.answer.cells, strict=False)
        ),
    )


# --- figures ----------------------------------------------------------------------------------------------------------


def _effects(findings: Findings, rows: Sequence[_Row]) -> Figure:
    has_retention = any(row.answer.retention for row in rows)
    metrics = [findings.target, *([findings.retention] if findings.retention and has_retention else [])]

    def paint(figure: Any) -> None:
        panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for panel, metric in zip(panels, metrics, strict=True):
            panel.axvline(0, color=LIGHT["muted"], linewidth=1)
            for number, row in enumerate(rows):
                judgement = row.answer.target if metric is findings.target else row.answer.retention
                if judgement:
                    _judgement(panel, number, judgement)
            name_metric(panel, metric)
            panel.set_xlabel(f"{metric.unit.name} {metric.unit.gained} against the control")
            panel.margins(x=0.25)
            panel.grid(axis="y", visible=False)
            panel.grid(axis="x", visible=True)
        half = findings.target.threshold
        panels[0].axvspan(-half, half, color=LIGHT["muted"], alpha=0.12, linewidth=0)
        panels[0].set_yticks(range(len(rows)), [row.name for row in rows])
        panels[0].set_ylim(len(rows) - 0.4, -0.6)

    helping = [row.name for row in rows if row.answer.target.verdict.value == "Helps"]
    return Figure(
        name="screening",
        title="Effects, with their one-sided 95 % bounds",
        caption="What lies in the grey band is too small to matter (minimumEffect).",
        alt=f"Effects of {len(rows)} datasets on {' and '.join(metric.name for metric in metrics)}, with bounds; "
        f"helpful: {', '.join(helping) or 'none'}",
        drawing=draw(paint, 2.0 + 3.4 * len(metrics), 1.2 + _ROW_INCHES * len(rows)),
    )


def _judgement(panel: Any, number: int, judgement: Judgement) -> None:
    effect, verdict = judgement.effect, judgement.verdict.value
    colour = LIGHT[_COLOURS.get(verdict, "muted")]
    if effect is None:
        panel.annotate(verdict, (0, number), xytext=(5, 0), textcoords="offset points", va="center", color=colour)
        return
    low = effect.value if effect.lower is None else effect.lower
    high = effect.value if effect.upper is None else effect.upper
    bars = [[max(0.0, effect.value - low)], [max(0.0, high - effect.value)]]
    panel.errorbar([effect.value], [number], xerr=bars, color=colour, marker="o", markersize=5, capsize=3)
    panel.annotate(verdict, (max(high, effect.value), number), xytext=(5, 0), textcoords="offset points", va="center",
                   fontsize=8, color=colour)  # fmt: skip


def _matrix(rows: Sequence[_Row], texts: Sequence[str]) -> Figure:
    largest = max((abs(cell.effect) for row in rows for cell in row.answer.cells), default=0.0) or 1.0

    def paint(figure: Any) -> None:
        panel = figure.subplots()
        for number, row in enumerate(rows):
            for column, cell in enumerate(row.answer.cells):
                _cell(panel, column, number, cell, largest)
        panel.set_xticks(
            range(len(texts)), texts, rotation=0 if len(texts) < 5 else 40, ha="center" if len(texts) < 5 else "right"
        )
        panel.set_yticks(range(len(rows)), [row.name for row in rows])
        panel.set_xlim(-0.5, len(texts) - 0.5)
        panel.set_ylim(len(rows) - 0.5, -0.5)
        panel.grid(visible=False)

    return Figure(
        name="matrix",
        title="What each dataset does to each text",
        caption="Bits per byte saved against the control at the rate that was judged; ● stands out of all cells "
        "(Benjamini and Hochberg at 5 %). No verdicts.",
        alt=f"A matrix of {len(rows)} datasets and {len(texts)} texts",
        drawing=draw(paint, min(16.0, 2.0 + 1.3 * len(texts)), 1.0 + _ROW_INCHES * len(rows)),
    )


def _cell(panel: Any, column: int, number: int, cell: Effect, largest: float) -> None:
    colour = LIGHT["less" if cell.effect > 0 else "more"]
    strength = min(1.0, abs(cell.effect) / largest)
    panel.fill_between([column - 0.48, column + 0.48], number - 0.46, number + 0.46, color=colour, linewidth=0,
                       alpha=0.08 + 0.42 * strength)  # fmt: skip
    panel.annotate(
        f"{cell.effect:+.3f}{' ●' if cell.marked else ''}", (column, number), ha="center", va="center", fontsize=8
    )
