"""An experiment's phase and status from its plan and the records of its trials. Pure.

All of it is derived: whoever deletes the status gets the same again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cpt_api.conditions import ConditionType, Reason
from cpt_api.experiment import CPTExperimentSpec, CPTExperimentStatus, Ledger, TrialCounts, TrialFailure
from cpt_api.trial import TrialType
from cpt_api.values import Tokens
from cpt_operator import rfc3339
from cpt_operator.plan import Plan, PlannedTrial
from cpt_operator.plan.types import Finding
from cpt_operator.records import Body, TrialRecord
from cpt_operator.status import (
    Phase,
    experiment_conditions,
    has_ended,
    has_failed,
    has_succeeded,
    is_at_work,
    is_stalled,
    message_of,
    reason_of,
)

_GOES_BY_ITSELF = frozenset({Reason.RUNNING, Reason.STARTING})
_MERE_PROGRESS = frozenset({Reason.RUNNING, Reason.QUEUED})
"""Reasons that change to and fro while all is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentView:
    """Everything that an experiment's status depends on, at one moment."""

    spec: CPTExperimentSpec
    plan: Plan
    children: Mapping[str, TrialRecord]
    """By the name that the plan gives them; superseded ones under their own."""
    planned: Mapping[str, PlannedTrial]
    """By name."""
    base: Finding | None
    """What is wrong with `model.trialName`."""
    before: CPTExperimentStatus
    now: datetime
    looking_again: bool = False
    """A Preflight looks once more at inputs with findings."""

    @property
    def mine(self) -> list[TrialRecord]:
        """Children that are in the plan, in its order."""
        return [self.children[name] for name in self.planned if name in self.children]

    @property
    def superseded(self) -> list[TrialRecord]:
        """Children that the plan does not hold."""
        return [child for name, child in self.children.items() if name not in self.planned]

    @property
    def open(self) -> list[TrialRecord]:
        """Those that have not ended."""
        return [child for child in self.mine if not has_ended(child.status)]

    @property
    def tokens_trained(self) -> int:
        """By all children, superseded ones too."""
        return sum(tokens_of(child.status) for child in self.children.values() if not is_reused(child.status))


def tokens_of(status: Body) -> int:
    """Trained so far."""
    tokens = status.get("tokens")
    return Tokens.parse(tokens) if tokens else 0


def is_reused(status: Body) -> bool:
    """Its result existed."""
    return bool(status.get("reusedFrom"))


# --- what stops it ---------------------------------------------------------------------------------------------------


def too_many_failures(view: ExperimentView) -> Finding | None:
    """More failed trials than the user accepts; cancelled ones were the user's wish, Preflights look again."""
    failed = [
        child
        for child in view.mine
        if has_failed(child.status) and reason_of(child.status) != Reason.CANCELLED and not is_preflight(child)
    ]
    scheduling = view.spec.scheduling
    if not failed or scheduling is None:
        return None
    limit = 0 if scheduling.on_trial_failure is TrialFailure.STOP else scheduling.max_failed_trials
    if limit is None or len(failed) <= limit:
        return None
    worst = failed[0]
    return Finding(
        Reason.TOO_MANY_FAILURES,
        f"{len(failed)} trials failed, {limit} are accepted (scheduling); the first: {worst.name}: "
        f"{reason_of(worst.status)}: {message_of(worst.status)}",
    )


def budget_exhausted(view: ExperimentView) -> Finding | None:
    """Nothing may be trained any more, though something is left to train."""
    budget = view.spec.budget.tokens if view.spec.budget else None
    if budget is None or view.tokens_trained < budget:
        return None
    left = [name for name, planned in view.planned.items() if planned.tokens and not _has_ended(view, name)]
    if not left:
        return None
    return Finding(
        Reason.BUDGET_EXHAUSTED,
        f"{Tokens(view.tokens_trained)} tokens are trained, budget.tokens is {budget}, {len(left)} trials are left: "
        "raise it, and they go on from their checkpoints",
    )


def _has_ended(view: ExperimentView, name: str) -> bool:
    child = view.children.get(name)
    return child is not None and has_ended(child.status)


# --- the phase -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    """A row of the table of conditions, with its words."""

    phase: Phase
    reason: Reason
    message: str


def finished(view: ExperimentView) -> State | None:
    """Every stage is decided."""
    return State(Phase.FINISHED, Reason.COMPLETED, view.plan.message) if view.plan.complete else None


def base_failed(view: ExperimentView) -> State | None:
    """The trial that should make the base will not."""
    if view.base is None or view.base.reason is Reason.WAITING_FOR_MODEL:
        return None
    return State(Phase.STUCK, view.base.reason, view.base.message)


def finding(view: ExperimentView) -> State | None:
    """Nothing more can be planned."""
    found = view.plan.finding
    if found is None:
        return None
    return State(Phase.FAILED if found.reason is Reason.FAILED else Phase.STUCK, found.reason, found.message)


def looking_again(view: ExperimentView) -> State | None:
    """It stays stuck until the new look has an answer."""
    old = next((c for c in view.before.conditions if c.type == ConditionType.STALLED), None)
    if not view.looking_again or old is None or old.reason != Reason.PREFLIGHT_FAILED:
        return None
    return State(Phase.STUCK, Reason.PREFLIGHT_FAILED, old.message)


def stopped(view: ExperimentView) -> State | None:
    """Failures, or the budget."""
    found = too_many_failures(view) or budget_exhausted(view)
    return State(Phase.STUCK, found.reason, found.message) if found else None


def suspended(view: ExperimentView) -> State | None:
    """By the user."""
    if not view.spec.suspend:
        return None
    stopping = sum(is_at_work(child.status) for child in view.open)
    text = f"spec.suspend is set; {stopping} trials still stop at a checkpoint" if stopping else "spec.suspend is set"
    return State(Phase.SUSPENDED, Reason.SUSPENDED, text)


def at_work(view: ExperimentView) -> State | None:
    """Some trial is."""
    running = [c for c in view.open if is_at_work(c.status) and reason_of(c.status) in _GOES_BY_ITSELF]
    if not running:
        return None
    ended = sum(has_ended(child.status) for child in view.mine)
    text = f"{ended} of {len(view.planned)} trials have ended, {len(running)} are at work"
    return State(Phase.RUNNING, Reason.RUNNING, "; ".join([text, *_troubles(view)]))


def waiting_for_model(view: ExperimentView) -> State | None:
    """The base is not there yet."""
    return State(Phase.EXPANDING, view.base.reason, view.base.message) if view.base else None


def expanding(view: ExperimentView) -> State | None:
    """Trials are still to be created, and nothing runs yet."""
    missing = len(view.planned) - len(view.mine)
    return State(Phase.EXPANDING, Reason.EXPANDING, f"{missing} trials are to be created") if missing else None


def trial_stalled(view: ExperimentView) -> State | None:
    """Nothing goes on until somebody looks after a trial."""
    stalled = [child for child in view.open if is_stalled(child.status)]
    waiting = (child for child in view.open if not is_stalled(child.status))
    if not stalled or any(reason_of(child.status) != Reason.WAITING_FOR_INPUT for child in waiting):
        return None
    status = stalled[0].status
    return State(Phase.STUCK, Reason(reason_of(status)), f"trial {stalled[0].name}: {message_of(status)}")


def queued(view: ExperimentView) -> State:
    """Nothing runs, and this is why."""
    troubles = _troubles(view)
    waiting = f"{len(view.open)} trials wait"
    first = next((c for c in view.open if reason_of(c.status) in _WORTH_A_WORD), None)
    reason = Reason(reason_of(first.status)) if first else Reason.QUEUED
    return State(Phase.QUEUED, reason, "; ".join([waiting, *troubles]))


_WORTH_A_WORD = frozenset(
    {
        Reason.IMAGE_PULL_FAILED,
        Reason.POD_FORBIDDEN,
        Reason.UNSCHEDULABLE,
        Reason.CONTAINER_CONFIG_ERROR,
        Reason.STORE_UNAVAILABLE,
        Reason.RETRYING,
    }
)


def _troubles(view: ExperimentView) -> list[str]:
    """The first trial that does not go on by itself, in words."""
    found = [c for c in view.open if is_stalled(c.status) or reason_of(c.status) in _WORTH_A_WORD]
    if not found:
        return []
    others = f" (and {len(found) - 1} others)" if len(found) > 1 else ""
    return [f"{found[0].name}: {reason_of(found[0].status)}: {message_of(found[0].status)}{others}"]


CHECKS: tuple[Callable[[ExperimentView], State | None], ...] = (  # the first counts; the order has its own test
    finished,
    base_failed,
    finding,
    looking_again,
    stopped,
    suspended,
    at_work,
    waiting_for_model,
    expanding,
    trial_stalled,
    queued,
)


def state_of(view: ExperimentView) -> State:
    """The first row that fits."""
    return next(state for check in CHECKS if (state := check(view)) is not None)


# --- the status ------------------------------------------------------------------------------------------------------


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
        "stage": next((stage.name for stage in plan.stages if stage.state != "Decided"), None),
        "progress": percent,
        "eta": _eta(view) if state.phase is Phase.RUNNING else None,
        "trials": counts,
        "trials_summary": f"{ended}/{counts.total}",
        "saved": _saved(view),
        "stages": plan.stages,
        "datasets": plan.datasets,
        "best": _best(view),
        "ledger": _ledger(view),
        "operator_version": version or view.before.operator_version,
    }
    return stuck_status(view.before, state, generation, view.now).model_copy(update=update)


def is_mere_progress(old: CPTExperimentStatus, new: CPTExperimentStatus) -> bool:
    """Whether only numbers moved: that may wait for its turn."""
    return _significant(old) == _significant(new)


def _significant(status: CPTExperimentStatus) -> tuple[Any, ...]:
    conditions = tuple((c.type, c.status, None if c.reason in _MERE_PROGRESS else c.reason) for c in status.conditions)
    return conditions, status.observed_generation, status.stages, status.datasets, status.best, status.trials.failed


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
        if planned.tokens and not _has_ended(view, name)
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


def _best(view: ExperimentView) -> Any:
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


def is_preflight(trial: TrialRecord) -> bool:
    """By its type."""
    return trial.spec.get("type") == TrialType.PREFLIGHT
