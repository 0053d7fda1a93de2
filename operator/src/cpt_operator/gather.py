"""Everything about one trial that its next step depends on, as one frozen view: from the store's records, and from the
artifact store where that matters. Nothing here writes.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import ValidationError

from cpt_api.conditions import Reason
from cpt_api.digest import trial_digest
from cpt_api.names import job_name
from cpt_api.trial import Attempts, CPTTrialSpec, CPTTrialStatus, Resources, Run
from cpt_api.values import Digest
from cpt_operator import attempts as record_of
from cpt_operator import rfc3339
from cpt_operator.admission import (
    complete_resources,
    gpus,
    no_gpus,
    no_place,
    not_allowed,
    not_consistent,
)
from cpt_operator.artifacts import Present, Refused, Unreachable
from cpt_operator.backends import Limits, Observation, pytorchjob
from cpt_operator.folding import TrialView
from cpt_operator.plan.types import Finding
from cpt_operator.records import JobRecord, PodRecord, TrialRecord
from cpt_operator.resolve import Input, World, preflight_names, resolve, trial_digests, trial_names
from cpt_operator.runtime import Runtime
from cpt_operator.standing import is_at_work

PROGRESS = "progress"
"""What the memory calls a read of `progress.json`."""
PROGRESS_SECONDS = 30
"""Between two of them."""


def is_orphan(runtime: Runtime, record: TrialRecord) -> bool:
    """Whether its experiment is gone or going: it gets nothing any more."""
    if record.owner_uid is None:
        return False
    owner = runtime.store.experiment(record.namespace, record.owner_name or "")
    return owner is None or owner.uid != record.owner_uid or owner.deleting is not None


def bare_view(runtime: Runtime, record: TrialRecord) -> TrialView:
    """What the record alone tells."""
    status = CPTTrialStatus.model_validate(record.status)
    return TrialView(
        record=record,
        status=status,
        now=runtime.now(),
        spec=None,
        refused=None,
        resources=Resources(),
        resolved=None,
        unresolved=None,
        digest=status.digest,
        observation=None,
        was_in_line=runtime.memory.is_in_line(record.key),
        backend_served=runtime.backend_served,
    )


async def gather(runtime: Runtime, record: TrialRecord) -> TrialView:
    """The view of a trial that has not ended."""
    view, settings = bare_view(runtime, record), runtime.settings
    try:
        spec = CPTTrialSpec.model_validate(record.spec)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "spec"
        return replace(view, refused=Finding(Reason.INVALID, f"{place}: {first['msg']}"))
    resources = complete_resources(spec.type, spec.run.resources, settings)
    view = replace(
        view,
        spec=spec,
        resources=resources,
        refused=not_allowed(resources, spec.run.priority_class_name, settings) or not_consistent(spec),
    )
    resolved = await _resolved(runtime, record, spec)
    if isinstance(resolved, Finding):
        view = replace(view, unresolved=resolved)
    else:
        view = replace(view, resolved=resolved, digest=trial_digest(resolved))
    return with_competition(runtime, await _with_attempt(runtime, view))


async def _resolved(runtime: Runtime, record: TrialRecord, spec: CPTTrialSpec) -> CPTTrialSpec | Finding:
    store, namespace = runtime.store, record.namespace
    named = [found for name in trial_names(spec) if (found := store.trial(namespace, name)) is not None]
    preflights = {}
    for name in preflight_names(spec):
        look = store.trial(namespace, name)
        if look is None or not look.standing.has_succeeded:
            continue
        look_spec = CPTTrialSpec.model_validate(look.spec)
        answer = await runtime.artifacts.result(namespace, trial_digest(look_spec), look_spec)
        if isinstance(answer, Unreachable | Refused):
            return Finding(Reason.STORE_UNAVAILABLE, answer.message)
        if isinstance(answer, Present):
            preflights[name] = answer.document
    world = World(
        by_name={found.name: Input.of(found) for found in named},
        by_digest={
            digest: [Input.of(found) for found in store.trials_with_digest(namespace, digest)]
            for digest in trial_digests(spec)
        },
        preflights=preflights,
        planned=record.owner_uid is not None,
    )
    return resolve(spec, world)


async def _with_attempt(runtime: Runtime, view: TrialView) -> TrialView:
    """With what can be seen of the open attempt, and of pods that are still leaving."""
    record, now = view.record, view.now
    attempt = record_of.open_attempt(view.status.attempts)
    job = runtime.store.job(record.namespace, job_name(record.name, attempt.number)) if attempt else None
    mine = job if job is not None and job.owner_uid == record.uid else None
    uids = {past.job_uid for past in view.status.attempts.last if past.job_uid}
    leaving = [
        pod
        for uid in uids | ({mine.uid} if mine and mine.deleting else set())
        if mine is None or mine.deleting or uid != mine.uid
        for pod in runtime.store.pods_of(uid)
    ]
    view = replace(view, leaving_seconds=_leaving_seconds(leaving, view))
    if attempt is None:
        return view
    if mine is None:
        return replace(view, spent_gpu_seconds=_spent(view, attempt.running_time))
    pods = runtime.store.pods_of(mine.uid)
    seen = pytorchjob.observe(mine, pods, attempt, _limits(runtime, view), now, runtime.store.workload_of(mine.uid))
    view = replace(view, observation=seen, forbidden=await _forbidden(runtime, mine, seen, view))
    if seen.end is None and attempt.running_time and view.digest:
        view = await _with_progress(runtime, view)
    return view


def _limits(runtime: Runtime, view: TrialView) -> Limits:
    run = view.spec.run if view.spec else Run()
    return Limits(runtime.settings.start_timeout_seconds, run.active_deadline_seconds)


def _leaving_seconds(pods: list[PodRecord], view: TrialView) -> float | None:
    """How long pods of ended jobs may still be saving; None when none is. Nobody waits for a node that is gone."""
    waits = [
        -rfc3339.seconds_between(pod.deleting, view.now) + 1 if pod.deleting else pytorchjob.GRACE_SECONDS
        for pod in pods
        if pytorchjob.may_still_save(pod)
    ]
    return max((wait for wait in waits if wait > 0), default=None)


def _spent(view: TrialView, since: str | None) -> int:
    """GPU-seconds of an attempt whose job is gone, at most."""
    return round(rfc3339.seconds_between(since, view.now) * gpus(view.resources)) if since else 0


async def _forbidden(runtime: Runtime, job: JobRecord, seen: Observation, view: TrialView) -> str | None:
    """Quota and Pod Security refusals exist only as events of the job."""
    age_seconds = rfc3339.seconds_between(job.created, view.now)
    if not seen.missing_pods or seen.end or age_seconds < pytorchjob.FORBIDDEN_SECONDS:
        return None
    events = await runtime.cluster.list_events(job.namespace, job.uid, "FailedCreatePod")
    return events[-1].message if events else None


async def _with_progress(runtime: Runtime, view: TrialView) -> TrialView:
    seconds = view.now.timestamp()
    if view.digest is None or runtime.memory.due_in_seconds(PROGRESS, view.record.uid, PROGRESS_SECONDS, seconds):
        return view
    runtime.memory.done(PROGRESS, view.record.uid, seconds)
    answer = await runtime.artifacts.progress(view.record.namespace, view.digest)
    attempt = record_of.open_attempt(view.status.attempts)
    if isinstance(answer, Present) and attempt and answer.document.attempt == attempt.number:
        return replace(view, progress=answer)
    return view


async def with_result(runtime: Runtime, view: TrialView, attempts: Attempts) -> TrialView:
    """With the store's answers, where they matter."""
    if view.digest is None or view.resolved is None:
        return view
    namespace = view.record.namespace
    result = await runtime.artifacts.result(namespace, view.digest, view.resolved)
    if record_of.is_settled(attempts) or isinstance(result, Present):
        return replace(view, result=result)
    return replace(view, result=result, progress=await runtime.artifacts.progress(namespace, view.digest))


def with_competition(runtime: Runtime, view: TrialView) -> TrialView:
    """With who else wants the same: equal trials, places of the experiment, GPUs of the namespace. Awaits nothing."""
    record, store, settings = view.record, runtime.store, runtime.settings
    is_starting = runtime.memory.is_starting
    place, graphics = None, None
    if record.owner_uid is not None:
        siblings = store.trials_of(record.owner_uid)
        place = no_place(record, siblings, places(runtime, record), is_starting, runtime.memory.is_in_line)
    cap = settings.caps.gpus_per_namespace
    if place is None and cap is not None:
        others = (trial for trial in store.trials(record.namespace) if trial.uid != record.uid)
        graphics = no_gpus(gpus(view.resources), cap, others, settings, is_starting)
    return replace(view, no_place=place, no_gpus=graphics, holder=_holder(runtime, record, view.digest))


def places(runtime: Runtime, record: TrialRecord) -> int:
    """Of the trial's experiment."""
    owner = runtime.store.experiment(record.namespace, record.owner_name or "")
    wanted = (owner.spec.get("scheduling") or {}).get("parallelTrials") if owner else None
    return wanted if isinstance(wanted, int) else runtime.settings.parallel_trials


def _holder(runtime: Runtime, record: TrialRecord, digest: Digest | None) -> str | None:
    """The equal trial whose turn it is: who has an attempt, else the oldest that can have one."""
    if digest is None:
        return None
    starting = runtime.memory.starting_with(record.namespace, digest)
    if starting is not None and starting != record.name:
        return starting
    equals = [e for e in runtime.store.trials_with_digest(record.namespace, digest) if e.uid != record.uid]
    at_work = next((e.name for e in equals if e.standing.is_at_work and not e.deleting), None)
    if at_work or is_at_work(record.status):
        return at_work
    # an older one that waits for a place of its own experiment is no reason to leave ours unused
    in_line = runtime.memory.is_in_line
    older = (e for e in equals if (e.created, e.name) < (record.created, record.name) and not in_line(e.key))
    return next((e.name for e in older if _may_work(runtime, e)), None)


def _may_work(runtime: Runtime, trial: TrialRecord) -> bool:
    run = trial.spec.get("run") or {}
    stopped = run.get("suspend") or run.get("cancel") or trial.deleting or is_orphan(runtime, trial)
    return not (stopped or trial.standing.has_ended or trial.standing.is_stalled)
