"""Conditions: one test per row of the table in design 6."""

from __future__ import annotations

import pytest

from cpt_api.conditions import Condition, Reason
from cpt_operator.status import MESSAGE_MAX, Phase, experiment_conditions, trial_conditions

NOON, LATER = "2026-11-24T12:00:00Z", "2026-11-24T13:00:00Z"


def statuses(conditions: tuple[Condition, ...]) -> dict[str, str]:
    return {condition.type: condition.status for condition in conditions}


@pytest.mark.parametrize(
    ("phase", "want"),
    [
        (Phase.EXPANDING, {"Ready": "Unknown", "Reconciling": "True", "Succeeded": "Unknown"}),
        (Phase.STUCK, {"Ready": "False", "Stalled": "True", "Succeeded": "Unknown"}),
        (Phase.QUEUED, {"Ready": "True", "Succeeded": "Unknown"}),
        (Phase.RUNNING, {"Ready": "True", "Succeeded": "Unknown"}),
        (Phase.SUSPENDED, {"Ready": "True", "Succeeded": "Unknown"}),
        (Phase.FINISHED, {"Ready": "True", "Succeeded": "True"}),
        (Phase.FAILED, {"Ready": "False", "Stalled": "True", "Succeeded": "False"}),
    ],
)
def test_experiment(phase: Phase, want: dict[str, str]) -> None:
    """Reconciling and Stalled are present only while they are True."""
    assert statuses(experiment_conditions(phase, Reason.RUNNING, "", (), 1, NOON)) == want


@pytest.mark.parametrize(
    ("phase", "reason", "want"),
    [
        (Phase.QUEUED, Reason.QUEUED, {"Succeeded": "Unknown"}),
        (Phase.RUNNING, Reason.RUNNING, {"Succeeded": "Unknown"}),
        (Phase.SUSPENDED, Reason.SUSPENDED, {"Succeeded": "Unknown"}),
        (Phase.STUCK, Reason.NOT_ALLOWED, {"Succeeded": "Unknown", "Stalled": "True"}),
        (Phase.FINISHED, Reason.REUSED, {"Succeeded": "True"}),
        (Phase.FAILED, Reason.DATA_ERROR, {"Succeeded": "False", "Stalled": "True"}),
        (Phase.FAILED, Reason.CANCELLED, {"Succeeded": "False"}),
    ],
)
def test_trial(phase: Phase, reason: Reason, want: dict[str, str]) -> None:
    """A trial is stalled where somebody must act; who cancelled it need not."""
    assert statuses(trial_conditions(phase, reason, "", (), 1, NOON)) == want


def test_transition_time_is_kept_while_the_status_is_the_same() -> None:
    """A new reason or message is no transition."""
    before = experiment_conditions(Phase.QUEUED, Reason.QUEUED, "a", (), 1, NOON)
    after = experiment_conditions(Phase.RUNNING, Reason.RUNNING, "b", before, 2, LATER)
    assert {condition.last_transition_time for condition in after} == {NOON}
    assert {condition.observed_generation for condition in after} == {2}


def test_transition_time_moves_with_the_status() -> None:
    """Ready went from True to False; Succeeded stayed Unknown."""
    before = experiment_conditions(Phase.RUNNING, Reason.RUNNING, "", (), 1, NOON)
    after = experiment_conditions(Phase.STUCK, Reason.INVALID, "", before, 1, LATER)
    times = {condition.type: condition.last_transition_time for condition in after}
    assert times == {"Ready": LATER, "Stalled": LATER, "Succeeded": NOON}


def test_long_messages_are_cut() -> None:
    """At the schema's limit."""
    message = experiment_conditions(Phase.STUCK, Reason.INVALID, "x" * 5000, (), 1, NOON)[0].message
    assert len(message) == MESSAGE_MAX
