"""Where an experiment is, from its plan and the records of its trials. Pure.

Checks are asked in order, and the first state counts:

    budget reached, 3 trials left         Stuck, BudgetExhausted: raise it
    4 trials run, one cannot be pulled    Running, and the message names the one
    nothing runs, 3 wait for a place      Queued
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime

from cpt_api.conditions import ConditionType, Reason
from cpt_api.experiment import CPTExperimentSpec, CPTExperimentStatus, TrialFailure
from cpt_api.trial import TrialType
from cpt_api.values import Tokens
from cpt_operator.family import Family
from cpt_operator.plan import Plan, PlannedTrial
from cpt_operator.plan.trials import GPU_TYPES
from cpt_operator.plan.types import Finding
from cpt_operator.records import TrialRecord
from cpt_operator.spending import NOTHING, Spent
from cpt_operator.standing import message_of, reason_of
from cpt_operator.status import Phase

_GOES_BY_ITSELF = frozenset({Reason.RUNNING, Reason.STARTING})


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentView:
    """Everything that an experiment's status depends on, at one moment."""

    spec: CPTExperimentSpec
    plan: Plan
    family: Family
    """Its trials: planned, and there."""
    base: Finding | None
    """What is wrong with `model.trialName`."""
    before: CPTExperimentStatus
    now: datetime
    in_line: AbstractSet[str] = frozenset()
    """Trials that wait for nothing but a place."""
    looking_again: bool = False
    """A Preflight looks once more at inputs with findings."""
    report_uri: str | None = None
    """Where the page lies, once it is made."""
    spent: Spent = NOTHING
    """By all children until now, where there is a budget for it."""
    model_uri: str | None = None
    """Where the best model lies, where one was written."""


def is_preflight(trial: TrialRecord) -> bool:
    """By its type."""
    return trial.spec.get("type") == TrialType.PREFLIGHT


# --- what stops it ---------------------------------------------------------------------------------------------------


def too_many_failures(view: ExperimentView) -> Finding | None:
    """More failed trials than the user accepts.

    Cancelled ones were the user's wish, Preflights look again, and nothing hangs on a report.
    """
    failed = [
        child
        for child in view.family.failed
        if child.standing.reason != Reason.CANCELLED
        and child.spec.get("type") not in (TrialType.PREFLIGHT, TrialType.REPORT)
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
    """Some of what is left may not run any more."""
    budget, family = view.spec.budget, view.family
    found = []
    if budget and _no_tokens(view):
        found.append(f"{Tokens(family.tokens_trained)} tokens are trained, budget.tokens is {budget.tokens}")
    if budget and _no_gpu_hours(view):
        hours = f"{view.spent.gpu_seconds / 3600:.3g}"
        found.append(f"{hours} GPU-hours are used, budget.gpuHours is {budget.gpu_hours}")
    stopped = sum(is_beyond_budget(view, family.planned[name]) for _, name in family.unsettled) if found else 0
    if not stopped:
        return None
    text = f"{', '.join(found)}, {stopped} trials are left: raise it, and they go on from their checkpoints"
    return Finding(Reason.BUDGET_EXHAUSTED, text)


def is_beyond_budget(view: ExperimentView, planned: PlannedTrial) -> bool:
    """Whether it would take what is used up: tokens by training, GPU-hours by all that may ask for GPUs."""
    return (planned.tokens > 0 and _no_tokens(view)) or (planned.spec.type in GPU_TYPES and _no_gpu_hours(view))


def seconds_to_budget(view: ExperimentView) -> float | None:
    """Until the GPU-hours are used up, by what is at work now; None: never."""
    hours = view.spec.budget.gpu_hours if view.spec.budget else None
    if hours is None or not view.spent.gpus or _no_gpu_hours(view):
        return None
    return (3600 * float(hours) - view.spent.gpu_seconds) / view.spent.gpus


def _no_tokens(view: ExperimentView) -> bool:
    budget = view.spec.budget.tokens if view.spec.budget else None
    return budget is not None and view.family.tokens_trained >= budget


def _no_gpu_hours(view: ExperimentView) -> bool:
    """Nothing has been used where no trial has GPUs, and a budget of nothing is used up at once."""
    budget = view.spec.budget.gpu_hours if view.spec.budget else None
    return budget is not None and view.spent.gpu_seconds >= 3600 * float(budget)


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
    stopping = sum(child.standing.is_at_work for child in view.family.open)
    text = f"spec.suspend is set; {stopping} trials still stop at a checkpoint" if stopping else "spec.suspend is set"
    return State(Phase.SUSPENDED, Reason.SUSPENDED, text)


def at_work(view: ExperimentView) -> State | None:
    """Some trial is."""
    running = [c for c in view.family.open if c.standing.is_at_work and c.standing.reason in _GOES_BY_ITSELF]
    if not running:
        return None
    ended = len(view.family.mine) - len(view.family.open)
    text = f"{ended} of {len(view.family.planned)} trials have ended, {len(running)} are at work"
    return State(Phase.RUNNING, Reason.RUNNING, "; ".join([text, *_troubles(view)]))


def waiting_for_model(view: ExperimentView) -> State | None:
    """The base is not there yet."""
    return State(Phase.EXPANDING, view.base.reason, view.base.message) if view.base else None


def expanding(view: ExperimentView) -> State | None:
    """Trials are still to be created, and nothing runs yet."""
    missing = len(view.family.planned) - len(view.family.mine)
    return State(Phase.EXPANDING, Reason.EXPANDING, f"{missing} trials are to be created") if missing else None


def trial_stalled(view: ExperimentView) -> State | None:
    """Nothing goes on until somebody looks after a trial."""
    stalled = [child for child in view.family.open if child.standing.is_stalled]
    waiting = (child for child in view.family.open if not child.standing.is_stalled)
    if not stalled or view.in_line or any(child.standing.reason != Reason.WAITING_FOR_INPUT for child in waiting):
        return None
    status = stalled[0].status
    return State(Phase.STUCK, Reason(reason_of(status)), f"trial {stalled[0].name}: {message_of(status)}")


def queued(view: ExperimentView) -> State:
    """Nothing runs, and this is why."""
    troubles = _troubles(view)
    waiting = f"{len(view.family.open)} trials wait"
    first = next((c for c in view.family.open if c.standing.reason in _WORTH_A_WORD), None)
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
    found = [c for c in view.family.open if c.standing.is_stalled or _is_worth_a_word(c)]
    if not found:
        return []
    others = f" (and {len(found) - 1} others)" if len(found) > 1 else ""
    return [f"{found[0].name}: {reason_of(found[0].status)}: {message_of(found[0].status)}{others}"]


def _is_worth_a_word(child: TrialRecord) -> bool:
    """An attempt that is queued waits for the cluster's queue, which says why; other trials wait for places of ours."""
    standing = child.standing
    return standing.reason in _WORTH_A_WORD or (standing.is_at_work and standing.reason == Reason.QUEUED)


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
