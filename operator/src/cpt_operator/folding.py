"""A trial at one moment, and its record of attempts with what is to be seen of the last one. Pure.

Cluster and store are folded into the record each turn, and what changed is written:

    its job has ended                      the attempt is closed with cause, exit code and GPU-seconds
    the store tells what it committed      the attempt is settled: the counters move
    a queue took its pods away             it goes on when they return; what it had is added up
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from cpt_api.conditions import Reason
from cpt_api.result import Progress, Result
from cpt_api.trial import Attempt, Attempts, CPTTrialSpec, CPTTrialStatus, Resources
from cpt_api.values import Digest
from cpt_operator import attempts as record_of
from cpt_operator import rfc3339
from cpt_operator.artifacts import Absent, Answer, Invalid, Present
from cpt_operator.attempts import End
from cpt_operator.backends import Observation
from cpt_operator.plan.types import Finding
from cpt_operator.records import TrialRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialView:
    """Everything a verdict depends on, at one moment."""

    record: TrialRecord
    status: CPTTrialStatus
    now: datetime
    spec: CPTTrialSpec | None
    """As written; None when it does not parse."""
    refused: Finding | None
    """The spec is invalid, or the administrator does not allow it."""
    resources: Resources
    """Complete."""
    resolved: CPTTrialSpec | None
    """With a digest in every reference; None while `unresolved`."""
    unresolved: Finding | None
    digest: Digest | None
    observation: Observation | None
    """Of the open attempt; None when its job does not exist."""
    forbidden: str | None = None
    """What the training-operator says about pods that it may not create."""
    leaving_seconds: float | None = None
    """Pods of earlier attempts may still end well: for so long at most."""
    spent_gpu_seconds: int = 0
    """Of an open attempt whose job is gone."""
    result: Answer[Result] | None = None
    """None: it was not asked for."""
    progress: Answer[Progress] | None = None
    """None: it was not asked for."""
    holder: str | None = None
    """The equal trial whose turn it is."""
    was_in_line: bool = False
    """Its last turn found that it waits for nothing but a place."""
    no_place: Finding | None = None
    """Why its experiment has none for it yet."""
    no_gpus: Finding | None = None
    """Why its namespace has none for it yet."""
    backend_served: bool = True

    @property
    def stop(self) -> Reason | None:
        """Why the user wants no attempt of it."""
        if self.spec and self.spec.run.cancel:
            return Reason.CANCELLED
        return Reason.SUSPENDED if self.spec and self.spec.run.suspend else None

    @property
    def max_retries(self) -> int:
        """Counted ones."""
        wanted = self.spec.run.max_retries if self.spec else None
        return record_of.MAX_RETRIES if wanted is None else wanted


def folded(view: TrialView) -> Attempts:
    """The record of attempts with what the cluster tells about the open one."""
    record = view.status.attempts
    attempt = record_of.open_attempt(record)
    if attempt is None:
        return record
    seen = view.observation
    if seen is None:
        return _without_job(view, record, attempt)
    if seen.end is not None:
        if view.stop and view.leaving_seconds is not None and not seen.job_finished:
            return record  # its pods are saving: what they commit is still to be seen
        end = replace(seen.end, cause=view.stop) if view.stop and seen.end.cause is Reason.JOB_LOST else seen.end
        return record_of.closed(record_of.updated(record, job_uid=seen.job_uid), end, seen.gpu_seconds, view.now)
    return _with_observation(view, record, attempt, seen)


def _without_job(view: TrialView, record: Attempts, attempt: Attempt) -> Attempts:
    if view.stop:
        if view.leaving_seconds is not None:
            return record
        return record_of.closed(record, End(view.stop, "ended on request"), view.spent_gpu_seconds, view.now)
    if attempt.job_uid is None:
        return record  # it was not created yet
    return record_of.closed(
        record,
        End(Reason.JOB_LOST, "the PyTorchJob vanished before its end was seen"),
        view.spent_gpu_seconds,
        view.now,
    )


def _with_observation(view: TrialView, record: Attempts, attempt: Attempt, seen: Observation) -> Attempts:
    place = {"job_uid": seen.job_uid, "node": seen.node}
    if seen.suspended and attempt.running_time is not None:
        spent = (attempt.gpu_seconds or 0) + seen.gpu_seconds
        return record_of.updated(record, running_time=None, gpu_seconds=spent)
    if seen.all_running and attempt.running_time is None:
        # never before its pods by the API server's clock: a pod that is younger than this was put in another's place
        since = max(rfc3339.text(view.now), seen.newest_pod or "")
        return record_of.updated(record, running_time=since, **place)
    # written along with what must be written anyway
    return record_of.updated(record, **place) if seen.trouble or view.forbidden else record


def settled(view: TrialView, record: Attempts) -> Attempts:
    """The record with the counters of a closed attempt, if the store has told what it committed."""
    if record_of.is_settled(record):
        return record
    said = view.observation.end.committed_step if view.observation and view.observation.end else None
    match view.result, view.progress:
        case Present(document=result), _:
            return record_of.updated(record, committed_step=result.checkpoint.step if result.checkpoint else 0)
        case Absent() | Invalid(), Present(document=progress):
            # written every 15 s; a pod that was told to stop may have committed since
            return record_of.settled(record, max(progress.committed_step, said or 0))
        case Absent() | Invalid(), Absent() | Invalid():
            return record_of.settled(record, said or 0)
        case _:
            return record
