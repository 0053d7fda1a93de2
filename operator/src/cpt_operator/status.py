"""Conditions of both kinds, by the table of docs: kstatus reads Ready, Reconciling and Stalled, nothing else. Pure.

    experiment is …     Ready     Reconciling  Stalled  Succeeded    kstatus
    being expanded      Unknown   True         –        Unknown      InProgress
    stuck               False     –            True     Unknown      Failed       (invalid, input missing, over budget)
    queued, running     True      –            –        Unknown      Current
    suspended           True      –            –        Unknown      Current
    finished            True      –            –        True         Current
    failed for good     False     –            True     False        Failed

`Ready=True` while it runs, so that a GitOps tool that waits for readiness does not block for days.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Literal

from cpt_api.conditions import Condition, ConditionType, Reason

MESSAGE_MAX = 1024

Truth = Literal["True", "False", "Unknown"]


class Phase(Enum):
    """Where an experiment, or a trial, is: the rows of the table."""

    EXPANDING = "Expanding"
    STUCK = "Stuck"
    QUEUED = "Queued"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    FINISHED = "Finished"
    FAILED = "Failed"


_READY, _RECONCILING = ConditionType.READY, ConditionType.RECONCILING
_STALLED, _SUCCEEDED = ConditionType.STALLED, ConditionType.SUCCEEDED

_EXPERIMENT: Mapping[Phase, Mapping[ConditionType, Truth]] = {
    Phase.EXPANDING: {_READY: "Unknown", _RECONCILING: "True", _SUCCEEDED: "Unknown"},
    Phase.STUCK: {_READY: "False", _STALLED: "True", _SUCCEEDED: "Unknown"},
    Phase.QUEUED: {_READY: "True", _SUCCEEDED: "Unknown"},
    Phase.RUNNING: {_READY: "True", _SUCCEEDED: "Unknown"},
    Phase.SUSPENDED: {_READY: "True", _SUCCEEDED: "Unknown"},
    Phase.FINISHED: {_READY: "True", _SUCCEEDED: "True"},
    Phase.FAILED: {_READY: "False", _STALLED: "True", _SUCCEEDED: "False"},
}


def experiment_conditions(
    phase: Phase, reason: Reason, message: str, before: Sequence[Condition], generation: int, now: str
) -> tuple[Condition, ...]:
    """The conditions of an experiment in that phase."""
    return _conditions(_EXPERIMENT[phase], reason, message, before, generation, now)


def trial_conditions(
    phase: Phase, reason: Reason, message: str, before: Sequence[Condition], generation: int, now: str
) -> tuple[Condition, ...]:
    """The conditions of a trial: Succeeded, whose reason `kubectl get` shows, and Stalled where somebody must act."""
    succeeded: Truth = {Phase.FINISHED: "True", Phase.FAILED: "False"}.get(phase, "Unknown")  # type: ignore[assignment]
    wanted: dict[ConditionType, Truth] = {_SUCCEEDED: succeeded}
    # who cancelled a trial knows; nobody must act
    if phase is Phase.STUCK or (phase is Phase.FAILED and reason is not Reason.CANCELLED):
        wanted[_STALLED] = "True"
    return _conditions(wanted, reason, message, before, generation, now)


def _conditions(
    wanted: Mapping[ConditionType, Truth],
    reason: Reason,
    message: str,
    before: Sequence[Condition],
    generation: int,
    now: str,
) -> tuple[Condition, ...]:
    old = {condition.type: condition for condition in before}

    def since(type_: ConditionType, status: Truth) -> str:
        known = old.get(type_)
        return known.last_transition_time if known and known.status == status else now

    return tuple(
        Condition(
            type=type_,
            status=status,
            reason=reason,
            message=cut(message),
            last_transition_time=since(type_, status),
            observed_generation=generation,
        )
        for type_, status in wanted.items()
    )


def cut(message: str) -> str:
    """As much as a condition holds."""
    return message if len(message) <= MESSAGE_MAX else message[: MESSAGE_MAX - 1] + "…"
