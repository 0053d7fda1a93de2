"""The duration sweep: target and retention against the tokens of one trunk, and which durations may be the best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cpt_api.result import DurationChoice
from cpt_api.trial import Question
from cpt_api.values import Digest
from cpt_trainer.report.drawing import LIGHT, draw
from cpt_trainer.report.findings import Findings, Metric
from cpt_trainer.report.panels import bars, draw_base, name_metric
from cpt_trainer.report.section import Cell, Figure, Section, Table, amount, at_most, bounds

Choices = Sequence[tuple[str, DurationChoice]]
"""The last answer for each dataset, by its name."""


def section(findings: Findings) -> Section | None:
    """None where no durations were compared."""
    answers = findings.of(Question.DURATION)
    if not answers:
        return None
    last: dict[Digest, DurationChoice] = {}
    for answer in answers:
        last |= {choice.dataset: choice for choice in answer.decision.durations or ()}
    choices = sorted(((findings.label(data), choice) for data, choice in last.items()), key=lambda pair: pair[0])
    return Section(
        name="durations",
        title="How long",
        words=tuple(_words(answers[-1].decision.sentence)),
        figures=tuple(_figure(findings, name, choice) for name, choice in choices),
        tables=(_chosen(choices), _arms(findings, choices)),
    )


def _words(sentence: str) -> Iterator[str]:
    yield (
        "The durations of a dataset share a trunk, and their intervals hold for that trunk. A filled point may be the "
        "best: that cannot be excluded at 95 % for all durations together. The shortest of them that is close to the "
        "best is chosen."
    )
    yield sentence


# --- tables -----------------------------------------------------------------------------------------------------------


def _chosen(choices: Choices) -> Table:
    return Table(
        name="durations",
        title="What was chosen",
        columns=("dataset", "verdict", "learning_rate", "tokens", "gain", "gain_low", "gain_high", "retention_lost",
                 "retention_lost_at_most"),
        rows=tuple(_choice(name, choice) for name, choice in choices),
        is_open=True,
    )  # fmt: skip


def _choice(name: str, choice: DurationChoice) -> tuple[Cell, ...]:
    return (
        name,
        choice.verdict,
        str(choice.learning_rate),
        int(choice.chosen) if choice.chosen is not None else None,
        *bounds(choice.gain),
        *at_most(choice.retention_loss),
    )


def _arms(findings: Findings, choices: Choices) -> Table:
    return Table(
        name="duration-arms",
        title=f"Every duration, {findings.scores}",
        columns=("dataset", "tokens", "outcome", "target", "target_low", "target_high", "retention", "behind_best",
                 "behind_low", "behind_high", "may_be_best"),
        rows=tuple(
            (
                name,
                int(arm.tokens),
                arm.outcome,
                arm.target,
                *(arm.target_interval or (None, None)),
                arm.retention,
                *bounds(arm.behind_best),
                "yes" if arm.acceptable else "no",
            )
            for name, choice in choices
            for arm in choice.arms
        ),
    )  # fmt: skip


# --- the figure -------------------------------------------------------------------------------------------------------


def _figure(findings: Findings, name: str, choice: DurationChoice) -> Figure:
    metrics = [findings.target, *([findings.retention] if findings.retention else [])]

    def paint(figure: Any) -> None:
        panels = figure.subplots(1, len(metrics), squeeze=False)[0]
        for panel, metric in zip(panels, metrics, strict=True):
            _panel(panel, metric, choice)

    chosen = f"{amount(choice.chosen)} tokens are chosen" if choice.chosen is not None else "all of them diverged"
    return Figure(
        name=f"durations-{name}",
        title=f"{name} at {choice.learning_rate}",
        caption=choice.reason,
        alt=f"{' and '.join(metric.name for metric in metrics)} of {name} at {len(choice.arms)} durations; {chosen}",
        drawing=draw(paint, 1.0 + 3.6 * len(metrics), 3.2),
    )


def _panel(panel: Any, metric: Metric, choice: DurationChoice) -> None:
    panel.set_xscale("log")
    draw_base(panel, metric)
    points = [(arm, value) for arm in choice.arms if (value := getattr(arm, metric.name)) is not None]
    tokens, values = [int(arm.tokens) for arm, _ in points], [value for _, value in points]
    intervals = [getattr(arm, f"{metric.name}_interval", None) or (value, value) for arm, value in points]
    if points:
        panel.errorbar(tokens, values, yerr=bars(values, intervals), color=LIGHT["series-2"], capsize=3, linewidth=1.2)
    for (arm, value), at in zip(points, tokens, strict=True):
        face = LIGHT["series-3"] if arm.acceptable else LIGHT["paper"]
        panel.plot([at], [value], marker="o", markersize=6, color=LIGHT["series-3"], markerfacecolor=face, zorder=5)
    if choice.chosen is not None:
        panel.axvspan(choice.chosen / 1.12, choice.chosen * 1.12, color=LIGHT["accent"], alpha=0.14, linewidth=0)
    ends = [int(arm.tokens) for arm in choice.arms]
    panel.set_xlim(min(ends) / 1.5, max(ends) * 1.5)
    panel.set_xticks(ends, [amount(end) for end in ends])
    panel.set_xticks([], minor=True)
    name_metric(panel, metric)
    panel.set_xlabel("tokens (the chosen duration is marked)" if choice.chosen is not None else "tokens")
