"""The demo's answer for people: a table per dataset, and the bill.

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
    """Datasets by the digest of their Prepare trial."""
    base: Mapping[str, HeldOutScore]
    """The base's scores: `target` and `retention`."""

    def last_choice(self, dataset: Digest) -> RateChoice:
        """The newest answer for a dataset."""
        return next(choice for rung in reversed(self.rungs) if (choice := rung.choice(dataset)))


def show(answer: Answer, console: Console) -> None:
    """One table per dataset, then what it cost."""
    base_line = ", ".join(f"{kind} {score.bits_per_byte:.3f}" for kind, score in answer.base.items())
    console.print(f"\nbits per byte, lower is better; the base has {base_line}")
    for dataset, name in sorted(answer.names.items(), key=lambda item: item[1]):
        table = Table(title=name, title_justify="left", title_style="bold")
        for heading in ("tokens", "learning rate", "target [95 %]", "retention [95 %]", ""):
            table.add_column(heading, justify="left" if not heading else "right")
        for rung in answer.rungs:
            for arm in choice.arms if (choice := rung.choice(dataset)) else ():
                table.add_row(
                    str(rung.tokens), str(arm.learning_rate), *_scores(arm), _mark(arm, rung, answer, dataset)
                )
        console.print(table)
        console.print(f"  {answer.last_choice(dataset).reason}\n")
    ledger = answer.status.ledger
    console.print(
        f"tokens: {ledger.tokens_trained:,d} trained, {ledger.tokens_reused:,d} reused; "
        f"the same points as separate runs, without control and replicates: {ledger.tokens_naive:,d}"
    )


def _scores(arm: RateArm) -> tuple[str, str]:
    if arm.outcome == "Diverged":
        return "diverged", ""
    return _score(arm.target, arm.target_interval), _score(arm.retention, arm.retention_interval)


def _score(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def _mark(arm: RateArm, rung: Rung, answer: Answer, dataset: Digest) -> str:
    if rung is answer.rungs[-1] and arm.learning_rate == answer.last_choice(dataset).chosen:
        return "chosen"
    return "dropped" if arm.dropped else ""
