"""What Kueue says of an attempt that it holds back: its Workload, whose conditions are looked up by type.

    nothing is known of a Workload             Queued: the queue has not admitted the attempt yet
    QuotaReserved is False                     Queued, in Kueue's own words: "… insufficient unused quota for …"
    and Evicted is True                        the same, and that its pods were taken away (Preempted)
    spec.active is false                       QueueDeactivated: stays so until somebody acts
    Admitted for 5 min, the job suspended      QueueStuck: Kueue has lost it
    deactivated because its time was over      DeadlineExceeded: an end like that of our own deadline

A Workload is seen only where the chart's `kueue.enabled` is true.
"""

from __future__ import annotations

from cpt_api.conditions import Reason
from cpt_operator.attempts import End
from cpt_operator.backends.pytorchjob.view import View, is_true
from cpt_operator.kinds import TRIAL_LABEL
from cpt_operator.plan.types import Finding
from cpt_operator.records import WorkloadRecord

STUCK_SECONDS = 300
"""Kueue resumes a job within seconds of admitting its Workload."""
_NOT_ADMITTED = "the queue has not admitted the attempt yet"
"""Where Kueue has no words of its own: a step on the way that is over in a second would be a write of the status."""
_DEACTIVATED = "The workload is deactivated"
"""What Kueue says of it, before the cause."""
_TIME_OVER = "MaximumExecutionTimeExceeded"
"""In Kueue's reasons, alone or behind the word Deactivated."""


def queue_trouble(view: View) -> Finding:
    """Why a suspended attempt is."""
    workload = view.workload
    if workload is None:
        return Finding(Reason.QUEUED, _NOT_ADMITTED)
    if not workload.active:
        return Finding(Reason.QUEUE_DEACTIVATED, _deactivated(view, workload))
    if seconds_to_stuck(view) == 0:
        return Finding(
            Reason.QUEUE_STUCK,
            f"Kueue admitted Workload {workload.name} more than {STUCK_SECONDS} s ago and has not resumed PyTorchJob "
            f"{view.job.name}: look into Kueue's log, then `kubectl cpt retry {_trial(view)}`",
        )
    return Finding(Reason.QUEUED, _words(workload))


def seconds_to_stuck(view: View) -> float | None:
    """How long an admitted attempt may still stay suspended; None when it is not both."""
    admitted = view.workload.condition("Admitted") if view.workload and view.workload.active else None
    if admitted is None or admitted.status != "True" or not view.job.suspended:
        return None
    return max(0.0, STUCK_SECONDS - view.seconds_since(admitted.last_transition_time))


def execution_time_over(view: View) -> End | None:
    """Kueue has counted the time of all its pods, also of those before a preemption, and took them away for good."""
    workload = view.workload
    if workload is None or workload.active or not view.job.suspended:
        return None
    told = [c for type_ in ("Evicted", "DeactivationTarget") if (c := workload.condition(type_)) is not None]
    over = next((c for c in told if c.status == "True" and c.reason.endswith(_TIME_OVER)), None)
    return End(Reason.DEADLINE_EXCEEDED, f"Kueue: {over.message}") if over else None


def _deactivated(view: View, workload: WorkloadRecord) -> str:
    evicted = workload.condition("Evicted")
    why = evicted.message.removeprefix(_DEACTIVATED) if evicted and is_true(workload, "Evicted") else ""
    return (
        f"Workload {workload.name} is deactivated{why}, and Kueue leaves it alone: `kubectl cpt retry {_trial(view)}` "
        "makes the trial anew, or set the Workload's spec.active to true; it goes on from its last checkpoint"
    )


def _words(workload: WorkloadRecord) -> str:
    reserved = workload.condition("QuotaReserved")
    if reserved is None:
        return _NOT_ADMITTED
    if reserved.status == "True":
        admitted = workload.condition("Admitted")
        waits = admitted and admitted.status != "True" and admitted.message
        return f"Kueue has reserved quota: {admitted.message}" if admitted and waits else _NOT_ADMITTED
    evicted = workload.condition("Evicted")
    took_away = f"Kueue took its pods away ({evicted.reason})" if evicted and is_true(workload, "Evicted") else "Kueue"
    return f"{took_away}: {reserved.message}"


def _trial(view: View) -> str:
    return view.job.labels.get(TRIAL_LABEL) or view.job.owner_name or ""
