"""An experiment's status from its plan and the records of its trials. Pure.

All of it is derived: whoever deletes the status gets the same again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from cpt_api.conditions import Reason
from cpt_api.experiment import Best, CPTExperimentStatus, Ledger
from cpt_api.values import Tokens
from cpt_operator import rfc3339
from cpt_operator.plan import ENDED_STAGES
from cpt_operator.plan.bill import shown
from cpt_operator.status import Phase, experiment_conditions
from cpt_operator.summary import ExperimentView, State, state_of

_MERE_PROGRESS = frozenset({Reason.RUNNING, Reason.QUEUED})
"""Reasons that change to and fro while all is well."""


def stuck_status(before: CPTExperimentStatus, state: State, generation: int, now: datetime) -> CPTExperimentStatus:
    """With other conditions and nothing else changed: there is no plan to speak of."""
    conditions = experiment_conditions(
        state.phase, state.reason, state.message, before.conditions, generation, rfc3339.text(now)
    )
    return before.model_copy(update={"observed_generation": generation, "conditions": conditions})


def next_status(view: ExperimentView, protocol: int, generation: int, version: str | None) -> CPTExperimentStatus:
    """The whole status."""
    plan, state = view.plan, state_of(view)
    counts = view.family.counts
    ended = counts.succeeded + counts.failed
    percent = 100 if plan.complete else _percent(view)
    update: dict[str, Any] = {
        "protocol": protocol,
        "stage": next((stage.name for stage in plan.stages if stage.state not in ENDED_STAGES), None),
        "progress": percent,
        "eta": _eta(view) if state.phase is Phase.RUNNING else None,
        "trials": counts,
        "trials_summary": f"{ended}/{counts.total}",
        "saved": _saved(view),
        "stages": plan.stages,
        "datasets": plan.datasets,
        "mix": plan.mix,
        "scaling": plan.scaling,
        "best": _best(view),
        "ledger": _ledger(view),
        "report_uri": view.report_uri,
        "operator_version": version or view.before.operator_version,
    }
    return stuck_status(view.before, state, generation, view.now).model_copy(update=update)


def is_mere_progress(old: CPTExperimentStatus, new: CPTExperimentStatus) -> bool:
    """Whether only numbers moved: that may wait for its turn."""
    return _significant(old) == _significant(new)


def _significant(status: CPTExperimentStatus) -> tuple[Any, ...]:
    conditions = tuple((c.type, c.status, None if c.reason in _MERE_PROGRESS else c.reason) for c in status.conditions)
    found = status.stages, status.datasets, status.mix, status.scaling, status.best
    return conditions, status.observed_generation, found, status.trials.failed


def _percent(view: ExperimentView) -> int:
    """Of the tokens that are planned or lie ahead."""
    planned = view.family.tokens_planned
    return min(99, 100 * view.family.tokens_done // (planned + view.plan.tokens_ahead)) if planned else 0


def _eta(view: ExperimentView) -> str | None:
    """By the tokens per second so far, waiting included; to the minute, and None while that says nothing."""
    family = view.family
    if not family.started or not family.tokens_trained:
        return None
    elapsed_seconds = rfc3339.seconds_between(family.started, view.now)
    left = family.tokens_left + view.plan.tokens_ahead
    if elapsed_seconds < 60 or not left:
        return None
    seconds = min(elapsed_seconds * left / family.tokens_trained, 10 * 365 * 86_400)
    return rfc3339.text((view.now + timedelta(seconds=seconds)).replace(second=0))


def _saved(view: ExperimentView) -> str | None:
    """Part of the naive protocol's tokens that this plan does not train; negative where controls cost more."""
    naive = view.plan.tokens_naive
    if not naive or not view.family.tokens_planned:
        return None
    return f"{100 * (naive - view.family.tokens_own - view.plan.tokens_ahead) // naive} %"


def _best(view: ExperimentView) -> Best | None:
    best = view.plan.best
    if best is None:
        return None
    name = next((name for name, planned in view.family.planned.items() if planned.digest == best.digest), best.trial)
    return best.model_copy(update={"trial": name, "uri": view.model_uri})


def _ledger(view: ExperimentView) -> Ledger:
    family = view.family
    return Ledger(
        tokens_trained=Tokens(family.tokens_trained),
        tokens_reused=Tokens(family.tokens_reused),
        tokens_naive=view.plan.tokens_naive,
        gpu_seconds=family.gpu_seconds,
        evaluation_gpu_seconds=family.evaluation_gpu_seconds,
        flops=shown(view.plan.operations.total),
        evaluation_flops=shown(view.plan.operations.evaluation),
    )
