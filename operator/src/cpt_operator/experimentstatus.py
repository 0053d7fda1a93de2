"""An experiment's status from its plan and the records of its trials. Pure.

All of it is derived: whoever deletes the status gets the same again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from cpt_api.conditions import Reason
from cpt_api.experiment import Best, CPTExperimentStatus, Ledger, TrialCounts
from cpt_api.values import Tokens
from cpt_operator import rfc3339
from cpt_operator.plan import ENDED_STAGES
from cpt_operator.records import TrialRecord
from cpt_operator.status import Phase, experiment_conditions, has_ended, has_failed, has_succeeded, is_at_work
from cpt_operator.summary import ExperimentView, State, is_reused, state_of, tokens_of

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
    counts = _counts(view)
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
    found = status.stages, status.datasets, status.mix, status.best
    return conditions, status.observed_generation, found, status.trials.failed


def _counts(view: ExperimentView) -> TrialCounts:
    mine = view.mine
    succeeded = sum(has_succeeded(child.status) for child in mine)
    failed = sum(has_failed(child.status) for child in mine)
    running = sum(is_at_work(child.status) for child in mine)
    return TrialCounts(
        total=len(view.planned),
        running=running,
        queued=len(view.planned) - succeeded - failed - running,
        succeeded=succeeded,
        failed=failed,
        reused=sum(is_reused(child.status) for child in mine),
        superseded=len(view.children) - len(mine),
    )


def _percent(view: ExperimentView) -> int:
    """Of the tokens that are planned or lie ahead."""
    total: int = sum(planned.tokens for planned in view.planned.values())
    if not total:
        return 0
    total += view.plan.tokens_ahead
    done = 0
    for name, planned in view.planned.items():
        child = view.children.get(name)
        if child is not None and planned.tokens:
            ended = has_ended(child.status)
            done += planned.tokens if ended else min(planned.tokens, tokens_of(child.status))
    return min(99, 100 * done // total)


def _eta(view: ExperimentView) -> str | None:
    """By the tokens per second so far, waiting included; to the minute, and None while that says nothing."""
    begins = [begin for child in view.children.values() if (begin := child.status.get("startTime"))]
    if not begins or not view.tokens_trained:
        return None
    elapsed_seconds = rfc3339.seconds_between(min(begins), view.now)
    left = sum(
        max(0, planned.tokens - (tokens_of(view.children[name].status) if name in view.children else 0))
        for name, planned in view.planned.items()
        if planned.tokens and not view.has_ended(name)
    )
    left += view.plan.tokens_ahead
    if elapsed_seconds < 60 or not left:
        return None
    seconds = min(elapsed_seconds * left / view.tokens_trained, 10 * 365 * 86_400)
    return rfc3339.text((view.now + timedelta(seconds=seconds)).replace(second=0))


def _saved(view: ExperimentView) -> str | None:
    """Part of the naive protocol's tokens that this plan does not train; negative where controls cost more."""
    naive = view.plan.tokens_naive
    if not naive or not any(planned.tokens for planned in view.planned.values()):
        return None
    reused = {child.name for child in view.mine if is_reused(child.status)}
    own: int = sum(planned.tokens for name, planned in view.planned.items() if name not in reused)
    own += view.plan.tokens_ahead
    return f"{100 * (naive - own) // naive} %"


def _best(view: ExperimentView) -> Best | None:
    best = view.plan.best
    if best is None:
        return None
    name = next((name for name, planned in view.planned.items() if planned.digest == best.digest), best.trial)
    return best.model_copy(update={"trial": name})


def _ledger(view: ExperimentView) -> Ledger:
    children: Sequence[TrialRecord] = list(view.children.values())
    return Ledger(
        tokens_trained=Tokens(view.tokens_trained),
        tokens_reused=Tokens(sum(tokens_of(c.status) for c in children if is_reused(c.status))),
        tokens_naive=view.plan.tokens_naive,
        gpu_seconds=sum(c.status.get("gpuSeconds") or 0 for c in children),
    )
