"""Reconcile one experiment: gather what its trials answered, plan (pure), make what is missing, write the status once.

    turn 1   nothing is known           -> a Preflight is created
    turn 2   it resolved every input    -> 4 Prepares, 1 Evaluate, 16 Trains are created; each waits for its inputs
    turn n   the last Decide answered   -> Succeeded=True, the best arm and the bill in the status

A turn makes at most 50 writes and comes back at once, so that a big experiment starves nobody. Nothing is planned again
while the evidence is the same. Price of a turn with 5,000 trials: 10 ms; 0.4 s when the evidence changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import structlog
from pydantic import ValidationError

from cpt_api import KNOWN_PROTOCOLS
from cpt_api.conditions import Condition, ConditionType, Reason
from cpt_api.experiment import CPTExperimentSpec, CPTExperimentStatus
from cpt_api.layout import REPORT_PAGE, data_prefix, export_prefix
from cpt_api.trial import Resources, TrialType
from cpt_api.values import Digest
from cpt_operator.admission import complete_resources, next_in_line, not_allowed
from cpt_operator.children import Expansion, expanded, manifest, run_differs, run_of
from cpt_operator.cluster import AlreadyExists, Forbidden, Rejected
from cpt_operator.evidence import Evidence, gather
from cpt_operator.experimentstatus import is_mere_progress, next_status, stuck_status
from cpt_operator.family import Family
from cpt_operator.kinds import DIGEST_ANNOTATION, Key, Kind
from cpt_operator.plan import Plan, PlannedTrial, plan
from cpt_operator.records import Body, ExperimentRecord, TrialRecord
from cpt_operator.runtime import Requeue, Runtime
from cpt_operator.spending import NOTHING, Spent, open_attempt
from cpt_operator.standing import has_succeeded
from cpt_operator.status import Phase
from cpt_operator.summary import (
    ExperimentView,
    State,
    budget_exhausted,
    is_beyond_budget,
    is_preflight,
    seconds_to_budget,
    too_many_failures,
)

log = structlog.get_logger()

_WRITES_PER_TURN = 50
_STORE_SECONDS = 10
_REFUSED_SECONDS = 60
"""Before a trial that could not be created is tried again."""
_PROGRESS_SECONDS = 30
_PROGRESS = "status"


async def reconcile_experiment(runtime: Runtime, key: Key) -> Requeue | None:
    """The next step of one experiment."""
    record = runtime.store.experiment(key.namespace, key.name)
    if record is None or record.deleting:
        runtime.memory.forget(key)
        return None
    before = CPTExperimentStatus.model_validate(record.status)
    is_done = has_succeeded(record.status) and before.observed_generation == record.generation
    if is_done and _is_whole(runtime, record, before):
        return None
    spec = _parsed(record)
    obstacle = spec if isinstance(spec, State) else _obstacle(runtime, spec, before)
    if obstacle or isinstance(spec, State):
        # what was finished stays so, whatever the administrator changed since
        return None if is_done or not obstacle else await _write_state(runtime, record, before, obstacle)
    evidence = await gather(runtime, record, spec, before)
    if isinstance(evidence, State):
        if not is_done:
            await _write_state(runtime, record, before, evidence)
        return Requeue(_STORE_SECONDS)
    return await _advance(runtime, record, spec, before, evidence)


def _is_whole(runtime: Runtime, record: ExperimentRecord, status: CPTExperimentStatus) -> bool:
    """Every trial that a finished experiment counts is there: a new operator reads nothing of it again."""
    children, counts = runtime.store.trials_of(record.uid), status.trials
    return (
        counts.succeeded + counts.failed == counts.total
        and len(children) == counts.total + counts.superseded
        and all(child.standing.has_ended or child.spec.get("run", {}).get("suspend") for child in children)
    )


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


# --- plan and act -----------------------------------------------------------------------------------------------------


async def _advance(
    runtime: Runtime,
    record: ExperimentRecord,
    spec: CPTExperimentSpec,
    before: CPTExperimentStatus,
    evidence: Evidence,
) -> Requeue | None:
    expansion = _expansion(runtime, record, spec, evidence)
    made, cap = expansion.plan, runtime.settings.caps.trials_per_experiment
    if len(made.trials) > cap:
        text = f"the plan has {len(made.trials)} trials, {cap} are allowed: take fewer datasets, rates or rungs"
        return await _write_state(runtime, record, before, State(Phase.STUCK, Reason.NOT_ALLOWED, text))
    view = _view(runtime, record, spec, before, expansion, evidence)
    done = await _make(runtime, record, view, expansion)
    if done.refused is not None:
        await _write_state(runtime, record, before, done.refused)
        return Requeue(_REFUSED_SECONDS)
    if done.writes:
        view = _view(runtime, record, spec, before, expansion, evidence)
    protocol = evidence.context.protocol
    requeue = await _write(runtime, record, before, next_status(view, protocol, record.generation, _VERSION))
    if made.complete:
        runtime.memory.forget(record.key)
    if done.has_more:
        return Requeue(0)
    if made.finding and made.finding.reason is Reason.PREFLIGHT_FAILED:
        return Requeue(max(1.0, evidence.look_again_seconds))
    return _sooner(requeue, seconds_to_budget(view))


def _sooner(requeue: Requeue | None, seconds: float | None) -> Requeue | None:
    """Whichever comes first; at most once a second."""
    if seconds is None or (requeue and requeue.after_seconds <= seconds):
        return requeue
    return Requeue(max(1.0, seconds))


def _expansion(runtime: Runtime, record: ExperimentRecord, spec: CPTExperimentSpec, evidence: Evidence) -> Expansion:
    """The plan; the last one where nothing that it depends on has changed."""
    question = (record.uid, record.generation, evidence.context, evidence.outcomes)
    known = runtime.memory.expansion(record.key, question)
    if known is not None:
        return known
    expansion = expanded(record, plan(spec, evidence.context, evidence.outcomes, runtime.memory.earlier(record.key)))
    runtime.memory.keep_expansion(record.key, question, expansion)
    return expansion


def _view(
    runtime: Runtime,
    record: ExperimentRecord,
    spec: CPTExperimentSpec,
    before: CPTExperimentStatus,
    expansion: Expansion,
    evidence: Evidence,
) -> ExperimentView:
    looks = evidence.context.looks
    family = _family(runtime, record, expansion)
    return ExperimentView(
        spec=spec,
        plan=expansion.plan,
        family=family,
        base=evidence.base,
        before=before,
        now=runtime.now(),
        in_line={child.name for child in family.open if runtime.memory.is_in_line(child.key)},
        looking_again=len(looks) > 1 and looks[-1].outcome is None,
        report_uri=_report_uri(runtime, record, expansion.plan),
        spent=_spent(runtime, spec, family),
        model_uri=_model_uri(runtime, record, expansion.plan),
    )


def _spent(runtime: Runtime, spec: CPTExperimentSpec, family: Family) -> Spent:
    """Attempts that are open grow with time, so this is asked anew every turn, where anybody wants to know."""
    if spec.budget is None or spec.budget.gpu_hours is None:
        return NOTHING
    at_work = (open_attempt(child, runtime.store, runtime.now()) for child in family.at_work)
    return sum(at_work, Spent(family.gpu_seconds))


def _family(runtime: Runtime, record: ExperimentRecord, expansion: Expansion) -> Family:
    """The trials; the last walk over them where none has changed."""
    revision = runtime.store.revision_of(record.uid)
    known = runtime.memory.family(record.key, expansion, revision)
    if known is not None:
        return known
    family = Family(expansion.planned, {child.name: child for child in runtime.store.trials_of(record.uid)})
    runtime.memory.keep_family(record.key, expansion, revision, family)
    return family


def _report_uri(runtime: Runtime, record: ExperimentRecord, made: Plan) -> str | None:
    if made.report is None:
        return None
    return f"{runtime.settings.artifact_store.uri}/{data_prefix(record.namespace, made.report)}{REPORT_PAGE}"


def _model_uri(runtime: Runtime, record: ExperimentRecord, made: Plan) -> str | None:
    if made.best is None or made.best.soup_weight is None:
        return None
    return f"{runtime.settings.artifact_store.uri}/{export_prefix(record.namespace, made.best.digest)}"


@dataclass(frozen=True, slots=True)
class _Made:
    """What a turn did about the trials."""

    writes: int
    has_more: bool = False
    """Something is left for the next turn."""
    refused: State | None = None
    """Why one cannot be made."""


async def _make(runtime: Runtime, record: ExperimentRecord, view: ExperimentView, expansion: Expansion) -> _Made:
    """Create what is missing and bring `run` blocks up to date."""
    all_stop = bool(view.spec.suspend) or too_many_failures(view) is not None
    writes = 0
    for order, name in view.family.unsettled:
        planned, child = expansion.planned[name], view.family.children.get(name)
        if all_stop if child is None else child.deleting:
            continue
        run = run_of(expansion.runs[name], stop=all_stop or is_beyond_budget(view, planned))
        if child is not None and not run_differs(child.spec, run):
            continue
        if writes == _WRITES_PER_TURN:
            return _Made(writes, has_more=True)
        writes += 1
        if child is not None:
            await runtime.cluster.apply_run(child, run)
            continue
        # beyond the budget too: whose result exists is reused, and costs nothing
        refused = await _create(runtime, record, planned, manifest(record, planned, order, run))
        if refused is not None:
            return _Made(writes, refused=refused)
    for child in view.family.superseded:
        writes += await _tidy(runtime, view, child, stop=all_stop or budget_exhausted(view) is not None)
    return _Made(writes)


async def _create(runtime: Runtime, record: ExperimentRecord, planned: PlannedTrial, body: Body) -> State | None:
    """Create a trial; why it cannot be."""
    name = body["metadata"]["name"]
    try:
        made = await runtime.cluster.create(Kind.TRIAL, body)
    except Forbidden as error:
        return State(Phase.STUCK, Reason.NOT_ALLOWED, f"CPTTrial {name} could not be created: {error}")
    except Rejected as error:
        return State(Phase.STUCK, Reason.INVALID, f"CPTTrial {name} was refused by the API server: {error}")
    if isinstance(made, AlreadyExists) and not _is_ours(made, record, planned.digest):
        text = f"a CPTTrial {name} exists and is not this experiment's: delete it, and the experiment goes on"
        return State(Phase.STUCK, Reason.NAME_TAKEN, text)
    return None


def _is_ours(made: AlreadyExists, record: ExperimentRecord, digest: Digest) -> bool:
    return made.record.owner_uid == record.uid and made.record.annotations.get(DIGEST_ANNOTATION) == digest


async def _tidy(runtime: Runtime, view: ExperimentView, child: TrialRecord, *, stop: bool) -> bool:
    """A trial that the plan does not hold (now) is kept, and stops when it cannot come back; old looks go.

    Whether that took a write.
    """
    if child.deleting:
        return False
    if is_preflight(child) and child.standing.has_ended:
        if not view.family.planned:  # an invalid manifest has no plan: what was resolved stays
            return False
        await runtime.cluster.delete(child)
        return True
    run: Mapping[str, object] = child.spec.get("run") or {}
    if not (stop or view.plan.complete) or child.standing.has_ended or run.get("suspend"):
        return False
    own = {key: value for key, value in run.items() if key != "cancel"}
    await runtime.cluster.apply_run(child, run_of(own, stop=True))
    return True


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
    await _tell(runtime, record, before, status)
    return None


async def _tell(
    runtime: Runtime, record: ExperimentRecord, before: CPTExperimentStatus, status: CPTExperimentStatus
) -> None:
    """An event where somebody must act, and one at the end."""
    old, new = _condition(before, ConditionType.STALLED), _condition(status, ConditionType.STALLED)
    if new and (old is None or old.reason != new.reason):
        log.warning("experiment stalled", experiment=record.name, namespace=record.namespace, reason=new.reason)
        await runtime.cluster.event(record, "Warning", new.reason, new.message)
    end, was = _condition(status, ConditionType.SUCCEEDED), _condition(before, ConditionType.SUCCEEDED)
    if end and end.status == "True" and (was is None or was.status != "True"):
        log.info("experiment completed", experiment=record.name, namespace=record.namespace)
        await runtime.cluster.event(record, "Normal", end.reason, end.message)


def _condition(status: CPTExperimentStatus, type_: ConditionType) -> Condition | None:
    return next((c for c in status.conditions if c.type == type_), None)


def _wake_queued(runtime: Runtime, record: ExperimentRecord) -> None:
    for child in next_in_line(runtime.store.trials_of(record.uid), 1000, runtime.memory.is_in_line):
        runtime.queue.add(child.key)


def _operator_version() -> str | None:
    try:
        return version("cpt-experiments")
    except PackageNotFoundError:  # run from a source tree on PYTHONPATH
        return None


_VERSION = _operator_version()
