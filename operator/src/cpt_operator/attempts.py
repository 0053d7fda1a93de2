"""Attempts of a trial: how one ended, what that means for the next, and the record of what cannot be seen again. Pure.

    end of an attempt         cause               means        next attempt
    exit 0, 5                 Completed, Diverged  the result says
    exit 3, 4, 6              ConfigError, …       Permanent    none: the trial failed
    exit 1, 137, 139, 210 …   Exited, Killed, …    Counted      after 10 s · 2^n, at most maxRetries without progress
    exit 212                  OutOfMemory          Free         at once, with half the micro-batch
    143, DisruptionTarget     Terminated, …        Free         at once, at most three in a row without progress

An attempt is *closed* when its end is first seen (cause, exit code, GPU-seconds: they vanish with the pods), and
*settled* when the store has told which step it committed: only then do the counters move. Both usually happen in one
turn; when the store does not answer, the cause is safe and the counting waits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cpt_api.conditions import Reason
from cpt_api.exits import Ending, ExitCode
from cpt_api.trial import Attempt, Attempts
from cpt_operator import rfc3339
from cpt_operator.plan.types import Finding

KEPT = 10
"""Attempts whose details stand in the status; totals count all."""
MAX_RETRIES = 3
"""Counted retries of a trial that does not say."""
MAX_DISRUPTIONS = 3
"""Free ends in a row without a new step; then the cluster is too restless for this trial."""
_FIRST_PAUSE_SECONDS = 10
_LONGEST_PAUSE_SECONDS = 300
_MESSAGE_MAX = 1024
_STEP_MAX = 2**53

_BY_CODE: Mapping[int, Reason] = {
    ExitCode.COMMITTED: Reason.COMPLETED,
    ExitCode.CONFIG: Reason.CONFIG_ERROR,
    ExitCode.DATA: Reason.DATA_ERROR,
    ExitCode.DIVERGED: Reason.DIVERGED,
    ExitCode.DOES_NOT_FIT: Reason.DOES_NOT_FIT,
    ExitCode.KILLED: Reason.KILLED,
    ExitCode.SEGMENTATION_FAULT: Reason.KILLED,
    ExitCode.TERMINATED: Reason.TERMINATED,
    ExitCode.HANG: Reason.HANG,
    ExitCode.STORAGE: Reason.STORAGE_ERROR,
    ExitCode.HALVE_MICRO_BATCH: Reason.OUT_OF_MEMORY,
}

DISRUPTIONS = frozenset({Reason.TERMINATED, Reason.DISRUPTED, Reason.NODE_LOST, Reason.POD_LOST, Reason.JOB_LOST})
"""Free ends that nobody asked for."""
_OTHER_FREE = frozenset({Reason.SUSPENDED, Reason.CANCELLED, Reason.OUT_OF_MEMORY, Reason.UNSCHEDULABLE})
"""Free ends that somebody asked for, or that are bounded otherwise."""
PERMANENT = frozenset({Reason.CONFIG_ERROR, Reason.DATA_ERROR, Reason.DOES_NOT_FIT, Reason.SOURCE_CHANGED})
"""The same attempt would end the same way."""


@dataclass(frozen=True, slots=True)
class End:
    """How an attempt ended, as far as the cluster tells."""

    cause: Reason
    message: str
    exit_code: int | None = None
    node: str | None = None
    """Of the pod that ended it."""
    infrastructure: bool = False
    """The node is to blame rather than the trial."""
    committed_step: int | None = None
    """As the pod's last words say."""


@dataclass(frozen=True, slots=True)
class LastWords:
    """A trial's termination message: one JSON line, or whatever else the container printed last."""

    text: str
    reason: str | None = None
    committed_step: int | None = None

    @classmethod
    def parse(cls, message: str | None) -> LastWords:
        """Anything is taken: it is shown to people, and believed in nothing that matters."""
        text = (message or "").strip()
        try:
            document = json.loads(text.splitlines()[-1]) if text else None
        except ValueError:
            document = None
        if not isinstance(document, dict):
            return cls(text[-_MESSAGE_MAX:])
        reason, step = document.get("reason"), document.get("committedStep")
        return cls(
            str(document.get("message") or text)[:_MESSAGE_MAX],
            reason if isinstance(reason, str) else None,
            step if isinstance(step, int) and not isinstance(step, bool) and 0 <= step <= _STEP_MAX else None,
        )


def exited(code: int, message: str | None, node: str | None, *, oom_killed: bool = False) -> End:
    """The end of an attempt by a container that exited with `code`."""
    words = LastWords.parse(message)
    cause = _BY_CODE.get(code, Reason.EXITED)
    if cause is Reason.DATA_ERROR and words.reason == Reason.SOURCE_CHANGED:
        cause = Reason.SOURCE_CHANGED
    text = f"exit {code}" + (f": {words.text}" if words.text else "")
    if oom_killed:
        text = f"exit {code}: the kernel ended it at the pod's memory limit; raise resources.memory"
    return End(cause, text[:_MESSAGE_MAX], code, node, cause is Reason.HANG, words.committed_step)


def meaning(attempt: Attempt) -> Ending:
    """What a closed attempt's end means for the next one."""
    if attempt.cause in DISRUPTIONS or attempt.cause in _OTHER_FREE:
        return Ending.FREE
    if attempt.cause in PERMANENT:
        return Ending.PERMANENT
    return Ending.COUNTED  # Completed and Diverged without a result, too: an unkept promise


# --- the record -----------------------------------------------------------------------------------------------------


def open_attempt(record: Attempts) -> Attempt | None:
    """The attempt that has not ended, if there is one."""
    return record.last[-1] if record.last and record.last[-1].completion_time is None else None


def is_settled(record: Attempts) -> bool:
    """Whether the counters speak of the last attempt too."""
    return not record.last or record.last[-1].completion_time is None or record.last[-1].committed_step is not None


def opened(record: Attempts, now: datetime) -> Attempts:
    """With the next attempt. Written before its job is created, so that no number is used twice."""
    attempt = Attempt(number=record.total + 1, start_time=rfc3339.text(now))
    return record.model_copy(update={"total": attempt.number, "last": (*record.last, attempt)[-KEPT:]})


def updated(record: Attempts, **changes: object) -> Attempts:
    """With changed fields of the last attempt."""
    return record.model_copy(update={"last": (*record.last[:-1], record.last[-1].model_copy(update=changes))})


def closed(record: Attempts, end: End, gpu_seconds: int, now: datetime) -> Attempts:
    """With the end of the open attempt."""
    attempt = record.last[-1]
    spent = (attempt.gpu_seconds or 0) + gpu_seconds
    changed = updated(
        record,
        completion_time=rfc3339.text(now),
        cause=end.cause.value,
        message=end.message[:_MESSAGE_MAX],
        exit_code=end.exit_code,
        node=end.node or attempt.node,
        infrastructure_failure=end.infrastructure or None,
        gpu_seconds=spent,
    )
    return changed.model_copy(update={"gpu_seconds": record.gpu_seconds + spent})


def settled(record: Attempts, committed_step: int) -> Attempts:
    """With the step that the closed attempt committed, and counters that include it."""
    before = max((attempt.committed_step or 0 for attempt in record.last[:-1]), default=0)
    step = max(before, committed_step)
    progressed = step > before
    attempt = record.last[-1]
    is_counted = meaning(attempt) is Ending.COUNTED
    is_disruption = attempt.cause in DISRUPTIONS
    return updated(record, committed_step=step).model_copy(
        update={
            "fruitless": 0 if progressed else record.fruitless + is_counted,
            "disruptions": 0 if progressed else record.disruptions + is_disruption,
        }
    )


# --- what next --------------------------------------------------------------------------------------------------------


def given_up(record: Attempts, max_retries: int) -> Finding | None:
    """Why there is no next attempt; the record must be settled."""
    if not record.last or record.last[-1].completion_time is None:
        return None
    last = record.last[-1]
    if meaning(last) is Ending.PERMANENT:
        return Finding(Reason(last.cause or Reason.FAILED), last.message or "")
    if record.fruitless > max_retries:
        return Finding(
            Reason.ATTEMPTS_EXHAUSTED,
            f"{record.fruitless} attempts in a row committed no new step, maxRetries is {max_retries}; "
            f"the last ended with {last.cause}: {last.message}",
        )
    if record.disruptions >= MAX_DISRUPTIONS:
        return Finding(
            Reason.PREEMPTION_THRASHING,
            f"{record.disruptions} disruptions in a row before a new step was committed (attempts lasted "
            f"{_lengths(record.last[-MAX_DISRUPTIONS:])}); the last: {last.cause}: {last.message}",
        )
    if len(record.last) == KEPT and all(attempt.cause == Reason.OUT_OF_MEMORY for attempt in record.last):
        return Finding(Reason.DOES_NOT_FIT, f"out of memory {KEPT} times in a row: {last.message}")
    return None


def _lengths(attempts: Sequence[Attempt]) -> str:
    return ", ".join(
        f"{rfc3339.seconds_between(a.start_time, rfc3339.parse(a.completion_time)):.0f} s"
        for a in attempts
        if a.start_time and a.completion_time
    )


def not_before(record: Attempts) -> datetime | None:
    """When the next attempt may start; None: at once."""
    if not record.last or (last := record.last[-1]).completion_time is None:
        return None
    if meaning(last) is Ending.COUNTED:
        pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(max(record.fruitless - 1, 0), 10))
    elif last.cause == Reason.UNSCHEDULABLE:
        pause = _LONGEST_PAUSE_SECONDS  # it held nodes while others were missing: let somebody else have them
    else:
        return None
    return rfc3339.parse(last.completion_time) + timedelta(seconds=pause)


def avoided_nodes(record: Attempts) -> tuple[str, ...]:
    """Nodes of the last two infrastructure failures."""
    blamed = [attempt.node for attempt in record.last if attempt.infrastructure_failure and attempt.node]
    return tuple(sorted(set(blamed[-2:])))
