"""One attempt's job and pods at one moment: what they say by themselves, and why pods are not running."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cpt_api.conditions import Reason
from cpt_api.trial import Attempt
from cpt_operator import rfc3339
from cpt_operator.backends import Limits
from cpt_operator.backends.pytorchjob.manifest import CONTAINER
from cpt_operator.plan.types import Finding
from cpt_operator.records import ContainerRecord, JobRecord, PodRecord, WorkloadRecord

NODE_GONE = frozenset({"DeletionByTaintManager", "DeletionByPodGC"})
"""Reasons of DisruptionTarget: nobody on the node will ever confirm the end."""
_PULL = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"})
_SET_UP = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
UNSCHEDULABLE_SECONDS = 15
"""A pod that waits shorter for a node is not worth a word."""
FORBIDDEN_SECONDS = 20
"""A pod that is missing for so long was probably forbidden."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One attempt's job and pods at one moment."""

    job: JobRecord
    pods: Sequence[PodRecord]
    attempt: Attempt
    limits: Limits
    now: datetime
    workload: WorkloadRecord | None = None
    """Its place in Kueue's queue, where that is known."""

    @property
    def wanted(self) -> int:
        """Pods that the job should have."""
        return sum(self.job.replicas.values())

    @property
    def all_running(self) -> bool:
        """Whether every one of them runs, or has ended well. What a queue is about to take away counts no more."""
        return not self.job.suspended and len(self.pods) >= self.wanted and all(map(_is_up, self.pods))

    def seconds_since(self, time: str | None) -> float:
        """0 when there is no such time."""
        return max(0.0, rfc3339.seconds_between(time, self.now)) if time else 0.0

    @property
    def starting_seconds(self) -> float:
        """Since its pods could be created: a queue's pause does not count."""
        return min(self.seconds_since(self.job.created), self.seconds_since(self.job.start_time or self.job.created))


def is_finished(job: JobRecord) -> bool:
    """It re-creates no pods, and may stay for its logs."""
    return is_true(job, "Succeeded") or is_true(job, "Failed")


def may_still_save(pod: PodRecord) -> bool:
    """Whether a pod may still commit a checkpoint: its container has not ended, and its node is there."""
    main = main_of(pod)
    target = pod.condition("DisruptionTarget")
    node_gone = target is not None and target.status == "True" and target.reason in NODE_GONE
    return pod.phase in ("Pending", "Running") and not node_gone and not (main and main.exit_code is not None)


def is_true(record: JobRecord | PodRecord | WorkloadRecord, type_: str) -> bool:
    """Whether the condition of that type holds."""
    condition = record.condition(type_)
    return condition is not None and condition.status == "True"


def main_of(pod: PodRecord) -> ContainerRecord | None:
    """The container that does the trial's work."""
    return pod.container(CONTAINER)


def _is_up(pod: PodRecord) -> bool:
    main = main_of(pod)
    return main is not None and not pod.deleting and (main.running_since is not None or main.exit_code == 0)


def trouble_of(view: View) -> Finding | None:
    """Why its pods are not running."""
    for pod in view.pods:
        for container in pod.containers:
            text = f"pod {pod.name}: {container.waiting_reason}: {container.waiting_message or ''}"
            if container.waiting_reason in _PULL:
                return Finding(Reason.IMAGE_PULL_FAILED, text)
            if container.waiting_reason in _SET_UP:
                return Finding(Reason.CONTAINER_CONFIG_ERROR, text)
    for pod in view.pods:
        waited = unscheduled_seconds(view, pod)
        scheduled = pod.condition("PodScheduled")
        if scheduled and waited is not None and waited >= UNSCHEDULABLE_SECONDS:
            return Finding(Reason.UNSCHEDULABLE, f"pod {pod.name}: {scheduled.message}")
    return None


def unscheduled_seconds(view: View, pod: PodRecord) -> float | None:
    """How long the scheduler has found no node for the pod; None when it has, or has not tried."""
    scheduled = pod.condition("PodScheduled")
    if scheduled is None or scheduled.status != "False" or scheduled.reason != "Unschedulable":
        return None
    return view.seconds_since(pod.created)
