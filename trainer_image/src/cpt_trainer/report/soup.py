"""The soup: what each mean of the base and a trained model gains and forgets, the front, and what is released."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from cpt_api.result import SoupArm, SoupChoice
from cpt_api.trial import Question
from cpt_trainer.report.drawing import LIGHT, draw
from cpt_trainer.report.findings import Findings
from cpt_trainer.report.panels import bars
from cpt_trainer.report.section import Cell, Figure, Section, Table, amount, at_most, bounds

_LABELLED = 24
"""Points whose weight still fits beside them."""


def section(findings: Findings) -> Section | None:
    """None where the recipe has no soup."""
    answers = findings.of(Question.SOUP)
    choice = answers[-1].decision.soup if answers else None
    if choice is None:
        return None
    return Section(
        name="soup",
        title="What is released",
        words=tuple(_words(findings, choice, answers[-1].decision.sentence)),
        figures=(_figure(findings, choice),),
        tables=(_released(findings, choice), _arms(findings, choice)),
    )


def _words(findings: Findings, choice: SoupChoice, sentence: str) -> Iterator[str]:
    held = (
        "Retention holds where the upper bound of what was lost, for all of them together, is at most the margin. "
        if findings.retention
        else "No retention was asked for. "
    )
    yield (
        "A mean of the base and a trained model often keeps most of the gain and forgets less. Each was scored without "
        f"being written. {held}Half of the documents picked the best target of those, the others had to confirm it."
    )
    yield sentence
    yield choice.reason


# --- tables -----------------------------------------------------------------------------------------------------------


def _released(findings: Findings, choice: SoupChoice) -> Table:
    """The pick; its gain is that of the documents which did not pick it."""
    picked = _picked(choice)
    row: tuple[Cell, ...] = (choice.verdict, *((None,) * 9))
    if picked:
        row = (
            choice.verdict,
            str(picked.weight),
            findings.label(picked.dataset),
            str(picked.learning_rate),
            int(picked.tokens),
            *bounds(choice.gain),
            *at_most(picked.lost),
        )
    return Table(
        name="soup",
        title="What was picked; gain on the documents that did not pick it",
        columns=("verdict", "weight", "dataset", "learning_rate", "tokens", "gain", "gain_low", "gain_high",
                 "retention_lost", "retention_lost_at_most"),
        rows=(row,),
        is_open=True,
    )  # fmt: skip


def _arms(findings: Findings, choice: SoupChoice) -> Table:
    return Table(
        name="soup-arms",
        title=f"Every mean, {findings.scores}",
        columns=("dataset", "learning_rate", "tokens", "weight", "target", "gain", "gain_low", "gain_high", "retention",
                 "retention_lost", "retention_lost_at_most", "retention_holds", "front"),
        rows=tuple(
            (
                findings.label(arm.dataset),
                str(arm.learning_rate),
                int(arm.tokens),
                str(arm.weight),
                arm.target,
                *bounds(arm.gain),
                arm.retention,
                *at_most(arm.lost),
                "yes" if arm.holds else "no",
                "yes" if arm.front else "no",
            )
            for arm in choice.arms
        ),
    )  # fmt: skip


def _picked(choice: SoupChoice) -> SoupArm | None:
    return next((arm for arm in choice.arms if arm.trial == choice.picked), None)


# --- the figure -------------------------------------------------------------------------------------------------------


def _figure(findings: Findings, choice: SoupChoice) -> Figure:
    """Without retention every mean lies on the axis of what was not asked for."""
    picked = _picked(choice)
    what = f"{picked.weight} of {findings.label(picked.dataset)}" if picked else "nothing"
    metrics = "gain on the target" + (" and loss of the retention" if findings.retention else "")
    return Figure(
        name="soup",
        title="Gain and loss against the base",
        caption=(
            "Each line is a trained model, its points are means with the base, which lies at the origin. Better is up "
            "and left. A filled point is on the front: no other is better in one and as good in the other. Bars are "
            "95 % intervals of the gain, and of the loss the one-sided 95 % bound for all points together."
        ),
        alt=f"{metrics} of {len(choice.arms)} means of the base and trained models; picked: {what}",
        drawing=draw(lambda figure: _paint(figure.subplots(), findings, choice, picked), 6.4, 4.4),
    )


def _paint(panel: Any, findings: Findings, choice: SoupChoice, picked: SoupArm | None) -> None:
    panel.axhline(0, color=LIGHT["line"], linewidth=0.8)
    panel.plot([0], [0], marker="s", color=LIGHT["muted"], markersize=6, linestyle="none")
    panel.annotate("the base", (0, 0), xytext=(5, -11), textcoords="offset points", fontsize=7, color=LIGHT["muted"])
    if findings.retention:
        margin = findings.retention.threshold
        panel.axvline(margin, color=LIGHT["more"], linewidth=1, linestyle=":")
        panel.annotate(
            "margin", (margin, 0.01), xycoords=("data", "axes fraction"), xytext=(3, 0), textcoords="offset points",
            fontsize=7, color=LIGHT["more"],
        )  # fmt: skip
    for (data, rate, tokens), group in groupby(choice.arms, lambda arm: (arm.dataset, arm.learning_rate, arm.tokens)):
        _line(panel, list(group), f"{findings.label(data)} {rate}, {amount(tokens)}", few=len(choice.arms) <= _LABELLED)
    if picked:
        face = {"markerfacecolor": "none", "markeredgecolor": LIGHT["accent"], "markeredgewidth": 2}
        panel.plot([_lost(picked)], [picked.gain.value], marker="o", markersize=13, linestyle="none", **face)
    lost = findings.retention and f"{findings.retention.unit.name} of the retention lost"
    panel.set_xlabel(lost or "no retention was asked for")
    panel.set_ylabel(f"{findings.target.unit.name} of the target {findings.target.unit.gained}")


def _line(panel: Any, arms: Sequence[SoupArm], name: str, *, few: bool) -> None:
    """One trained model, from the base to itself."""
    losses, gains = [_lost(arm) for arm in arms], [arm.gain.value for arm in arms]
    panel.plot([0, *losses], [0, *gains], color=LIGHT["series-1"], linewidth=1, zorder=2)
    panel.errorbar(
        losses,
        gains,
        xerr=bars(losses, [(loss, _bound(arm)) for loss, arm in zip(losses, arms, strict=True)]),
        yerr=bars(gains, [_interval(arm) for arm in arms]),
        linestyle="none", color=LIGHT["series-2"], elinewidth=0.8, capsize=2, zorder=3,
    )  # fmt: skip
    for arm, loss in zip(arms, losses, strict=True):
        face = LIGHT["series-3"] if arm.front else LIGHT["paper"]
        panel.plot([loss], [arm.gain.value], marker="o", markersize=5, color=LIGHT["series-3"], markerfacecolor=face,
                   zorder=5)  # fmt: skip
        if few:
            panel.annotate(
                str(arm.weight), (loss, arm.gain.value), xytext=(4, 4), textcoords="offset points", fontsize=6.5,
                color=LIGHT["ink"],
            )  # fmt: skip
    panel.annotate(
        name, (losses[-1], gains[-1]), xytext=(8, -9), textcoords="offset points", fontsize=7, color=LIGHT["series-3"]
    )


def _lost(arm: SoupArm) -> float:
    return arm.lost.value if arm.lost else 0.0


def _bound(arm: SoupArm) -> float:
    return arm.lost.upper if arm.lost and arm.lost.upper is not None else _lost(arm)


def _interval(arm: SoupArm) -> tuple[float, float]:
    value, lower, upper = arm.gain.value, arm.gain.lower, arm.gain.upper
    return (value if lower is None else lower, value if upper is None else upper)
