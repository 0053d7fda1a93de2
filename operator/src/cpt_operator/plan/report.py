"""The report: the last trial of an experiment. Nothing hangs on it, so its failure fails nothing.

Its digest names results only: the decisions and the base's evaluation. Names and the bill travel beside them, unhashed,
in `run.legend`. It carries the experiment's uid, as a Preflight does: a page with names on it belongs to one
experiment, and making it costs seconds.

    answered    LearningRate at 65536: 88176c…    LearningRate at 131072: dfda1b…
    legend      demo; 5f1c… is python, 90ab… is perl; naive 1.05M, arms 1.2M, control 0.4M
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import chain, count

from cpt_api.digest import group_digest
from cpt_api.experiment import Best, StageStatus
from cpt_api.trial import (
    AlsoScored,
    Answered,
    CPTTrialSpec,
    DataName,
    Legend,
    Question,
    ReportedModel,
    ReportWork,
    SuiteGroup,
    TrialRef,
    TrialType,
)
from cpt_api.values import Digest, Tokens
from cpt_operator.plan.bill import bill_of
from cpt_operator.plan.metrics import metrics_of
from cpt_operator.plan.repeat import STAGE as SCALING
from cpt_operator.plan.segments import Segments
from cpt_operator.plan.subjects import Subject
from cpt_operator.plan.types import Context, Failed, Succeeded

STAGE = "report"
_NAMES_MAX = 256
"""As in the schema; what is left out is shown by its digest."""


@dataclass(frozen=True, slots=True)
class Reported:
    """How far the report is."""

    digest: Digest
    state: str
    """Running, Decided or Failed, as in the status of a stage."""
    reason: str | None = None
    """Why there is none."""

    @property
    def page(self) -> Digest | None:
        """Whose page it is, once it is there."""
        return self.digest if self.state == "Decided" else None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is to be waited for."""
        return self.state != "Running"


def plan_report(
    segments: Segments,
    context: Context,
    naive: Tokens,
    best: Best | None,
    mixes: Sequence[Subject] = (),
    models: Mapping[Digest, str] | None = None,
    also: tuple[AlsoScored, ...] = (),
) -> Reported:
    """Add the report of an experiment whose every stage is decided.

    `mixes` are those that decisions speak of, `models` names of bases by the Evaluate trial of each.
    """
    target, retention = metrics_of(segments)
    work = ReportWork(
        experiment_uid=context.experiment_uid,
        target=target,
        retention=retention,
        baseline=TrialRef(digest=segments.baseline),
        answered=_answered(segments),
        also=also or None,
    )
    models = models or {}
    suites = [metric.suite for metric in (target, retention) if metric and metric.suite]
    names = _names(segments, mixes, suites, set(models.values()))
    model = segments.recipe.spec.model
    named = [*sorted(models.items()), *sorted(names.items())]
    legend = Legend(
        title=context.experiment or None,
        names=tuple(DataName(digest=digest, name=name) for digest, name in named[:_NAMES_MAX]),
        bill=bill_of(segments, naive),
        base=model.uri or model.trial_name,
        best=_reported(best),
    )
    digest = segments.trials.add(CPTTrialSpec(type=TrialType.REPORT, report=work), STAGE, "report", legend=legend)
    match segments.outcomes.get(digest):
        case Succeeded():
            return Reported(digest, "Decided")
        case Failed(reason, message):
            return Reported(digest, "Failed", f"no report: {reason}: {message}"[:1024])
        case _:
            return Reported(digest, "Running")


def _reported(best: Best | None) -> ReportedModel | None:
    if best is None:
        return None
    return ReportedModel(
        trial=best.digest,
        dataset=best.dataset,
        learning_rate=best.learning_rate,
        tokens=best.tokens,
        target=best.target,
        target_interval=best.target_interval,
        retention=best.retention,
    )


def _answered(segments: Segments) -> tuple[Answered, ...]:
    """Every question that has an answer, in the order in which the recipe came to it.

    A question that was asked again, such as of a grid that was widened, stands here twice: the last answer counts.
    """
    found: dict[tuple[Question, Tokens | None], list[Digest]] = {}
    for trial in segments.trials.all():
        if (asked := trial.spec.decide) and isinstance(segments.outcomes.get(trial.digest), Succeeded):
            if trial.stage == SCALING and asked.question is not Question.SCALING:
                continue  # of two rates of another model: the stage's own answer tells what came of them
            found.setdefault((asked.question, asked.rung_tokens), []).append(trial.digest)
    return tuple(
        Answered(question=question, tokens=tokens, decisions=tuple(TrialRef(digest=digest) for digest in digests))
        for (question, tokens), digests in found.items()
    )


def _names(
    segments: Segments, mixes: Sequence[Subject], suites: Iterable[SuiteGroup], models: AbstractSet[str]
) -> dict[Digest, str]:
    """Of data, mixes and suites; the latter have names that no data has, and no model."""
    prepared = segments.inputs.prepared
    names = {digest: name for name, digest in sorted(prepared.items(), reverse=True)}  # the first of two names counts
    taken = {*names.values(), *models}
    further = [(mix.digest, mix.name.lower().replace(" ", "-")) for mix in mixes]
    further += [(group_digest(suite), suite.suite.replace(".", "-")) for suite in suites]
    for digest, plain in further:
        if digest not in names:
            name = next(name for name in chain([plain], (f"{plain}-{n}" for n in count(2))) if name not in taken)
            names[digest] = name
            taken.add(name)
    return names


def stage_of(report: Reported | None) -> StageStatus:
    """As the experiment's status shows it."""
    return StageStatus(
        name=STAGE, state=report.state if report else "Waiting", reason=report.reason if report else None
    )
