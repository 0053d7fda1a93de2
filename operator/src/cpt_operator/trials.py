"""Reconcile one trial: gather a frozen view, judge it (pure), write the status once, then act.

    turn 1   inputs are there, no result, a place is free   status: attempt 1, Starting;   job <trial>-1 is created
    turn 2   its pods run                                   status: Running
    turn 3   the job succeeded, result.json is there        status: Completed

The record of an attempt is written before its job exists, so that no number is used twice and no attempt is forgotten,
wherever the operator dies. Price: seven writes for a trial that goes well, its creation and the job's included, and a
read of `progress.json` per 30 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, cast

import structlog

from cpt_api import PROTOCOL
from cpt_api.conditions import ConditionType, Reason
from cpt_api.names import job_name
from cpt_api.trial import Attempts, CPTTrialStatus, TrialDocument
from cpt_api.values import Digest
from cpt_operator import attempts as record_of
from cpt_operator import rfc3339
from cpt_operator.admission import next_in_line, place_of
from cpt_operator.artifacts import Present
from cpt_operator.backends import SpecTooLargeError, pytorchjob
from cpt_operator.children import TITLE_ANNOTATION
from cpt_operator.cluster import AlreadyExists, Forbidden, NotServed, Rejected
from cpt_operator.folding import TrialView, folded, settled
from cpt_operator.gather import (
    PROGRESS,
    PROGRESS_SECONDS,
    bare_view,
    gather,
    is_orphan,
    places,
    with_competition,
    with_result,
)
from cpt_operator.kinds import Key, Kind
from cpt_operator.records import Record, TrialRecord
from cpt_operator.runtime import Requeue, Runtime
from cpt_operator.standing import has_ended, has_succeeded, is_at_work
from cpt_operator.status import Phase
from cpt_operator.trialstatus import next_status
from cpt_operator.verdicts import Verdict, judge, needs_store

log = structlog.get_logger()

_CREATE_SECONDS = 30
"""Before a job that could not be created is tried again."""
_COLLECTOR_SECONDS = 3
"""Before a name that the garbage collector is about to free is tried again."""


async def reconcile_trial(runtime: Runtime, key: Key) -> Requeue | None:
    """The next step of one trial."""
    record = runtime.store.trial(key.namespace, key.name)
    if record is None or record.deleting or is_orphan(runtime, record):
        runtime.memory.stand_in_line(key, waits=False)
        return None
    if has_ended(record.status):
        ended = bare_view(runtime, record)
        due_seconds = await _delete_jobs(runtime, ended, ended.status.attempts)
        return None if due_seconds is None else Requeue(due_seconds)
    view = await gather(runtime, record)
    attempts = settled(view, folded(view))
    verdict = judge(view, attempts)
    if needs_store(view, attempts, verdict):
        view = with_competition(runtime, await with_result(runtime, view, attempts))
        attempts = settled(view, attempts)
        verdict = judge(view, attempts)
    # from here to the reservation nothing awaits: no other worker can have taken the place meanwhile
    return await _act(runtime, view, attempts, verdict)


# --- act --------------------------------------------------------------------------------------------------------------


async def _act(runtime: Runtime, view: TrialView, attempts: Attempts, verdict: Verdict) -> Requeue | None:
    body = None
    if verdict.start or verdict.create:
        try:
            body = _render(runtime, view, attempts, verdict)
        except SpecTooLargeError as error:
            verdict = Verdict(Phase.STUCK, Reason.SPEC_TOO_LARGE, str(error))
    # before anything is awaited: who frees a place meanwhile must find this trial in line
    waits = verdict.reason is Reason.QUEUED and not is_at_work(view.record.status)
    runtime.memory.stand_in_line(view.record.key, waits=waits)
    with ExitStack() as reservation:
        if verdict.start and view.digest:
            reservation.enter_context(runtime.memory.starting(view.record.key, view.digest))
        record = view.record
        if not verdict.create:
            record = await _write(runtime, view, attempts, verdict)
        if verdict.start:
            attempts = record_of.opened(attempts, view.now)
    if body is not None:
        problem = await _create(runtime, record, body)
        if problem is not None:
            now_view = replace(view, record=record, status=CPTTrialStatus.model_validate(record.status))
            await _write(runtime, now_view, now_view.status.attempts, problem)
            return _requeue(runtime, view, problem)
    due_seconds = await _delete_jobs(runtime, view, attempts)
    _wake(runtime, view, attempts, verdict, changed=record is not view.record)
    return _requeue(runtime, view, verdict, due_seconds)


def _render(runtime: Runtime, view: TrialView, attempts: Attempts, verdict: Verdict) -> dict[str, Any]:
    assert view.digest is not None
    assert view.resolved is not None
    document = TrialDocument(
        namespace=view.record.namespace,
        name=view.record.name,
        digest=view.digest,
        attempt=attempts.total + verdict.start,
        protocol=view.resolved.protocol or PROTOCOL,
        spec=view.resolved,
    )
    avoided = record_of.avoided_nodes(attempts)
    return pytorchjob.render(view.record, document, view.resources, runtime.settings, avoided)


async def _write(runtime: Runtime, view: TrialView, attempts: Attempts, verdict: Verdict) -> TrialRecord:
    """Write the status if it says something new, then the events."""
    uri = runtime.settings.artifact_store.uri
    status = next_status(view, attempts, verdict, uri, _text_names(runtime, view))
    if verdict.reason is Reason.REUSED:
        status = status.model_copy(update={"reused_from": _reused_from(runtime, view)})
    if status == view.status:
        return view.record
    written = cast("TrialRecord", await runtime.cluster.apply_status(view.record, status.to_dict()))
    log.info("trial", trial=view.record.name, namespace=view.record.namespace, reason=verdict.reason.value)
    for reason, message in _warnings(view, attempts, verdict):
        await runtime.cluster.event(view.record, "Warning", reason, message)
    if news := _news(view, status, verdict):
        await runtime.cluster.event(view.record, "Normal", verdict.reason.value, news)
    return written


def _warnings(view: TrialView, attempts: Attempts, verdict: Verdict) -> list[tuple[str, str]]:
    """What deserves an event: an attempt that ended badly, a cause that keeps the trial from going on."""
    found = []
    before = record_of.open_attempt(view.status.attempts)
    last = attempts.last[-1] if attempts.last else None
    if before and last and last.cause and last.cause not in _GOOD_ENDS:
        found.append((last.cause, f"attempt {last.number}: {last.message}"))
    old = next((c.reason for c in view.status.conditions if c.type == ConditionType.SUCCEEDED), "")
    if verdict.reason != old and (verdict.phase in (Phase.STUCK, Phase.FAILED) or verdict.reason in _POD_TROUBLES):
        found.append((verdict.reason.value, verdict.message))
    return found


def _news(view: TrialView, status: CPTTrialStatus, verdict: Verdict) -> str:
    """What an evaluation has found, for those who wait for it; a reused one has told it before."""
    is_new = verdict.reason is Reason.COMPLETED and view.status.result_digest != status.result_digest
    if not (is_new and view.spec and view.spec.evaluate):
        return ""
    return ", ".join(f"{score.suite} {score.score} (standard error {score.stderr})" for score in status.scores)


_GOOD_ENDS = frozenset({Reason.COMPLETED, Reason.DIVERGED, Reason.SUSPENDED, Reason.CANCELLED})
_POD_TROUBLES = frozenset(
    {Reason.IMAGE_PULL_FAILED, Reason.CONTAINER_CONFIG_ERROR, Reason.UNSCHEDULABLE, Reason.POD_FORBIDDEN}
)


def _text_names(runtime: Runtime, view: TrialView) -> Mapping[Digest, str]:
    """Held-out texts by what people call them, those of the experiment's target first."""
    answers = [answer.document for answer in (view.result, view.progress) if isinstance(answer, Present)]
    texts = {score.text for document in answers for score in document.held_out}
    names = {text: name for text in texts if (name := _text_name(runtime, view.record, text))}
    target = _target_names(runtime, view.record)
    return dict(sorted(names.items(), key=lambda item: (item[1] not in target, item[1])))


def _text_name(runtime: Runtime, record: TrialRecord, text: Digest) -> str | None:
    """As its own experiment calls it, since another may call the same data differently; else its trial's name."""
    equals = runtime.store.trials_with_digest(record.namespace, text)
    trial = next((e for e in equals if e.owner_uid == record.owner_uid), equals[0] if equals else None)
    if trial is None:
        return None
    title = trial.annotations.get(TITLE_ANNOTATION, "")
    return title if title and title.replace("-", "").isalnum() else trial.name


def _target_names(runtime: Runtime, record: TrialRecord) -> set[str]:
    owner = runtime.store.experiment(record.namespace, record.owner_name or "")
    target = (owner.spec.get("evaluation") or {}).get("target") or {} if owner else {}
    return {text["name"] for text in target.get("data") or ()} | set(target.get("datasets") or ())


def _reused_from(runtime: Runtime, view: TrialView) -> str:
    equals = runtime.store.trials_with_digest(view.record.namespace, view.digest or "")
    return next((e.name for e in equals if e.uid != view.record.uid and e.standing.has_succeeded), "store")


async def _create(runtime: Runtime, record: TrialRecord, body: Mapping[str, Any]) -> Verdict | None:
    """Create the attempt's job; what is in the way, if it cannot be."""
    name = body["metadata"]["name"]
    try:
        created = await runtime.cluster.create(Kind.JOB, body)
    except (Forbidden, Rejected) as error:
        text = f"PyTorchJob {name} could not be created: {error}"
        return Verdict(Phase.QUEUED, Reason.POD_FORBIDDEN, text, look_again_seconds=_CREATE_SECONDS)
    except NotServed:
        text = "PyTorchJob is not served by this cluster: install training-operator 1.9"
        return Verdict(Phase.STUCK, Reason.BACKEND_MISSING, text, look_again_seconds=_CREATE_SECONDS)
    if isinstance(created, AlreadyExists) and created.record.owner_uid != record.uid:
        return _in_the_way(runtime, created.record)
    return None


def _in_the_way(runtime: Runtime, job: Record) -> Verdict:
    """Another's job has the name: of a trial of this name that was deleted, and the collector comes for it; or not."""
    owner = runtime.store.trial(job.namespace, job.owner_name or "")
    is_left_over = job.owner_kind == Kind.TRIAL.kind and (owner is None or owner.uid != job.owner_uid)
    if job.deleting or is_left_over:
        text = f"waits until PyTorchJob {job.name} of the trial that had this name before is gone"
        return Verdict(Phase.RUNNING, Reason.STARTING, text, look_again_seconds=_COLLECTOR_SECONDS)
    text = f"a PyTorchJob {job.name} exists and is not this trial's: delete it, and the trial goes on"
    return Verdict(Phase.STUCK, Reason.NAME_TAKEN, text, look_again_seconds=_CREATE_SECONDS)


async def _delete_jobs(runtime: Runtime, view: TrialView, attempts: Attempts) -> float | None:
    """Jobs whose attempt has ended, or shall end; when the next one is due, in seconds.

    A finished job re-creates nothing and stays for its logs; any other would make its pods again. A job without a
    record is of an attempt that another leader has just begun: it was seen before the status that tells of it.
    """
    settings, attempt = runtime.settings, record_of.open_attempt(attempts)
    name = view.record.name
    closed = {job_name(name, a.number): a.completion_time for a in attempts.last}
    last = job_name(name, attempts.total)
    recorded = {job_name(name, number) for number in range(1, attempts.total + 1)}
    waits = []
    for job in runtime.store.jobs_of(view.record.uid):
        is_open = attempt is not None and job.name == last
        if (
            job.deleting
            or job.name not in recorded
            or (is_open and not (view.stop and not pytorchjob.is_finished(job)))
        ):
            continue
        is_last_failure = job.name == last and not has_succeeded(view.record.status)
        ttl = settings.failed_jobs_ttl_seconds if is_last_failure else settings.finished_jobs_ttl_seconds
        since = closed.get(job.name) or job.completion_time or job.created
        left = ttl - rfc3339.seconds_between(since, view.now)
        if left > 0 and pytorchjob.is_finished(job):
            waits.append(left + 1)
        else:
            await runtime.cluster.delete(job)
    return min(waits, default=None)


def _wake(runtime: Runtime, view: TrialView, attempts: Attempts, verdict: Verdict, *, changed: bool) -> None:
    """When this trial gave a place back, or cannot use the one that it is offered, others look again."""
    record, store, in_line = view.record, runtime.store, runtime.memory.is_in_line
    was_at_work = is_at_work(record.status)
    has_left = was_at_work and record_of.open_attempt(attempts) is None
    others: list[TrialRecord] = []
    if has_left or (changed and not verdict.start and (view.was_in_line or verdict.phase in _OUT)):
        line = store.trials(record.namespace) if has_left else store.trials_of(record.owner_uid or "")
        others = next_in_line(line, places(runtime, record), in_line)
        others += [e for e in store.trials_with_digest(record.namespace, view.digest or "") if not e.standing.has_ended]
    elif in_line(record.key):
        # who is told to wait for others makes sure that they look; never the other way round
        line = store.trials_of(record.owner_uid or "")
        line = next_in_line(line, places(runtime, record), in_line)
        others = [other for other in line if place_of(other) < place_of(record)]
    for other in others:
        if other.uid != record.uid:
            runtime.queue.add(other.key)


_OUT = frozenset({Phase.FINISHED, Phase.FAILED, Phase.STUCK, Phase.SUSPENDED})
"""Phases in which a trial uses no place."""


def _requeue(
    runtime: Runtime, view: TrialView, verdict: Verdict, job_due_seconds: float | None = None
) -> Requeue | None:
    waits = [verdict.look_again_seconds, job_due_seconds]
    if verdict.reason is Reason.RUNNING:
        due_seconds = runtime.memory.due_in_seconds(PROGRESS, view.record.uid, PROGRESS_SECONDS, view.now.timestamp())
        waits.append(due_seconds or PROGRESS_SECONDS)
    known = [seconds for seconds in waits if seconds is not None]
    return Requeue(max(1.0, min(known))) if known else None
