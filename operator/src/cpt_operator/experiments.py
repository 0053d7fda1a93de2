"""Reconcile one experiment: gather what its trials answered, plan (pure), make what is missing, write the status once.

    turn 1   nothing is known           -> a Preflight is created
    turn 2   it resolved every input    -> 4 Prepares, 1 Evaluate, 16 Trains are created; each waits for its inputs
    turn n   the last Decide answered   -> Succeeded=True, the best arm and the bill in the status

A turn creates at most 50 trials and comes back at once, so that a big experiment starves nobody. Price of a turn with
130 trials: 30 ms, nearly all of it planning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import structlog
from pydantic import ValidationError

from cpt_api import KNOWN_PROTOCOLS, PROTOCOL
from cpt_api.conditions import Condition, ConditionType, Reason
from cpt_api.experiment import CPTExperimentSpec, CPTExperimentStatus
from cpt_api.trial import CPTTrialSpec, Resources, TrialType
from cpt_api.values import Digest
from cpt_operator import rfc3339
from cpt_operator.admission import complete_resources, image_digest, next_in_line, not_allowed
from cpt_operator.artifacts import Present, Refused, Unreachable
from cpt_operator.children import child_name, manifest, run_differs, stopped
from cpt_operator.cluster import AlreadyExists
from cpt_operator.kinds import DIGEST_ANNOTATION, Key, Kind
from cpt_operator.plan import Context, Failed, Look, Outcome, Plan, Succeeded, plan
from cpt_operator.plan.types import Finding
from cpt_operator.records import ExperimentRecord, TrialRecord
from cpt_operator.runtime import Requeue, Runtime
from cpt_operator.status import Phase, has_ended, has_failed, has_succeeded, message_of, reason_of
from cpt_operator.summary import (
    ExperimentView,
    State,
    budget_exhausted,
    is_mere_progress,
    is_preflight,
    next_status,
    stuck_status,
    too_many_failures,
)

log = structlog.get_logger()

_WRITES_PER_TURN = 50
_LOOK_AGAIN_SECONDS = 600
_STORE_SECONDS = 10
_PROGRESS_SECONDS = 30
_PROGRESS = "status"


@dataclass(frozen=True, slots=True)
class _Known:
    """What the store told about the trials of an experiment."""

    outcomes: Mapping[Digest, Outcome]
    looks: tuple[Look, ...]


async def reconcile_experiment(runtime: Runtime, key: Key) -> Requeue | None:
    """The next step of one experiment."""
    record = runtime.store.experiment(key.namespace, key.name)
    if record is None or record.deleting:
        return None
    before = CPTExperimentStatus.model_validate(record.status)
    spec = _parsed(record)
    obstacle = spec if isinstance(spec, State) else _obstacle(runtime, spec, before)
    is_done = has_succeeded(record.status)
    if obstacle or isinstance(spec, State):
        # what was finished stays so, whatever the administrator changed since
        return None if is_done or not obstacle else await _write_state(runtime, record, before, obstacle)
    known = await _known(runtime, record)
    if isinstance(known, State):
        if not is_done:
            await _write_state(runtime, record, before, known)
        return Requeue(_STORE_SECONDS)
    return await _advance(runtime, record, spec, before, known)


def _parsed(record: ExperimentRecord) -> CPTExperimentSpec | State:
    try:
        return CPTExperimentSpec.model_validate(record.spec)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "spec"
        return State(Phase.STUCK, Reason.INVALID, f"{place}: {first['msg']} ({error.error_count()} errors)")


def _obstacle(runtime: Runtime, spec: CPTExperimentSpec, before: CPTExperimentStatus) -> State | None:
    """What must be changed before anything is planned."""
    protocol = before.protocol
    if protocol is not None and protocol not in KNOWN_PROTOCOLS:
        text = f"it was begun with protocol {protocol}, this operator knows {sorted(KNOWN_PROTOCOLS)}"
        return State(Phase.STUCK, Reason.PROTOCOL_UNSUPPORTED, text)
    if not runtime.backend_served:
        text = "PyTorchJob is not served by this cluster: install training-operator 1.9"
        return State(Phase.STUCK, Reason.BACKEND_MISSING, text)
    resources = complete_resources(TrialType.TRAIN, spec.resources or Resources(), runtime.settings)
    priority_class = spec.scheduling.priority_class_name if spec.scheduling else None
    refused = not_allowed(resources, priority_class, runtime.settings)
    return State(Phase.STUCK, refused.reason, refused.message) if refused else None


# --- gather -----------------------------------------------------------------------------------------------------------


async def _known(runtime: Runtime, record: ExperimentRecord) -> _Known | State:
    """Results of the trials that the API server says have succeeded; causes of those that failed."""
    usable = await runtime.artifacts.check()
    if isinstance(usable, Refused | Unreachable):
        return _no_store(usable)
    children = [child for child in runtime.store.trials_of(record.uid) if child.digest]
    answers = await asyncio.gather(*(_outcome(runtime, child) for child in children))
    silent = next((answer for answer in answers if isinstance(answer, Refused | Unreachable)), None)
    if silent is not None:
        return _no_store(silent)
    outcomes: dict[Digest, Outcome] = {}
    looks = []
    for child, answer in zip(children, answers, strict=True):
        if isinstance(answer, Succeeded | Failed):
            outcomes[Digest(child.digest or "")] = answer
        if is_preflight(child):
            looks.append(
                Look(
                    CPTTrialSpec.model_validate(child.spec), answer if isinstance(answer, Succeeded | Failed) else None
                )
            )
    looks.sort(key=lambda look: look.spec.preflight.round if look.spec.preflight else 0)
    return _Known(outcomes, tuple(looks))


def _no_store(answer: Refused | Unreachable) -> State:
    if isinstance(answer, Refused):
        return State(Phase.STUCK, Reason.STORE_REFUSED, answer.message)
    return State(Phase.QUEUED, Reason.STORE_UNAVAILABLE, answer.message)


async def _outcome(runtime: Runtime, child: TrialRecord) -> Outcome | Refused | Unreachable | None:
    if has_failed(child.status):
        return Failed(reason_of(child.status), message_of(child.status))
    if not has_succeeded(child.status):
        return None
    spec = CPTTrialSpec.model_validate(child.spec)
    answer = await runtime.artifacts.result(child.namespace, Digest(child.digest or ""), spec)
    if isinstance(answer, Present):
        return Succeeded(answer.document)
    if isinstance(answer, Refused | Unreachable):
        return answer
    return Failed(Reason.RESULT_INVALID, f"the result of {child.name} is not in the store any more: delete the trial")


def _base(runtime: Runtime, record: ExperimentRecord, spec: CPTExperimentSpec) -> Digest | Finding | None:
    """The digest of `model.trialName`, or why there is none."""
    name = spec.model.trial_name
    if name is None:
        return None
    trial = runtime.store.trial(record.namespace, name)
    if trial is None or not has_ended(trial.status):
        return Finding(Reason.WAITING_FOR_MODEL, f"waits until trial {name} has succeeded")
    if has_failed(trial.status) or reason_of(trial.status) == Reason.DIVERGED:
        return Finding(
            Reason.INPUT_FAILED, f"trial {name}, which should make the base, ended with {message_of(trial.status)}"
        )
    return Digest.parse(str(trial.status.get("digest")))


def _look_again_seconds(runtime: Runtime, record: ExperimentRecord, looks: tuple[Look, ...]) -> float:
    """How long until inputs with findings are looked at again."""
    ends = [
        str(child.status.get("completionTime"))
        for child in runtime.store.trials_of(record.uid)
        if is_preflight(child) and has_ended(child.status)
    ]
    if not looks or not ends:
        return 0.0
    return max(0.0, _LOOK_AGAIN_SECONDS - rfc3339.seconds_between(max(ends), runtime.now()))


# --- plan and act -----------------------------------------------------------------------------------------------------


async def _advance(
    runtime: Runtime,
    record: ExperimentRecord,
    spec: CPTExperimentSpec,
    before: CPTExperimentStatus,
    known: _Known,
) -> Requeue | None:
    base = _base(runtime, record, spec)
    look_seconds = _look_again_seconds(runtime, record, known.looks)
    protocol = before.protocol or PROTOCOL
    context = Context(
        experiment_uid=record.uid,
        protocol=protocol,
        looks=known.looks,
        look_again=look_seconds == 0,
        base=base if isinstance(base, Digest) else None,
        image_digest=image_digest(spec.resources.image if spec.resources else None, runtime.settings),
    )
    made = plan(spec, context, known.outcomes)
    view = _view(runtime, record, spec, before, made, base, known)
    cap = runtime.settings.caps.trials_per_experiment
    if len(made.trials) > cap:
        text = f"the plan has {len(made.trials)} trials, {cap} are allowed: take fewer datasets, rates or rungs"
        state = State(Phase.STUCK, Reason.NOT_ALLOWED, text)
        return await _write_state(runtime, record, before, state)
    left, taken = await _make(runtime, record, view)
    if taken is not None:
        return await _write_state(runtime, record, before, taken)
    view = _view(runtime, record, spec, before, made, base, known)
    status = next_status(view, protocol, record.generation, _VERSION)
    requeue = await _write(runtime, record, before, status)
    if left:
        return Requeue(0)
    if made.finding and made.finding.reason is Reason.PREFLIGHT_FAILED:
        return Requeue(max(1.0, look_seconds))
    return requeue


def _view(
    runtime: Runtime,
    record: ExperimentRecord,
    spec: CPTExperimentSpec,
    before: CPTExperimentStatus,
    made: Plan,
    base: Digest | Finding | None,
    known: _Known,
) -> ExperimentView:
    return ExperimentView(
        spec=spec,
        plan=made,
        children={child.name: child for child in runtime.store.trials_of(record.uid)},
        planned={child_name(record, planned): planned for planned in made.trials},
        base=base if isinstance(base, Finding) else None,
        before=before,
        now=runtime.now(),
        looking_again=len(known.looks) > 1 and known.looks[-1].outcome is None,
    )


async def _make(runtime: Runtime, record: ExperimentRecord, view: ExperimentView) -> tuple[bool, State | None]:
    """Create what is missing and bring `run` blocks up to date. Whether something is left; whose name is taken."""
    all_stop = bool(view.spec.suspend) or too_many_failures(view) is not None
    no_tokens = budget_exhausted(view) is not None
    writes = 0
    for order, (name, planned) in enumerate(view.planned.items()):
        stop = all_stop or (no_tokens and planned.tokens > 0)
        run = stopped(planned.spec.run, stop=stop)
        child = view.children.get(name)
        if (child is None and stop) or (child is not None and not _must_change(child, run)):
            continue
        if writes == _WRITES_PER_TURN:
            return True, None
        writes += 1
        if child is not None:
            await runtime.cluster.apply_run(child, run.to_dict())
            continue
        made = await runtime.cluster.create(Kind.TRIAL, manifest(record, planned, order, run))
        if isinstance(made, AlreadyExists) and not _is_ours(made, record, planned.digest):
            text = f"a CPTTrial {name} exists and is not this experiment's: delete it, and the experiment goes on"
            return False, State(Phase.STUCK, Reason.NAME_TAKEN, text)
    if any(stage.state == "Decided" for stage in view.plan.stages):  # before that the plan is not whole
        await _stop_superseded(runtime, view)
    return False, None


def _must_change(child: TrialRecord, run: Any) -> bool:
    return not has_ended(child.status) and not child.deleting and run_differs(child.spec, run)


def _is_ours(made: AlreadyExists, record: ExperimentRecord, digest: Digest) -> bool:
    return made.record.owner_uid == record.uid and made.record.annotations.get(DIGEST_ANNOTATION) == digest


async def _stop_superseded(runtime: Runtime, view: ExperimentView) -> None:
    """A trial that the plan no longer holds is kept, and trains nothing more."""
    for name, child in view.children.items():
        run = child.spec.get("run") or {}
        if name in view.planned or has_ended(child.status) or child.deleting or run.get("suspend"):
            continue
        await runtime.cluster.apply_run(child, {k: v for k, v in run.items() if k != "cancel"} | {"suspend": True})


# --- the status -------------------------------------------------------------------------------------------------------


async def _write_state(
    runtime: Runtime, record: ExperimentRecord, before: CPTExperimentStatus, state: State
) -> Requeue | None:
    """Other conditions, and everything else as it was."""
    return await _write(runtime, record, before, stuck_status(before, state, record.generation, runtime.now()))


async def _write(
    runtime: Runtime, record: ExperimentRecord, before: CPTExperimentStatus, status: CPTExperimentStatus
) -> Requeue | None:
    """Write the status if it says something new; mere progress at most every 30 s."""
    if status == before:
        return None
    seconds = runtime.now().timestamp()
    wait = runtime.memory.due_in_seconds(_PROGRESS, record.uid, _PROGRESS_SECONDS, seconds)
    if wait and is_mere_progress(before, status):
        return Requeue(wait)
    runtime.memory.done(_PROGRESS, record.uid, seconds)
    await runtime.cluster.apply_status(record, status.to_dict())
    if status.observed_generation != before.observed_generation:
        _wake_queued(runtime, record)  # parallelTrials may have been raised
    old, new = _stalled(before), _stalled(status)
    if new and (old is None or old.reason != new.reason):
        log.warning("experiment stalled", experiment=record.name, namespace=record.namespace, reason=new.reason)
        await runtime.cluster.event(record, "Warning", new.reason, new.message)
    return None


def _stalled(status: CPTExperimentStatus) -> Condition | None:
    return next((c for c in status.conditions if c.type == ConditionType.STALLED), None)


def _wake_queued(runtime: Runtime, record: ExperimentRecord) -> None:
    for child in next_in_line(runtime.store.trials_of(record.uid), 1000):
        runtime.queue.add(child.key)


def _operator_version() -> str | None:
    try:
        return version("cpt-experiments")
    except PackageNotFoundError:  # run from a source tree on PYTHONPATH
        return None


_VERSION = _operator_version()
