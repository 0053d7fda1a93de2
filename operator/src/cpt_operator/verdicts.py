"""What a trial's present state means, and what is to be done. Pure.

A turn looks at one frozen `TrialView` and asks the checks in order; the first verdict counts. The reason of the verdict
is the word in the condition, the event and column STATUS.

    open attempt, all pods run        -> Running
    attempt ended, result.json there  -> Completed: the result is looked at before any exit code
    nothing yet, inputs there, place  -> Starting: the attempt is recorded, then its job is made
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cpt_api import KNOWN_PROTOCOLS
from cpt_api.conditions import Reason
from cpt_api.layout import data_prefix
from cpt_api.result import Outcome
from cpt_api.trial import Attempts
from cpt_operator import attempts as record_of
from cpt_operator.artifacts import Invalid, Present, Refused, Unreachable
from cpt_operator.folding import TrialView
from cpt_operator.status import Phase

_STORE_SECONDS = 10
"""Between two looks at a store that does not answer; the store itself is asked less often."""
_LOOK_SECONDS = 60
"""Between two looks at something that changes without an event."""
_QUEUED_SECONDS = 300
"""A trial in a queue is woken when a place becomes free; this is for a call that got lost."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the trial's state is called, and what to do about it."""

    phase: Phase
    reason: Reason
    message: str
    start: bool = False
    """Record the next attempt, then make its job."""
    create: bool = False
    """The attempt is recorded and its job does not exist yet."""
    mere_wait: bool = False
    """Not worth a write where the status says already that the trial waits for its turn."""
    look_again_seconds: float | None = None
    """Unasked."""


_NEEDS_SOMEBODY = frozenset({Reason.QUEUE_DEACTIVATED, Reason.QUEUE_STUCK})
"""Of what keeps an attempt's pods from running: nobody but a person will end it."""

Check = Callable[[TrialView, Attempts], Verdict | None]


# --- the checks -------------------------------------------------------------------------------------------------------


def at_work(view: TrialView, record: Attempts) -> Verdict | None:
    """An attempt is open."""
    attempt = record_of.open_attempt(record)
    if attempt is None:
        return None
    seen = view.observation
    if view.stop:
        return Verdict(
            Phase.RUNNING,
            Reason.RUNNING,
            "stops at a checkpoint",
            look_again_seconds=view.leaving_seconds or _LOOK_SECONDS,
        )
    if seen is None:
        if view.refused or view.unresolved:
            return None  # its spec changed since, or an input vanished: the checks below say so
        return Verdict(Phase.RUNNING, Reason.STARTING, f"attempt {attempt.number} is being created", create=True)
    if seen.trouble:
        phase = Phase.STUCK if seen.trouble.reason in _NEEDS_SOMEBODY else Phase.QUEUED
        return Verdict(phase, seen.trouble.reason, seen.trouble.message, look_again_seconds=seen.look_again_seconds)
    if view.forbidden:
        return Verdict(Phase.QUEUED, Reason.POD_FORBIDDEN, view.forbidden, look_again_seconds=seen.look_again_seconds)
    if attempt.running_time is not None:
        return Verdict(
            Phase.RUNNING,
            Reason.RUNNING,
            f"attempt {attempt.number} is at work",
            look_again_seconds=seen.look_again_seconds,
        )
    return Verdict(
        Phase.RUNNING,
        Reason.STARTING,
        f"attempt {attempt.number}: its pods are not all running yet",
        look_again_seconds=seen.look_again_seconds,
    )


def refused(view: TrialView, _: Attempts) -> Verdict | None:
    """It cannot be carried out as written, or is not allowed."""
    return Verdict(Phase.STUCK, view.refused.reason, view.refused.message) if view.refused else None


def protocol_unsupported(view: TrialView, _: Attempts) -> Verdict | None:
    """Made by another operator."""
    protocol = view.spec.protocol if view.spec else None
    if protocol is None or protocol in KNOWN_PROTOCOLS:
        return None
    known = ", ".join(map(str, sorted(KNOWN_PROTOCOLS)))
    return Verdict(
        Phase.STUCK,
        Reason.PROTOCOL_UNSUPPORTED,
        f"protocol {protocol}: this operator knows {known}; use one that knows it",
    )


def cancelled(view: TrialView, _: Attempts) -> Verdict | None:
    """By the user, for good."""
    if view.stop is not Reason.CANCELLED:
        return None
    return Verdict(Phase.FAILED, Reason.CANCELLED, "run.cancel was set")


def unresolved(view: TrialView, _: Attempts) -> Verdict | None:
    """An input is not there yet, or never will be."""
    finding = view.unresolved
    if finding is None:
        return None
    if finding.reason is Reason.WAITING_FOR_INPUT:
        return Verdict(Phase.QUEUED, finding.reason, finding.message)
    if finding.reason is Reason.STORE_UNAVAILABLE:
        return Verdict(Phase.QUEUED, finding.reason, finding.message, look_again_seconds=_STORE_SECONDS)
    return Verdict(Phase.STUCK, finding.reason, finding.message, look_again_seconds=_LOOK_SECONDS)


def store_silent(view: TrialView, record: Attempts) -> Verdict | None:
    """No decision without a definite answer of the store."""
    answers = [view.result] if record_of.is_settled(record) else [view.result, view.progress]
    for answer in answers:
        if isinstance(answer, Unreachable):
            return Verdict(Phase.QUEUED, Reason.STORE_UNAVAILABLE, answer.message, look_again_seconds=_STORE_SECONDS)
        if isinstance(answer, Refused):
            return Verdict(Phase.STUCK, Reason.STORE_REFUSED, answer.message, look_again_seconds=_LOOK_SECONDS)
    return None


def completed(view: TrialView, record: Attempts) -> Verdict | None:
    """`result.json` is there."""
    if isinstance(view.result, Invalid):
        return Verdict(
            Phase.STUCK,
            Reason.RESULT_INVALID,
            f"{view.result.message}; it is not believed: remove it from the store",
            look_again_seconds=_LOOK_SECONDS,
        )
    if not isinstance(view.result, Present):
        return None
    result = view.result.document
    if result.outcome is Outcome.DIVERGED:
        return Verdict(Phase.FINISHED, Reason.DIVERGED, "training diverged, which is a result")
    if record.total == 0:
        return Verdict(Phase.FINISHED, Reason.REUSED, "an equal result existed")
    found = f"{len(result.findings)} findings" if result.outcome is Outcome.FINDINGS else "the result is committed"
    return Verdict(Phase.FINISHED, Reason.COMPLETED, f"{found}; attempts: {record.total}")


def given_up(view: TrialView, record: Attempts) -> Verdict | None:
    """No further attempt makes sense."""
    finding = record_of.given_up(record, view.max_retries)
    if finding is None:
        return None
    assert view.digest, "who had attempts was resolved"
    logs = f"{data_prefix(view.record.namespace, view.digest)}logs/"
    return Verdict(
        Phase.FAILED,
        finding.reason,
        f"{finding.message}; the ends of all logs lie in the store below {logs}; delete the trial to try again",
    )


def equal_at_work(view: TrialView, _: Attempts) -> Verdict | None:
    """Each digest is trained once."""
    if view.holder is None:
        return None
    return Verdict(
        Phase.QUEUED,
        Reason.WAITING_FOR_EQUAL_TRIAL,
        f"trial {view.holder} does the same work; its result will be shared",
        look_again_seconds=_LOOK_SECONDS,
    )


def suspended(view: TrialView, _: Attempts) -> Verdict | None:
    """By the user, or by its experiment."""
    return Verdict(Phase.SUSPENDED, Reason.SUSPENDED, "run.suspend is set") if view.stop else None


def backing_off(view: TrialView, record: Attempts) -> Verdict | None:
    """The last attempt ended early; the next one starts after a pause, and after pods that still save."""
    begin = record_of.not_before(record)
    wait_seconds = max((begin - view.now).total_seconds() if begin else 0.0, view.leaving_seconds or 0.0)
    if wait_seconds <= 0:
        return None
    last = record.last[-1]
    return Verdict(
        Phase.QUEUED,
        Reason.RETRYING,
        f"attempt {last.number} ended with {last.cause}: {last.message}",
        look_again_seconds=wait_seconds,
    )


def backend_missing(view: TrialView, _: Attempts) -> Verdict | None:
    """There is nothing to run it."""
    if view.backend_served:
        return None
    return Verdict(
        Phase.STUCK, Reason.BACKEND_MISSING, "PyTorchJob is not served by this cluster: install training-operator 1.9"
    )


def no_place(view: TrialView, _: Attempts) -> Verdict | None:
    """Others go first."""
    if view.no_place is None:
        return None
    finding = view.no_place
    return Verdict(Phase.QUEUED, finding.reason, finding.message, mere_wait=True, look_again_seconds=_QUEUED_SECONDS)


def no_gpus(view: TrialView, _: Attempts) -> Verdict | None:
    """Others use them."""
    finding = view.no_gpus
    if finding is None:
        return None
    return Verdict(Phase.QUEUED, finding.reason, finding.message, look_again_seconds=_QUEUED_SECONDS)


def start(_: TrialView, record: Attempts) -> Verdict | None:
    """Nothing is in the way."""
    return Verdict(Phase.RUNNING, Reason.STARTING, f"attempt {record.total + 1} is being created", start=True)


CHECKS: tuple[Check, ...] = (  # the first verdict counts; the order has its own test
    at_work,  # what runs, runs on: nothing below stops it but its own end
    refused,  # nothing else can be judged
    protocol_unsupported,
    cancelled,
    unresolved,  # without a digest there is no result to look for
    store_silent,
    completed,  # before any exit code
    given_up,
    suspended,
    equal_at_work,
    backing_off,
    backend_missing,
    no_place,  # last: who is in line waits for nothing else
    no_gpus,
    start,
)


def judge(view: TrialView, record: Attempts) -> Verdict:
    """The first verdict."""
    return next(verdict for check in CHECKS if (verdict := check(view, record)) is not None)


def needs_store(view: TrialView, record: Attempts, verdict: Verdict) -> bool:
    """Whether the verdict may change with what the store says: before a start, after an end, at first sight."""
    if view.result is not None or view.digest is None:
        return False
    is_first_look = view.status.digest is None and not view.was_in_line
    waits = verdict.reason in (Reason.QUEUED, Reason.WAITING_FOR_EQUAL_TRIAL, Reason.SUSPENDED, Reason.BACKEND_MISSING)
    return (
        verdict.start
        or not record_of.is_settled(record)
        or (is_first_look and waits and not record_of.open_attempt(record))
    )
