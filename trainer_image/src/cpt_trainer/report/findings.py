"""What a report shows: decisions and the base's scores from the store, names and the bill from the trial.

A result refers to data by digest only. `label` gives the name that the experiment has for it, or the first digits:

    findings.label(digest)                       'python'
    findings.of(Question.LEARNING_RATE)          the decisions of the sweep, one for each rung
    findings.target.base                         2.31, the base's bits per byte
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from cpt_api.model import canonical_json
from cpt_api.result import Decision, Result, SuiteScore
from cpt_api.trial import (
    AlsoScored,
    Bill,
    DecisionMetric,
    Legend,
    Measure,
    Question,
    ReportedModel,
    ReportWork,
    SuiteGroup,
    TrialType,
)
from cpt_api.unit import BITS, HUNDRED, Unit, unit_of
from cpt_api.values import Digest, LearningRate, Share, Tokens
from cpt_trainer.errors import ConfigError, DataError
from cpt_trainer.trial import Trial, known


@dataclass(frozen=True, slots=True)
class Metric:
    """Target or retention."""

    name: str
    texts: tuple[str, ...]
    """Their names, or the suite's."""
    threshold: float
    """Minimum effect of a target, margin of a retention."""
    base: float
    """Of the base model, as decisions hold it; lower is better."""
    unit: Unit = BITS
    is_suite: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One decision."""

    question: Question
    tokens: Tokens | None
    """Of its arms, where all have as many."""
    trial: Digest
    decision: Decision


@dataclass(frozen=True, slots=True)
class Model:
    """A model on suites that decided nothing."""

    dataset: Digest | None
    """What it has read; None: it is the base."""
    learning_rate: LearningRate | None
    tokens: Tokens | None
    weight: Share | None
    """In a mean with the base."""
    suites: tuple[SuiteScore, ...]


@dataclass(frozen=True, slots=True)
class Findings:
    """All that is shown."""

    trial: Digest
    """The report itself."""
    title: str
    target: Metric
    retention: Metric | None
    answers: tuple[Answer, ...]
    """In the order of the recipe."""
    names: Mapping[Digest, str]
    bill: Bill | None
    baseline: Digest
    """The trial of the base's scores."""
    base: str | None
    """Where it lies, or which trial made it."""
    best: ReportedModel | None
    """What the experiment ends with, unless that is the base."""
    also: tuple[Model, ...] = ()
    """The base first."""

    @property
    def scores(self) -> str:
        """In which unit, for titles."""
        target = self.target.unit.scores
        if self.retention is None or self.retention.unit.scores == target:
            return f"in {target}"
        return f"the target in {target}, the retention in {self.retention.unit.scores}"

    def label(self, digest: Digest) -> str:
        """What people call that data; also good for a file's name."""
        return self.names.get(digest, digest.short)

    def of(self, question: Question) -> tuple[Answer, ...]:
        """Its answers, in the order in which they were given."""
        return tuple(answer for answer in self.answers if answer.question is question)

    def to_json(self) -> bytes:
        """For programs."""
        metrics = [metric for metric in (self.target, self.retention) if metric]
        return canonical_json(
            {
                "trial": self.trial,
                "title": self.title,
                "metrics": {
                    metric.name: {"texts": metric.texts, "threshold": metric.threshold, _base_of(metric): metric.base}
                    for metric in metrics
                },
                "answers": [
                    {
                        "question": answer.question,
                        "tokens": str(answer.tokens) if answer.tokens is not None else None,
                        "trial": answer.trial,
                        "decision": answer.decision.to_dict(),
                    }
                    for answer in self.answers
                ],
                "names": self.names,
                "bill": self.bill.to_dict() if self.bill else None,
            }
        )


def _base_of(metric: Metric) -> str:
    return "baseBitsPerByte" if metric.unit.full is None else "basePointsMissing"


def read_findings(trial: Trial) -> Findings:
    """DataError when a decision or a score of the base is not there."""
    work, legend = trial.spec.report, trial.spec.run.legend or Legend()
    assert work is not None, "main chose the verb by the type"
    names = _names(legend)
    base = trial.result_of(known(work.baseline), TrialType.EVALUATE)
    return Findings(
        trial=trial.digest,
        title=legend.title or trial.document.name,
        target=_metric("target", work.target, base, names),
        retention=_metric("retention", work.retention, base, names) if work.retention else None,
        answers=tuple(_answers(trial, work)),
        names=names,
        bill=legend.bill,
        baseline=base.digest,
        base=legend.base,
        best=legend.best,
        also=tuple(_also(trial, scored) for scored in work.also or ()),
    )


def _names(legend: Legend) -> dict[Digest, str]:
    names = {entry.digest: entry.name for entry in legend.names}
    if len(set(names.values())) < len(names):
        raise ConfigError("run.legend.names gives two data the same name: take names that differ")
    return names


def _metric(name: str, metric: DecisionMetric, base: Result, names: Mapping[Digest, str]) -> Metric:
    if metric.suite:
        return Metric(
            name=name,
            texts=(metric.suite.suite,),
            threshold=float(metric.threshold),
            base=_suite_base(metric.suite, base),
            unit=unit_of(metric),
            is_suite=True,
        )
    scores = {score.text: score.bits_per_byte for score in base.held_out}
    texts = [known(text) for text in metric.texts]
    missing = [text.short for text in texts if text not in scores]
    if missing:
        raise DataError(f"the Evaluate trial {base.digest.short}… has no score of text {missing[0]}…: score it there")
    return Metric(
        name=name,
        texts=tuple(sorted(names.get(text, text.short) for text in texts)),
        threshold=float(metric.threshold),
        base=math.fsum(scores[text] for text in texts) / len(texts),
    )


def _suite_base(metric: SuiteGroup, base: Result) -> float:
    """As decisions hold it."""
    for score in base.suites:
        for group in score.groups:
            if (score.suite, group.group, group.measure) == (metric.suite, metric.group, metric.measure):
                return group.value if group.measure is Measure.BITS_PER_BYTE else HUNDRED * (1 - group.value)
    raise DataError(f"the Evaluate trial {base.digest.short}… has no {metric.group} of {metric.suite}: score it there")


def _also(trial: Trial, scored: AlsoScored) -> Model:
    result = trial.result_of(known(scored.evaluation), TrialType.EVALUATE)
    return Model(scored.dataset, scored.learning_rate, scored.tokens, scored.weight, result.suites)


def _answers(trial: Trial, work: ReportWork) -> list[Answer]:
    answers = []
    for answered in work.answered:
        for reference in answered.decisions:
            digest = known(reference)
            decision = trial.result_of(digest, TrialType.DECIDE).decision
            if decision is None or decision.question is not answered.question:
                found = decision.question if decision else "nothing"
                raise DataError(
                    f"the Decide trial {digest.short}… answers {found}, {answered.question} was expected: name another"
                )
            answers.append(Answer(answered.question, answered.tokens, digest, decision))
    return answers
