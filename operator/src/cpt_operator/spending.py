"""What trials have taken until now, attempts that are still open among it.

    1,200 GPU-seconds in attempts that ended, an open one of 8 GPUs since 10 s    -> 1,280, and 8 more a second

An open one counts from when all its pods were first seen running: a little less than its end will say.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cpt_operator import rfc3339
from cpt_operator.backends.pytorchjob import GPUS_ANNOTATION
from cpt_operator.records import JobRecord, TrialRecord
from cpt_operator.store import Store


@dataclass(frozen=True, slots=True)
class Spent:
    """By one attempt, or by all trials of an experiment."""

    gpu_seconds: float = 0.0
    """Pod time x GPUs."""
    gpus: int = 0
    """At work now: every second costs as many."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.gpu_seconds + other.gpu_seconds, self.gpus + other.gpus)


NOTHING = Spent()


def open_attempt(trial: TrialRecord, store: Store, now: datetime) -> Spent:
    """Of a trial at work, until now; nothing while its pods are not all running."""
    began = trial.status["attempts"]["last"][-1].get("runningTime")
    if not began:
        return NOTHING
    gpus = sum(_gpus(job) for job in store.jobs_of(trial.uid) if not _has_ended(job))
    return Spent(max(0.0, rfc3339.seconds_between(began, now)) * gpus, gpus)


def _gpus(job: JobRecord) -> int:
    return int(job.annotations.get(GPUS_ANNOTATION, "0")) * sum(job.replicas.values())


def _has_ended(job: JobRecord) -> bool:
    return any(c.type in ("Succeeded", "Failed") and c.status == "True" for c in job.conditions)
