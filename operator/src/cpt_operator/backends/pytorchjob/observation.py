"""What can be seen of an attempt now, what it has cost, and when to look again though nothing happens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from cpt_api.trial import Attempt
from cpt_operator import rfc3339
from cpt_operator.backends import Limits, Observation
from cpt_operator.backends.pytorchjob.ends import end_of
from cpt_operator.backends.pytorchjob.manifest import GPUS_ANNOTATION
from cpt_operator.backends.pytorchjob.queueing import queue_trouble, seconds_to_stuck
from cpt_operator.backends.pytorchjob.view import (
    FORBIDDEN_SECONDS,
    UNSCHEDULABLE_SECONDS,
    View,
    is_finished,
    trouble_of,
    unscheduled_seconds,
)
from cpt_operator.records import JobRecord, PodRecord, WorkloadRecord


def observe(
    job: JobRecord,
    pods: Sequence[PodRecord],
    attempt: Attempt,
    limits: Limits,
    now: datetime,
    workload: WorkloadRecord | None = None,
) -> Observation:
    """The attempt's present state. `workload` is what its queue says, where that is known."""
    view = View(job=job, pods=pods, attempt=attempt, limits=limits, now=now, workload=workload)
    end = end_of(view)
    return Observation(
        end=end,
        job_finished=is_finished(job),
        all_running=view.all_running,
        suspended=job.suspended,
        job_uid=job.uid,
        node=next((pod.node for pod in pods if pod.node), None),
        newest_pod=max((pod.created for pod in pods), default=None),
        trouble=None if end else queue_trouble(view) if job.suspended else trouble_of(view),
        missing_pods=0 if job.suspended else max(0, view.wanted - len(pods)),
        gpu_seconds=_gpu_seconds(view),
        look_again_seconds=None if end else min(_next_changes(view), default=None),
    )


def _next_changes(view: View) -> Iterator[float]:
    """In how many seconds a check above may answer otherwise though nothing else happened."""
    for pod in view.pods:
        if pod.deleting:
            yield max(0.0, -rfc3339.seconds_between(pod.deleting, view.now)) + 1
        waited = unscheduled_seconds(view, pod)
        if waited is not None and waited < UNSCHEDULABLE_SECONDS:
            yield UNSCHEDULABLE_SECONDS - waited + 1
    if view.attempt.running_time is None and not view.job.suspended:
        if view.starting_seconds < view.limits.start_seconds:
            yield view.limits.start_seconds - view.starting_seconds + 1
        if len(view.pods) < view.wanted:
            yield max(FORBIDDEN_SECONDS / 2, FORBIDDEN_SECONDS - view.starting_seconds) + 1
    if (stuck_seconds := seconds_to_stuck(view)) is not None:
        yield stuck_seconds + 1
    if view.limits.deadline_seconds is not None and view.attempt.running_time is not None:
        yield max(0.0, view.limits.deadline_seconds - view.seconds_since(view.attempt.running_time)) + 1


def _gpu_seconds(view: View) -> int:
    gpus = int(view.job.annotations.get(GPUS_ANNOTATION, "0"))
    if not view.pods and view.job.suspended:  # a queue took its pods away before they were looked at
        return round(view.seconds_since(view.attempt.running_time) * view.wanted * gpus)
    return round(sum(_pod_seconds(pod, view.now) for pod in view.pods) * gpus)


def _pod_seconds(pod: PodRecord, now: datetime) -> float:
    if pod.start_time is None:
        return 0.0
    finished = [container.finished for container in pod.containers if not container.init]
    last = max((time for time in finished if time), default=None) if all(finished) else None
    return max(0.0, rfc3339.seconds_between(pod.start_time, rfc3339.parse(last) if last else now))
