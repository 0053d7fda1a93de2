"""The bill: from what the study's protocol would have trained to what was trained here, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cpt_api.trial import Bill
from cpt_trainer.report.drawing import LIGHT, draw
from cpt_trainer.report.findings import Findings
from cpt_trainer.report.section import Figure, Section, Table, amount


@dataclass(frozen=True, slots=True)
class _Step:
    """One bar."""

    label: str
    tokens: int
    """Added; fewer than zero are saved."""
    is_total: bool = False
    """It stands on the ground."""


def section(findings: Findings) -> Section | None:
    """None where the trial brings no bill."""
    bill = findings.bill
    if bill is None:
        return None
    steps = _steps(bill)
    sentence = _sentence(bill, steps[-1].tokens)
    return Section(
        name="ledger",
        title="What it cost",
        words=(" ".join(_words(bill, sentence)),),
        figures=(_figure(steps, sentence),),
        tables=(Table("ledger", "Step by step", ("step", "tokens"), tuple((s.label, s.tokens) for s in steps)),),
    )


def _sentence(bill: Bill, trained: int) -> str:
    if not bill.naive_tokens:
        return f"{amount(trained)} tokens were trained"
    percent = f"{100 * trained / bill.naive_tokens:.0f} %"
    return (
        f"{amount(trained)} tokens were trained: {percent} of the {amount(bill.naive_tokens)} that separate runs take"
    )


def _words(bill: Bill, sentence: str) -> Iterator[str]:
    yield f"{sentence}."
    if bill.gpu_seconds:
        yield f"The attempts that committed took {bill.gpu_seconds:,d} GPU-seconds."
    if bill.training_gigaflops:
        yield f"Training took {bill.training_gigaflops * 1e9:.3g} floating-point operations{_evaluation(bill)}."
    yield "Only committed results are counted; the experiment's status also counts attempts that were lost."


def _evaluation(bill: Bill) -> str:
    """Its share of all operations."""
    if not bill.evaluation_gigaflops:
        return ""
    share = bill.evaluation_gigaflops / (bill.training_gigaflops + bill.evaluation_gigaflops)
    return f"; evaluation another {bill.evaluation_gigaflops * 1e9:.3g}, {100 * share:.2g} % of all"


def _steps(bill: Bill) -> tuple[_Step, ...]:
    """They add up to the last."""
    points = bill.separate_tokens - bill.naive_tokens
    return (
        _Step("separate runs, as in the study", int(bill.naive_tokens), is_total=True),
        _Step("points that were left out" if points <= 0 else "points that were added", points),
        _Step("trunks that points share", bill.arm_tokens - bill.separate_tokens),
        _Step("control and replicates", int(bill.control_tokens)),
        _Step("trained before by equal trials", -bill.reused_tokens),
        _Step("trained here", bill.arm_tokens + bill.control_tokens - bill.reused_tokens, is_total=True),
    )


def _figure(steps: Sequence[_Step], sentence: str) -> Figure:
    def paint(figure: Any) -> None:
        panel = figure.subplots()
        level = 0
        for row, step in enumerate(steps):
            start = 0 if step.is_total else level
            level = start + step.tokens
            colour = LIGHT["series-2"] if step.is_total else LIGHT["less" if step.tokens < 0 else "more"]
            panel.barh(row, step.tokens, left=start, color=colour, height=0.6)
            sign = "" if step.is_total else "+" if step.tokens >= 0 else "−"
            panel.annotate(f"{sign}{amount(abs(step.tokens))}", (max(start, level), row), xytext=(4, 0),
                           textcoords="offset points", va="center")  # fmt: skip
            if row + 1 < len(steps):
                panel.plot([level, level], [row, row + 1], color=LIGHT["muted"], linewidth=0.6)
        panel.set_yticks(range(len(steps)), [step.label for step in steps])
        panel.invert_yaxis()
        panel.margins(x=0.12)
        panel.set_xlim(left=0)
        panel.xaxis.set_major_formatter(lambda tokens, _: amount(tokens))
        panel.grid(axis="y", visible=False)
        panel.grid(axis="x", visible=True)
        panel.set_xlabel("tokens")

    return Figure(
        name="ledger",
        title="From separate runs to this experiment",
        caption="Separate runs: every point of every sweep trained by itself to its end, without a control. A rate "
        "that was dropped early leaves a shorter point; a rung at which rates were compared adds one.",
        alt=f"A waterfall of {len(steps)} bars: {sentence}",
        drawing=draw(paint, 8.2, 2.8),
    )
