"""What is known about an experiment beside its manifest: what its trials answered, and what was settled when it began.

Results come from the artifact store, each once: what a trial of that resourceVersion answered is remembered for as long
as the experiment is at work. Base and protocol are settled by the first trials and read off them, so that neither a new
operator nor a deleted status, nor a base that was made anew under its old name, changes what an experiment is about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cpt_api import PROTOCOL
from cpt_api.conditions import Reason
from cpt_api.experiment import CPTExperimentSpec, CPTExperimentStatus
from cpt_api.trial import CPTTrialSpec, TrialType
from cpt_api.values import Digest
from cpt_operator import rfc3339
from cpt_operator.admission import image_digest, place_of
from cpt_operator.artifacts import Present, Refused, Unreachable
from cpt_operator.plan import Context, Failed, Finding, Look, Outcome, Succeeded
from cpt_operator.plan.recipe import further_trials
from cpt_operator.records import ExperimentRecord, TrialRecord
from cpt_operator.runtime import Runtime
from cpt_operator.standing import message_of
from cpt_operator.status import Phase
from cpt_operator.summary import State, is_preflight

_LOOK_AGAIN_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that a plan depends on."""

    context: Context
    outcomes: Mapping[Digest, Outcome]
    base: Finding | None
    """What is wrong with `model.trialName`, or with that of a further model."""
    look_again_seconds: float
    """Until inputs with findings are looked at again."""


async def gather(
    runtime: Runtime, record: ExperimentRecord, spec: CPTExperimentSpec, status: CPTExperimentStatus
) -> Evidence | State:
    """The evidence, or why there is none now."""
    usable = await runtime.artifacts.check()
    if isinstance(usable, Refused | Unreachable):
        return _no_store(usable)
    revision = runtime.store.revision_of(record.uid)
    children = [child for child in runtime.store.trials_of(record.uid) if child.digest]
    outcomes = runtime.memory.known(record.key, revision)
    if outcomes is None:
        read = await _outcomes(runtime, record, children, revision)
        if isinstance(read, Refused | Unreachable):
            return _no_store(read)
        outcomes = read
    base = _base(runtime, record, spec, children)
    made = {name: _made(runtime, record, name) for name in further_trials(spec)}
    unmade = [found for found in (base, *made.values()) if isinstance(found, Finding)]
    preflights = [child for child in children if is_preflight(child)]
    look_again_seconds = _look_again_seconds(runtime, preflights)
    context = Context(
        experiment_uid=record.uid,
        protocol=protocol_of(status, children),
        looks=_looks(preflights, outcomes),
        look_again=look_again_seconds == 0,
        base=base if isinstance(base, Digest) else None,
        image_digest=image_digest(spec.resources.image if spec.resources else None),
        experiment=record.name,
        made={name: digest for name, digest in made.items() if isinstance(digest, Digest)},
    )
    return Evidence(context, outcomes, next(iter(unmade), None), look_again_seconds)


def protocol_of(status: CPTExperimentStatus, children: Sequence[TrialRecord]) -> int:
    """That of its first trial, for life."""
    written = (child.spec.get("protocol") for child in children)
    return status.protocol or next((number for number in written if number), PROTOCOL)


def _no_store(answer: Refused | Unreachable) -> State:
    if isinstance(answer, Refused):
        return State(Phase.STUCK, Reason.STORE_REFUSED, answer.message)
    return State(Phase.QUEUED, Reason.STORE_UNAVAILABLE, answer.message)


# --- results ----------------------------------------------------------------------------------------------------------


async def _outcomes(
    runtime: Runtime, record: ExperimentRecord, children: Sequence[TrialRecord], revision: int
) -> Mapping[Digest, Outcome] | Refused | Unreachable:
    """What the trials answered; each result is read once, all of them are gone through once per revision."""
    answers = {child.uid: known for child in children if (known := _known(runtime, record, child)) is not None}
    unread = [child for child in children if child.standing.has_succeeded and child.uid not in answers]
    read = await asyncio.gather(*(_read(runtime, record, child) for child in unread))
    for child, answer in zip(unread, read, strict=True):
        if isinstance(answer, Refused | Unreachable):
            return answer
        answers[child.uid] = answer
    outcomes = {child.digest: answers[child.uid] for child in children if child.digest and child.uid in answers}
    if all(isinstance(answer, Succeeded) for answer in read):  # what was not there is asked for again
        runtime.memory.keep_known(record.key, revision, outcomes)
    return outcomes


def _known(runtime: Runtime, record: ExperimentRecord, child: TrialRecord) -> Outcome | None:
    """What needs no read: a failure, and a result that was read before."""
    if child.standing.has_failed:
        return Failed(child.standing.reason, message_of(child.status))
    if not child.standing.has_succeeded:
        return None
    return runtime.memory.recall(record.key, child.uid, child.resource_version)


async def _read(runtime: Runtime, record: ExperimentRecord, child: TrialRecord) -> Outcome | Refused | Unreachable:
    """What the store says about a trial that has succeeded."""
    spec = CPTTrialSpec.model_validate(child.spec)
    answer = await runtime.artifacts.result(child.namespace, Digest(child.digest or ""), spec)
    if isinstance(answer, Present):
        outcome = Succeeded(answer.document, reused=child.standing.is_reused)
        runtime.memory.remember(record.key, child.uid, child.resource_version, outcome)
        return outcome
    if isinstance(answer, Refused | Unreachable):
        return answer
    # asked again at the next turn: who put it back need not do more
    return Failed(Reason.RESULT_INVALID, f"the result of {child.name} is not in the store any more: delete the trial")


def _looks(preflights: Sequence[TrialRecord], outcomes: Mapping[Digest, Outcome]) -> tuple[Look, ...]:
    """By round."""
    looks = [
        Look(CPTTrialSpec.model_validate(child.spec), outcomes.get(child.digest) if child.digest else None)
        for child in preflights
    ]
    return tuple(sorted(looks, key=lambda look: look.spec.preflight.round if look.spec.preflight else 0))


def _look_again_seconds(runtime: Runtime, preflights: Sequence[TrialRecord]) -> float:
    """How long until inputs with findings are looked at again."""
    ended = [child for child in preflights if child.standing.has_ended]
    ends = [str(end) for child in ended if (end := child.status.get("completionTime"))]
    if not ends:
        return 0.0
    return max(0.0, _LOOK_AGAIN_SECONDS - rfc3339.seconds_between(max(ends), runtime.now()))


# --- bases ------------------------------------------------------------------------------------------------------------


def _base(
    runtime: Runtime, record: ExperimentRecord, spec: CPTExperimentSpec, children: Sequence[TrialRecord]
) -> Digest | Finding | None:
    """The digest of `model.trialName`, or why there is none."""
    name = spec.model.trial_name
    if name is None:
        return None
    # further models have theirs, too: the base's Prepare trials stand before them in the plan
    prepares = [child for child in children if child.spec.get("type") == TrialType.PREPARE]
    settled = next((base for child in sorted(prepares, key=place_of) if (base := _base_of(child))), None)
    return settled or _made(runtime, record, name)


def _made(runtime: Runtime, record: ExperimentRecord, name: str) -> Digest | Finding:
    """The digest of a trial that makes a model, or why there is none."""
    trial = runtime.store.trial(record.namespace, name)
    if trial is None or not trial.standing.has_ended:
        return Finding(Reason.WAITING_FOR_MODEL, f"waits until trial {name} has succeeded")
    if trial.standing.has_failed or trial.standing.reason == Reason.DIVERGED:
        return Finding(
            Reason.INPUT_FAILED, f"trial {name}, which should make a base, ended with {message_of(trial.status)}"
        )
    return Digest.parse(str(trial.status.get("digest")))


def _base_of(child: TrialRecord) -> Digest | None:
    """The base that a Prepare trial of the experiment was made for."""
    prepare = CPTTrialSpec.model_validate(child.spec).prepare
    return prepare.tokenizer.trial.digest if prepare and prepare.tokenizer.trial else None
