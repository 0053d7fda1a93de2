"""When an attempt has ended, and why.

Checks are asked in order, and the first that finds an end wins:

    a pod exits with 4, its peers with 210 (they lost it)      DataError: who says most counts
    a node is gone, its pod is being deleted for ever          NodeLost: not waited for
    a pod was deleted by hand, the job has made another one    PodLost: the new one would begin alone
    a queue suspends the job, its pods exit with 143           no end: the attempt goes on when pods return
"""

from __future__ import annotations

from collections.abc import Callable

from cpt_api.conditions import Reason
from cpt_api.exits import ExitCode
from cpt_operator import rfc3339
from cpt_operator.attempts import PERMANENT, End, exited
from cpt_operator.backends.pytorchjob.queueing import execution_time_over
from cpt_operator.backends.pytorchjob.view import NODE_GONE, View, is_true, main_of, trouble_of
from cpt_operator.records import ContainerRecord, PodRecord


def job_deleted(view: View) -> End | None:
    """Somebody deleted the job: its pods are on their way out."""
    return End(Reason.JOB_LOST, "the PyTorchJob was deleted") if view.job.deleting else None


def job_succeeded(view: View) -> End | None:
    """The master ended with 0."""
    return End(Reason.COMPLETED, "exit 0", 0) if is_true(view.job, "Succeeded") else None


def pod_failed(view: View) -> End | None:
    """Of several failed pods, the one that says most about why."""
    ends = [end for pod in view.pods if (end := _failed(pod)) is not None]
    return min(ends, key=_plainness, default=None)


def job_failed(view: View) -> End | None:
    """The job failed, and no pod is left to say why."""
    if not is_true(view.job, "Failed"):
        return None
    condition = view.job.condition("Failed")
    return End(
        Reason.POD_LOST, f"the PyTorchJob failed and its pods are gone: {condition.message if condition else ''}"
    )


def node_lost(view: View) -> End | None:
    """A pod's node is gone: not waited for."""
    for pod in view.pods:
        target = pod.condition("DisruptionTarget")
        if pod.deleting and target and target.status == "True" and target.reason in NODE_GONE:
            return End(
                Reason.NODE_LOST, f"node {pod.node} of pod {pod.name} is gone", node=pod.node, infrastructure=True
            )
    return None


def pod_deleted(view: View) -> End | None:
    """A pod that is being deleted counts when its containers have ended or its grace has passed."""
    for pod in view.pods:
        main = main_of(pod)
        has_ended = main is not None and main.exit_code is not None
        if pod.deleting and (has_ended or rfc3339.parse(pod.deleting) < view.now):
            return _deleted(pod, main)
    return None


def pod_gone(view: View) -> End | None:
    """All pods were running once, and now one is missing or is another: the job re-creates what is missing."""
    if view.attempt.running_time is None:
        return None
    if len(view.pods) < view.wanted:
        return End(Reason.POD_LOST, f"{view.wanted - len(view.pods)} of {view.wanted} pods are gone")
    began = rfc3339.parse(view.attempt.running_time)
    new = [pod.name for pod in view.pods if rfc3339.parse(pod.created) > began]
    return End(Reason.POD_LOST, f"pod {new[0]} was replaced") if new else None


def not_started(view: View) -> End | None:
    """It holds a node and does not start. An attempt that holds nothing may wait as long as the cluster is full."""
    held = [pod for pod in view.pods if pod.node]
    if view.attempt.running_time is not None or not held or view.starting_seconds < view.limits.start_seconds:
        return None
    trouble = trouble_of(view)
    why = f"{trouble.reason}: {trouble.message}" if trouble else "no reason is known; see `kubectl describe pod`"
    text = f"not all of {view.wanted} pods were running within {view.limits.start_seconds} s: {why}"
    if len(held) < view.wanted:
        return End(Reason.UNSCHEDULABLE, text)
    return End(Reason.START_TIMEOUT, text, node=held[0].node)


def deadline_exceeded(view: View) -> End | None:
    """It ran longer than it may."""
    limit = view.limits.deadline_seconds
    if limit is None or view.seconds_since(view.attempt.running_time) < limit:
        return None
    return End(Reason.DEADLINE_EXCEEDED, f"it ran longer than activeDeadlineSeconds, {limit} s")


ENDS: tuple[Callable[[View], End | None], ...] = (
    job_succeeded,  # nothing after it matters
    execution_time_over,
    node_lost,  # before the exit codes that its peers made of it
    pod_failed,  # before the job's own condition, which has no exit code
    pod_deleted,
    job_deleted,  # after its pods, which may still say why
    job_failed,
    pod_gone,
    not_started,
    deadline_exceeded,
)
_OF_PODS = frozenset({node_lost, pod_failed, pod_deleted, pod_gone, not_started, deadline_exceeded})
"""Not asked while the job is suspended: then it is a queue that took the pods away, and the attempt goes on later."""


def end_of(view: View) -> End | None:
    """The first end that a check finds."""
    checks = (check for check in ENDS if not (view.job.suspended and check in _OF_PODS))
    return next((end for check in checks if (end := check(view)) is not None), None)


def _failed(pod: PodRecord) -> End | None:
    """The end of a pod that failed by itself, or was made to."""
    main = main_of(pod)
    code = main.exit_code if main else None
    if pod.phase != "Failed" and not (code and not pod.deleting):
        return None
    if is_true(pod, "DisruptionTarget"):
        return _disrupted(pod, main)
    if main is None or code is None:
        init = next((c for c in pod.containers if c.init and c.exit_code), None)
        if init:
            return End(
                Reason.EXITED, f"init container {init.name}: exit {init.exit_code} {init.message or ''}", node=pod.node
            )
        text = f"pod {pod.name} was rejected: {pod.reason}: {pod.message or ''}"
        return End(Reason.DISRUPTED, text, node=pod.node, infrastructure=True)
    return exited(code, main.message, pod.node, oom_killed=main.terminated_reason == "OOMKilled")


def _disrupted(pod: PodRecord, main: ContainerRecord | None) -> End:
    target = pod.condition("DisruptionTarget")
    words = exited(main.exit_code, main.message, pod.node) if main and main.exit_code is not None else None
    return End(
        Reason.DISRUPTED,
        f"{target.reason}: {target.message}" if target else f"pod {pod.name} was disrupted",
        words.exit_code if words else None,
        pod.node,
        committed_step=words.committed_step if words else None,
    )


def _deleted(pod: PodRecord, main: ContainerRecord | None) -> End:
    if is_true(pod, "DisruptionTarget"):
        return _disrupted(pod, main)
    code = main.exit_code if main else None
    if main is None or code is None or code == ExitCode.KILLED:
        return End(Reason.POD_LOST, f"pod {pod.name} was deleted", code, pod.node)
    return exited(code, main.message, pod.node)


def _plainness(end: End) -> int:
    """Lower says more: what peers make of a failure (hang, communication) says least."""
    if end.cause in PERMANENT:
        return 0
    order = (Reason.DISRUPTED, Reason.OUT_OF_MEMORY, Reason.KILLED, Reason.STORAGE_ERROR, Reason.TERMINATED)
    return 1 + order.index(end.cause) if end.cause in order else 8 + (end.cause is Reason.HANG)
