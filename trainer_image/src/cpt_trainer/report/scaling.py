"""The scaling: target against all compute that a model took, from each base to what the recipe made of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cpt_api.result import Decision, Equivalent, Scaled
from cpt_api.trial import Question
from cpt_trainer.report.drawing import LIGHT, draw
from cpt_trainer.report.findings import Findings
from cpt_trainer.report.panels import bars, name_metric
from cpt_trainer.report.section import Cell, Figure, Section, Table, at_most, bounds

Models = Sequence[tuple[str, Scaled]]
"""The last answer for each model, by its name."""


def section(findings: Findings) -> Section | None:
    """None where nothing was repeated on other models."""
    answers = findings.of(Question.SCALING)
    if not answers:
        return None
    decision = answers[-1].decision
    found = [(findings.label(one.baseline), one) for one in decision.scaled or ()]
    models = sorted(found, key=lambda pair: (pair[1].pretraining_flops or 0, pair[0]))
    drawn = [(name, one) for name, one in models if one.pretraining_flops]
    return Section(
        name="scaling",
        title="What it is worth on other models",
        words=tuple(_words(decision)),
        figures=(_figure(findings, drawn),) if drawn else (),
        tables=(_before_and_after(findings, models), _compute(models)),
    )


def _words(decision: Decision) -> Iterator[str]:
    yield (
        "What was chosen on the experiment's base is repeated on further bases: two rates to the first rung, the "
        "better one to the end. Each reads the same texts with its own tokenizer, so bits per byte are compared, "
        "document by document. The compute-equivalent gain says with how much more compute the bases alone come as far."
    )
    yield decision.sentence


# --- tables -----------------------------------------------------------------------------------------------------------


def _before_and_after(findings: Findings, models: Models) -> Table:
    return Table(
        name="scaling",
        title=f"Before and after, {findings.scores}",
        columns=("model", "outcome", "base", "base_low", "base_high", "target", "target_low", "target_high", "gain",
                 "gain_low", "gain_high", "retention_lost", "retention_lost_at_most"),
        rows=tuple(
            (
                name,
                one.outcome,
                one.base_target,
                *one.base_interval,
                one.target,
                *(one.target_interval or (None, None)),
                *bounds(one.gain),
                *at_most(one.retention_loss),
            )
            for name, one in models
        ),
        is_open=True,
    )  # fmt: skip


def _compute(models: Models) -> Table:
    return Table(
        name="scaling-compute",
        title="What that is worth; 6 x parameters x tokens",
        columns=("model", "parameters", "pretraining_flops", "learning_rate", "tokens", "total_flops",
                 "equivalent", "equivalent_low", "equivalent_high", "line_from", "line_to"),
        rows=tuple(
            (
                name,
                one.parameters,
                one.pretraining_flops,
                str(one.learning_rate) if one.learning_rate is not None else None,
                int(one.tokens) if one.tokens is not None else None,
                one.total_flops,
                *_equivalent(one.equivalent),
            )
            for name, one in models
        ),
        is_open=True,
    )  # fmt: skip


def _equivalent(found: Equivalent | None) -> tuple[Cell, ...]:
    if found is None:
        return (None,) * 5
    return (_beyond(found) or found.value, found.lower, found.upper, found.smallest, found.largest)


def _beyond(found: Equivalent) -> str:
    """Where the line does not reach; empty where it does."""
    ends = {"Beyond": f"> {found.largest:.3g}", "Below": f"< {found.smallest:.3g}"}
    return ends.get(found.place, "")


# --- the figure -------------------------------------------------------------------------------------------------------


def _figure(findings: Findings, models: Models) -> Figure:
    trained = [(name, one) for name, one in models if one.target is not None]

    def paint(figure: Any) -> None:
        panel = figure.subplots()
        panel.set_xscale("log")
        _draw_line(panel, models)
        for name, one in models:
            _draw_model(panel, name, one)
        name_metric(panel, findings.target)
        panel.set_ylabel(f"{findings.target.unit.scores} (lower is better)")
        panel.set_xlabel("operations in all: 6 x parameters x tokens")
        panel.margins(x=0.15, y=0.15)

    worth = "; ".join(f"{name}: {_short(one.equivalent)}" for name, one in trained if one.equivalent)
    return Figure(
        name="scaling",
        title="Target against compute",
        caption=" ".join(f"{name}: {one.reason}" for name, one in trained),
        alt=f"target of {len(models)} bases and {len(trained)} trained models over their compute; {worth or 'no gain'}",
        drawing=draw(paint, 6.4, 4.0),
    )


def _short(found: Equivalent) -> str:
    return f"{_beyond(found) or f'{found.value:.3g}'} times the compute"


def _draw_line(panel: Any, models: Models) -> None:
    """Of the bases, with their intervals."""
    flops, values = [one.pretraining_flops for _, one in models], [one.base_target for _, one in models]
    spans = bars(values, [one.base_interval for _, one in models])
    panel.errorbar(
        flops, values, yerr=spans, color=LIGHT["muted"], marker="o", markersize=5, capsize=3, linewidth=1.2,
        linestyle="--", label="the bases",
    )  # fmt: skip


def _draw_model(panel: Any, name: str, one: Scaled) -> None:
    """Its name, and an arrow to what the recipe made of it."""
    panel.annotate(
        name, (one.pretraining_flops, one.base_target), xytext=(5, 6), textcoords="offset points", fontsize=8,
        color=LIGHT["ink"],
    )  # fmt: skip
    if one.target is None or one.total_flops is None:
        return
    before, after = (one.pretraining_flops, one.base_target), (one.total_flops, one.target)
    panel.annotate("", after, xytext=before, arrowprops={"arrowstyle": "->", "color": LIGHT["accent"], "shrinkB": 4})
    spans = bars([one.target], [one.target_interval or (one.target, one.target)])
    panel.errorbar(*([at] for at in after), yerr=spans, color=LIGHT["accent"], marker="o", markersize=6, capsize=3)
