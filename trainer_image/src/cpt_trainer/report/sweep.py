"""The learning-rate sweep: for each dataset, target and retention against the rate, with intervals, rung by rung.

Points of one rung are a little beside those of another at the same rate, so that bars do not cover each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cpt_api.result import Decision, RateArm, RateChoice
from cpt_api.trial import Question
from cpt_api.values import Digest, LearningRate, Tokens
from cpt_trainer.report.drawing import LIGHT, draw, series
from cpt_trainer.report.findings import Findings, Metric
from cpt_trainer.report.panels import bars, draw_base, name_metric
from cpt_trainer.report.section import Cell, Figure, Section, Table, at_most, at_tokens, bounds

_MARKERS = "osD^v"
_LABELS_MAX = 8
"""Rates that are written below an axis."""


@dataclass(frozen=True, slots=True)
class _Rung:
    """What was decided about one dataset at one rung."""

    tokens: Tokens | None
    choice: RateChoice


@dataclass(frozen=True, slots=True)
class _Race:
    """Of one dataset, from rung to rung."""

    name: str
    rungs: tuple[_Rung, ...]

    @property
    def last(self) -> RateChoice:
        """What counts."""
        return self.rungs[-1].choice

    @property
    def rates(self) -> list[LearningRate]:
        """Of all rungs, rising."""
        return sorted({arm.learning_rate for rung in self.rungs for arm in rung.choice.arms})


def section(findings: Findings) -> Section | None:
    """None where no sweep was decided."""
    answers = findings.of(Question.LEARNING_RATE)
    if not answers:
        return None
    races = _races(findings)
    last = [answer.decision for answer in answers if answer.tokens == answers[-1].tokens]
    return Section(
        name="learning-rate",
        title="Which learning rate",
        words=tuple(_words(last)),
        figures=tuple(_figure(findings, race) for race in races),
        tables=(_choices(races), _arms(findings, races)),
    )


def _races(findings: Findings) -> list[_Race]:
    """By name. A rung that was asked about again, since a grid was widened, has its last answer."""
    rungs: dict[Digest, dict[Tokens | None, RateChoice]] = {}
    for answer in findings.of(Question.LEARNING_RATE):
        for choice in answer.decision.rates:
            rungs.setdefault(choice.dataset, {})[answer.tokens] = choice
    races = [
        _Race(findings.label(data), tuple(_Rung(tokens, choice) for tokens, choice in found.items()))
        for data, found in rungs.items()
    ]
    return sorted(races, key=lambda race: race.name)


def _words(decisions: Sequence[Decision]) -> Iterator[str]:
    yield (
        "Every rate was trained to a rung and cooled down; rates that were clearly behind were not trained on. The "
        "lowest rate that cannot be told from the best is chosen, since a lower rate forgets less. Bars are "
        "95 % intervals over the texts; a hollow point was dropped at its rung, ✕ is a run that diverged."
    )
    yield from dict.fromkeys(decision.sentence for decision in decisions)


# --- tables -----------------------------------------------------------------------------------------------------------


def _choices(races: Sequence[_Race]) -> Table:
    return Table(
        name="learning-rates",
        title="What was chosen",
        columns=("dataset", "verdict", "learning_rate", "gain", "gain_low", "gain_high", "retention_lost",
                 "retention_lost_at_most"),
        rows=tuple(_choice(race.name, race.last) for race in races),
        is_open=True,
    )  # fmt: skip


def _choice(name: str, choice: RateChoice) -> tuple[Cell, ...]:
    return (
        name,
        choice.verdict,
        str(choice.chosen) if choice.chosen is not None else "every rate diverged",
        *bounds(choice.gain),
        *at_most(choice.retention_loss),
    )


def _arms(findings: Findings, races: Sequence[_Race]) -> Table:
    return Table(
        name="arms",
        title=f"Every trained point, {findings.scores}",
        columns=("dataset", "tokens", "learning_rate", "outcome", "target", "target_low", "target_high", "retention",
                 "retention_low", "retention_high", "behind_best", "behind_low", "behind_high", "fate"),
        rows=tuple(
            _arm(race, rung, arm)
            for race in races
            for rung in race.rungs
            for arm in rung.choice.arms
        ),
    )  # fmt: skip


def _arm(race: _Race, rung: _Rung, arm: RateArm) -> tuple[Cell, ...]:
    return (
        race.name,
        int(rung.tokens) if rung.tokens is not None else None,
        str(arm.learning_rate),
        arm.outcome,
        arm.target,
        *(arm.target_interval or (None, None)),
        arm.retention,
        *(arm.retention_interval or (None, None)),
        *bounds(arm.behind_best),
        _fate(race, rung, arm),
    )


def _fate(race: _Race, rung: _Rung, arm: RateArm) -> str | None:
    if rung.choice is race.last and arm.learning_rate == race.last.chosen:
        return "chosen"
    return "dropped" if arm.dropped else None


# --- the figure -------------------------------------------------------------------------------------------------------


def _figure(findings: Findings, race: _Race) -> Figure:
    metrics = [findings.target, *([findings.retention] if findings.retention else [])]

    def paint(figure: Any) -> None:
        panels = figure.subplots(1, len(metrics), squeeze=False)[0]
        for panel, metric in zip(panels, metrics, strict=True):
            _panel(panel, metric, race)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=min(5, len(labels)))

    chosen = f"{race.last.chosen} is chosen" if race.last.chosen is not None else "every rate diverged"
    return Figure(
        name=f"learning-rate-{race.name}",
        title=race.name,
        caption=race.last.reason,
        alt=f"{' and '.join(metric.name for metric in metrics)} of {race.name} at {len(race.rates)} learning rates, "
        f"with 95 % intervals; {chosen}",
        drawing=draw(paint, 1.0 + 3.6 * len(metrics), 3.4),
    )


def _panel(panel: Any, metric: Metric, race: _Race) -> None:
    panel.set_xscale("log")
    draw_base(panel, metric)
    for number, (rung, colour) in enumerate(zip(race.rungs, series(len(race.rungs)), strict=True)):
        aside = 1.05 ** (number - (len(race.rungs) - 1) / 2)
        _line(panel, metric, rung, colour, _MARKERS[number % len(_MARKERS)], aside)
    if race.last.chosen is not None:
        panel.axvspan(float(race.last.chosen) / 1.15, float(race.last.chosen) * 1.15, color=LIGHT["accent"], alpha=0.14,
                      linewidth=0, label=f"chosen: {race.last.chosen}")  # fmt: skip
    panel.set_xlim(float(race.rates[0]) / 1.5, float(race.rates[-1]) * 1.5)
    step = -(-len(race.rates) // _LABELS_MAX)
    panel.set_xticks([float(rate) for rate in race.rates[::step]], [str(rate) for rate in race.rates[::step]])
    panel.set_xticks([], minor=True)
    name_metric(panel, metric)
    panel.set_xlabel("learning rate")


def _line(panel: Any, metric: Metric, rung: _Rung, colour: str, marker: str, aside: float) -> None:
    points = [
        (
            float(arm.learning_rate) * aside,
            value,
            getattr(arm, f"{metric.name}_interval") or (value, value),
            arm.dropped,
        )
        for arm in rung.choice.arms
        if (value := getattr(arm, metric.name)) is not None
    ]
    if points:
        rates, values, intervals, dropped = zip(*points, strict=True)
        panel.errorbar(rates, values, yerr=bars(values, intervals), color=colour, marker=marker, markersize=5,
                       capsize=3, linewidth=1.2, label=at_tokens(rung.tokens))  # fmt: skip
        out = [(rate, value) for rate, value, gone in zip(rates, values, dropped, strict=True) if gone]
        if out:
            panel.plot(*zip(*out, strict=True), linestyle="", marker=marker, markersize=5, color=colour,
                       markerfacecolor=LIGHT["paper"], zorder=5)  # fmt: skip
    for arm in rung.choice.arms:
        if arm.outcome == "Diverged":
            panel.annotate("✕", (float(arm.learning_rate) * aside, 1), xycoords=("data", "axes fraction"), ha="center",
                           va="top", color=colour)  # fmt: skip
