"""Suites that decided nothing: the base and what the recipe ended with, number by number."""

from __future__ import annotations

from cpt_trainer.report.findings import Findings, Model
from cpt_trainer.report.section import Section, Table


def section(findings: Findings) -> Section | None:
    """None where nothing else was scored."""
    if not findings.also:
        return None
    rows = tuple(
        (
            _name(findings, model),
            str(model.learning_rate) if model.learning_rate is not None else None,
            int(model.tokens) if model.tokens is not None else None,
            str(model.weight) if model.weight is not None else None,
            score.suite,
            group.group,
            "bits per byte" if group.measure == "BitsPerByte" else "points",
            group.value if group.measure == "BitsPerByte" else 100 * group.value,
            group.standard_error if group.measure == "BitsPerByte" else 100 * group.standard_error,
        )
        for model in findings.also
        for score in model.suites
        for group in score.groups
    )
    columns = ("model", "rate", "tokens", "weight", "suite", "number", "unit", "score", "standard_error")
    return Section(
        name="also",
        title="Further suites",
        words=(
            "Scored at the end, for whoever wants to see: nothing was decided by these numbers. Standard errors say "
            "what other questions of the same kind would show of the same model. cpt-trainer compare takes the tables "
            "of two models, and pairs them question by question.",
        ),
        tables=(Table("also", "Scores on suites that decided nothing", columns, rows, is_open=True),),
    )


def _name(findings: Findings, model: Model) -> str:
    return findings.label(model.dataset) if model.dataset else "the base"
