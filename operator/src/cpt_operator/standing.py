"""What the status of a trial or an experiment says, read without parsing all of it. Pure.

A turn of an experiment of 5,000 trials asks each of them a dozen such questions, so a trial's record answers them from
a `Standing` that is read once for every version of the object: 20 ms a turn instead of 160.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cpt_api.conditions import ConditionType
from cpt_api.values import Tokens


def condition_of(status: Mapping[str, Any], type_: ConditionType) -> Mapping[str, Any]:
    """The condition of that type; empty when it is not there."""
    return next((c for c in status.get("conditions") or () if c.get("type") == type_), {})


def has_succeeded(status: Mapping[str, Any]) -> bool:
    """It ended with a result."""
    return condition_of(status, ConditionType.SUCCEEDED).get("status") == "True"


def has_failed(status: Mapping[str, Any]) -> bool:
    """It ended for good without a result."""
    return condition_of(status, ConditionType.SUCCEEDED).get("status") == "False"


def has_ended(status: Mapping[str, Any]) -> bool:
    """It ended for good."""
    return has_succeeded(status) or has_failed(status)


def is_stalled(status: Mapping[str, Any]) -> bool:
    """Nothing goes on until somebody acts."""
    return condition_of(status, ConditionType.STALLED).get("status") == "True"


def reason_of(status: Mapping[str, Any]) -> str:
    """The reason of condition Succeeded, which column STATUS shows; empty before there is one."""
    return str(condition_of(status, ConditionType.SUCCEEDED).get("reason") or "")


def message_of(status: Mapping[str, Any]) -> str:
    """The message of condition Succeeded."""
    return str(condition_of(status, ConditionType.SUCCEEDED).get("message") or "")


def is_at_work(status: Mapping[str, Any]) -> bool:
    """A trial with an attempt that has not ended."""
    attempts: Sequence[Mapping[str, Any]] = (status.get("attempts") or {}).get("last") or []
    return not has_ended(status) and bool(attempts) and not attempts[-1].get("completionTime")


def tokens_of(status: Mapping[str, Any]) -> Tokens:
    """That a trial has trained so far."""
    tokens = status.get("tokens")
    return Tokens.parse(tokens) if tokens else Tokens(0)


def is_reused(status: Mapping[str, Any]) -> bool:
    """A trial's result existed."""
    return bool(status.get("reusedFrom"))


@dataclass(frozen=True, slots=True)
class Standing:
    """The answers about one trial; nothing here is parsed, so that no status can make it fail."""

    has_succeeded: bool
    has_failed: bool
    has_ended: bool
    is_stalled: bool
    is_at_work: bool
    is_reused: bool
    reason: str


def standing_of(status: Mapping[str, Any]) -> Standing:
    """Where a trial of that status stands."""
    return Standing(
        has_succeeded=has_succeeded(status),
        has_failed=has_failed(status),
        has_ended=has_ended(status),
        is_stalled=is_stalled(status),
        is_at_work=is_at_work(status),
        is_reused=is_reused(status),
        reason=reason_of(status),
    )
