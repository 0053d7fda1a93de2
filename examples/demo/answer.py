"""The demo's answer for people: a table of rates per dataset and for the mix, what each stage found, and the bill.

Reads nothing but the experiment's status and the decision documents that the store holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from cpt_api.experiment import CPTExperimentStatus
from cpt_api.result import Decision, HeldOutScore, RateArm, RateChoice
from cpt_api.values import Digest, Tokens


@dataclass(frozen=True, slots=True)
class Rung:
    """One decision of the sweep."""

    tokens: Tokens
    decision: Decision

    def choice(self, dataset: Digest) -> RateChoice | None:
        """The answer for one dataset, unless it was out of the race by then."""
        return next((choice for choice in self.decision.rates if choice.dataset == dataset), None)


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything the tables show."""

    status: CPTExperimentStatus
    rungs: Sequence[Rung]
    """Rising."""
    names: Mapping[Digest, str]
    """Of what was swept: datasets by the digest of their Prepare trial, and the mix."""
    base: Mapping[str, HeldOutScore]
    """The base's scores: `target` and `retention`."""

    def choices(self, swept: Digest) -> Sequence[tuple[Tokens, RateChoice]]:
        """The answers about it with their tokens, the newest last."""
        return [(rung.tokens, choice) for rung in self.rungs if (choice := rung.choice(swept))]


TABLES_ONLY = ("preflight", "learningRateSweep", "report")
"""Stages that the tables and the last line speak of."""


def show(answer: Answer, console: Console) -> None:
    """A table for each thing that was swept, what the later stages found, then what it cost."""
    base_line = ", ".join(f"{kind} {score.bits_per_byte:.3f}" for kind, score in answer.base.items())
    console.print(f"\nbits per byte, lower is better; the base has {base_line}")
    for swept, name in sorted(answer.names.items(), key=lambda item: item[1]):
        _show_rates(name, answer.choices(swept), console)
    for stage in answer.status.stages:
        if stage.name not in TABLES_ONLY:
            console.print(f"[bold]{stage.name}[/bold]\n  {stage.reason or stage.state}\n")
    ledger = answer.status.ledger
    console.print(
        f"tokens: {ledger.tokens_trained:,d} trained, {ledger.tokens_reused:,d} reused; "
        f"the same points as separate runs, without control and replicates: {ledger.tokens_naive:,d}"
    )


def _show_rates(name: str, choices: Sequence[tuple[Tokens, RateChoice]], console: Console) -> None:
    table = Table(title=name, title_justify="left", title_style="bold")
    for heading in ("tokens", "learning rate", "target [95 %]", "retention [95 %]", ""):
        table.add_column(heading, justify="left" if not heading else "right")
    last = choices[-1][1]
    for tokens, choice in choices:
        for arm in choice.arms:
            is_chosen = choice is last and arm.learning_rate == last.chosen
            mark = "chosen" if is_chosen else "dropped" if arm.dropped else ""
            table.add_row(str(tokens), str(arm.learning_rate), *_scores(arm), mark)
    console.print(table)
    console.print(f"  {last.reason}\n")


def _scores(arm: RateArm) -> tuple[str, str]:
    if arm.outcome == "Diverged":
        return "diverged", ""
    return _score(arm.target, arm.target_interval), _score(arm.retention, arm.retention_interval)


def _score(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")
