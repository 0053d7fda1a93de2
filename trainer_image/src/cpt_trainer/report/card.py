"""The model card: what somebody must know who is handed the model that an experiment ended with, as Markdown.

    ---
    base_model: "s3://models/llama-2-7b"       what hubs read; licences are for people to fill in, never guessed
    license: unknown
    ---
    # study: python at 3e-4
    lineage, data with verdicts, scores beside the base's, other models, how it was decided, what it cost

Only written where there is such a model. Sentences hold what users wrote: all that Markdown or HTML would act on is
escaped.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator, Sequence

from cpt_api.result import Screened
from cpt_api.trial import Question, ReportedModel
from cpt_trainer.report.findings import Findings, Metric
from cpt_trainer.report.section import amount

CARD = "model-card.md"
_UNKNOWN = "unknown"
_ACTIVE = re.compile(r"([\\`*_\[\]|#])")
"""What Markdown would act on."""


def card(findings: Findings) -> bytes | None:
    """None where no model is better than the base."""
    best = findings.best
    if best is None:
        return None
    parts = [
        _front(findings, best),
        [f"# {_plain(findings.title)}: {_trained_on(best)} at {best.learning_rate}"],
        ["## Lineage", "", *_lineage(findings, best)],
        ["## Data", "", *_data(findings, best)],
        ["## Scores", "", *_scores(findings, best)],
        *_elsewhere(findings),
        ["## How it was decided", "", *_sentences(findings)],
        ["## What it cost", "", *_cost(findings)],
        ["## Licences and uses", "", *_licences(findings, best)],
    ]
    return ("\n\n".join("\n".join(part) for part in parts) + "\n").encode()


def _elsewhere(findings: Findings) -> Iterator[list[str]]:
    """What the recipe is worth on further bases; nothing without a scaling."""
    for answer in findings.of(Question.SCALING)[-1:]:
        models = sorted((findings.label(one.baseline), one.reason) for one in answer.decision.scaled or ())
        words = "The chosen run on the base, and the same on others; a mean with the base is not repeated."
        lines = (f"- **{_plain(name)}**: {_plain(reason)}" for name, reason in models)
        yield ["## The same recipe on other models", "", words, "", *lines]


def _sentences(findings: Findings) -> Iterable[str]:
    """Of the decisions; several say no more than how large the run noise is."""
    return dict.fromkeys(f"- {_plain(answer.decision.sentence)}" for answer in findings.answers)


def _front(findings: Findings, best: ReportedModel) -> list[str]:
    """YAML; JSON's strings are YAML's."""
    return [
        "---",
        f"base_model: {json.dumps(findings.base or _UNKNOWN)}",
        f"datasets: [{json.dumps(_trained_on(best))}]",
        f"license: {_UNKNOWN}",
        "tags: [continued-pretraining]",
        "---",
    ]


def _lineage(findings: Findings, best: ReportedModel) -> Iterator[str]:
    yield from _table(
        ("what", "which"),
        [
            ("base", _plain(findings.base or _UNKNOWN)),
            ("trial of the base's scores", f"`{findings.baseline}`"),
            ("trial of this model", f"`{best.trial}`"),
            ("learning rate", str(best.learning_rate)),
            ("tokens, replay and cooldown included", f"{best.tokens:,d}"),
            ("report", f"`{findings.trial}`"),
        ],
    )
    yield ""
    yield "A trial's digest names its whole recipe: data, order, schedule, optimizer, and the trials it continues."


def _data(findings: Findings, best: ReportedModel) -> Iterator[str]:
    """Verdicts where there are any."""
    screened = {
        one.dataset: one for answer in findings.of(Question.SCREENING) for one in answer.decision.screened or ()
    }
    yield f"Trained on **{_trained_on(best)}**, with the replay data of the experiment if it names any."
    if not screened:
        return
    yield ""
    unit = findings.target.unit
    rows = [
        (findings.label(dataset), f"`{dataset.short}`", str(one.target.verdict), _effect(one))
        for dataset, one in sorted(screened.items(), key=lambda item: findings.label(item[0]))
    ]
    yield from _table(("candidate", "prepared as", "verdict", f"{unit.name} {unit.gained} against the control"), rows)


def _trained_on(best: ReportedModel) -> str:
    """A dataset, or the mix."""
    return best.dataset or "the mix"


def _effect(screened: Screened) -> str:
    effect = screened.target.effect
    if effect is None:
        return _UNKNOWN
    if effect.lower is None or effect.upper is None:
        return f"{effect.value:+.4f}"
    return f"{effect.value:+.4f} ({effect.lower:+.4f} to {effect.upper:+.4f})"


def _scores(findings: Findings, best: ReportedModel) -> Iterator[str]:
    target = f"{best.target} ({best.target_interval})" if best.target_interval else best.target
    rows = [_score(findings.target, target)]
    if findings.retention:
        rows.append(_score(findings.retention, best.retention or _UNKNOWN))
    yield from _table(("metric", "texts", "base", "this model (95 %, items only)"), rows)
    yield ""
    yield "Bits per byte of held-out text, lower is better. It was chosen by the target: the score there flatters it."


def _score(metric: Metric, own: str) -> tuple[str, ...]:
    return (metric.name, _plain(", ".join(metric.texts)), metric.unit.text(metric.base), own)


def _cost(findings: Findings) -> Iterator[str]:
    bill = findings.bill
    if bill is None:
        yield f"{_UNKNOWN.capitalize()}."
        return
    trained = bill.arm_tokens + bill.control_tokens - bill.reused_tokens
    yield f"- {amount(trained)} tokens were trained by the experiment; separate runs take {amount(bill.naive_tokens)}"
    operations = f"{bill.training_gigaflops * 1e9:.3g} floating-point operations" if bill.training_gigaflops else ""
    yield f"- training: {operations or _UNKNOWN}"
    yield f"- GPU-seconds of the attempts that committed: {f'{bill.gpu_seconds:,d}' if bill.gpu_seconds else _UNKNOWN}"


def _licences(findings: Findings, best: ReportedModel) -> Iterator[str]:
    """Nothing here is known to a program."""
    rows = [
        ("the base", _plain(findings.base or _UNKNOWN)),
        ("data", _trained_on(best)),
        ("this model", f"`{best.trial}`"),
    ]
    yield from _table(
        ("of", "which", "licence"), [(*row, f"{_UNKNOWN}: fill in before it is passed on") for row in rows]
    )
    yield ""
    yield "Intended uses and limits: fill in. Nothing but the scores above was measured."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _plain(text: str) -> str:
    """One line on which nothing acts."""
    return _ACTIVE.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))
