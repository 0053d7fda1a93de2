"""Mixes: the proposal and the simple ones that it was held against, what each is made of and how it scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cpt_api.result import MixArm, MixChoice
from cpt_api.trial import Question
from cpt_api.values import Digest
from cpt_trainer.report.drawing import LIGHT, draw
from cpt_trainer.report.findings import Findings
from cpt_trainer.report.panels import bars, name_metric
from cpt_trainer.report.section import Cell, Figure, Section, Table, amount, bounds

_SHADES = ("series-2", "less", "more", "series-1", "accent", "series-3", "muted")
"""Of datasets, again from the beginning where there are more."""
_WORDS = {"Kept": "the proposal is kept", "Replaced": "the proposal is replaced", "Undecided": "undecided"}


def section(findings: Findings) -> Section | None:
    """None where no mixes were compared."""
    answers = findings.of(Question.MIX)
    choice = answers[-1].decision.mix if answers else None
    if choice is None:
        return None
    return Section(
        name="mixes",
        title="Which mix",
        words=tuple(_words(answers[-1].decision.sentence)),
        figures=(_figure(findings, choice),),
        tables=(_arms(findings, choice), _parts(findings, choice)),
    )


def _words(sentence: str) -> Iterator[str]:
    yield (
        "The proposed mix was trained beside simple ones, all at one learning rate to the same tokens. It is kept "
        "unless one of them is better beyond what the best of so many would be by chance (one-sided 95 % for all of "
        "them together)."
    )
    yield sentence


def _ordered(choice: MixChoice) -> list[MixArm]:
    """The proposal first, then the best."""
    worst = float("inf")
    return sorted(
        choice.arms,
        key=lambda arm: (arm.mix != choice.proposal, worst if arm.target is None else arm.target, arm.mix),
    )


def _role(choice: MixChoice, arm: MixArm) -> str:
    parts = ["proposal" if arm.mix == choice.proposal else "control", *(["taken"] if arm.mix == choice.chosen else [])]
    return ", ".join(parts)


# --- tables -----------------------------------------------------------------------------------------------------------


def _arms(findings: Findings, choice: MixChoice) -> Table:
    return Table(
        name="mixes",
        title=f"The mixes, {findings.scores}",
        columns=("mix", "role", "outcome", "target", "target_low", "target_high", "retention", "saves_against_proposal",
                 "saves_low", "saves_high"),
        rows=tuple(
            (
                findings.label(arm.mix),
                _role(choice, arm),
                arm.outcome,
                arm.target,
                *(arm.target_interval or (None, None)),
                arm.retention,
                *bounds(arm.ahead),
            )
            for arm in _ordered(choice)
        ),
        is_open=True,
    )  # fmt: skip


def _parts(findings: Findings, choice: MixChoice) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (findings.label(arm.mix), findings.label(part.dataset), float(part.weight))
        for arm in _ordered(choice)
        for part in sorted(arm.parts, key=lambda part: findings.label(part.dataset))
    ]
    return Table(name="mix-parts", title="What they read", columns=("mix", "dataset", "weight"), rows=tuple(rows))


# --- the figure -------------------------------------------------------------------------------------------------------


def _figure(findings: Findings, choice: MixChoice) -> Figure:
    arms = _ordered(choice)
    data = sorted({part.dataset for arm in arms for part in arm.parts}, key=findings.label)

    def paint(figure: Any) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        _composition(left, findings, arms, data)
        _scores(right, findings, choice, arms)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=min(6, len(labels)))

    return Figure(
        name="mixes",
        title=f"{len(arms)} mixes at {choice.learning_rate}, {amount(choice.tokens)} tokens",
        caption=choice.reason,
        alt=f"Weights and target of {len(arms)} mixes of {len(data)} datasets; {_WORDS[choice.verdict]}, "
        f"{findings.label(choice.chosen)} is taken",
        drawing=draw(paint, 8.2, 1.6 + 0.42 * len(arms)),
    )


def _composition(panel: Any, findings: Findings, arms: Sequence[MixArm], data: Sequence[Digest]) -> None:
    """One bar per mix, whose pieces are its datasets."""
    for number, dataset in enumerate(data):
        colour = LIGHT[_SHADES[number % len(_SHADES)]]
        for row, arm in enumerate(arms):
            pieces = {part.dataset: float(part.weight) for part in arm.parts}
            before = sum(pieces.get(other, 0.0) for other in data[:number])
            width = pieces.get(dataset, 0.0)
            panel.barh(row, width, left=before, color=colour, height=0.6, edgecolor=LIGHT["paper"],
                       label=findings.label(dataset) if row == 0 else None)  # fmt: skip
    panel.set_yticks(range(len(arms)), [findings.label(arm.mix) for arm in arms])
    panel.invert_yaxis()
    panel.grid(visible=False)
    panel.set_xlim(0, 1)
    panel.set_title("what it reads")
    panel.set_xlabel("weight")


def _scores(panel: Any, findings: Findings, choice: MixChoice, arms: Sequence[MixArm]) -> None:
    """Target with its interval; the one that is taken is filled."""
    for row, arm in enumerate(arms):
        if arm.target is None:
            panel.annotate("✕ diverged", (0.02, row), xycoords=("axes fraction", "data"), va="center",
                           color=LIGHT["more"])  # fmt: skip
            continue
        face = LIGHT["series-3"] if arm.mix == choice.chosen else LIGHT["paper"]
        spread = bars([arm.target], [arm.target_interval or (arm.target, arm.target)])
        panel.errorbar([arm.target], [row], xerr=spread, color=LIGHT["series-3"], marker="o", markersize=6, capsize=3,
                       markerfacecolor=face, linestyle="")  # fmt: skip
    panel.axvline(findings.target.base, color=LIGHT["muted"], linewidth=1, linestyle="--")
    panel.grid(axis="y", visible=False)
    panel.grid(axis="x", visible=True)
    panel.tick_params(axis="y", labelleft=False)
    name_metric(panel, findings.target)
    panel.set_xlabel(f"{findings.target.unit.scores}, 95 % (lower is better; dashed: the base)")
