"""From names to digests: a trial's references, once the trials that they name have succeeded. Pure.

    model: {trial: {trialName: base}}            -> model: {trial: {digest: 5f1c…}}
    source: {preflightName: look, input: corpus} -> source: {uri: s3://…, digest: 09ab…}

Where a reference is a digest already, the trial of that digest must have succeeded as well, so that nothing starts
before its inputs exist.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from cpt_api.conditions import Reason
from cpt_api.digest import references
from cpt_api.model import Model
from cpt_api.result import Result
from cpt_api.trial import CPTTrialSpec, Source, TrialRef, TrialType
from cpt_api.values import Digest
from cpt_operator.plan.types import Finding
from cpt_operator.records import TrialRecord
from cpt_operator.standing import has_failed, has_succeeded, reason_of

T = TypeVar("T")


class State(Enum):
    """How far an input is."""

    PENDING = "Pending"
    SUCCEEDED = "Succeeded"
    DIVERGED = "Diverged"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Input:
    """A trial that another one reads."""

    name: str
    state: State
    digest: Digest | None

    @classmethod
    def of(cls, record: TrialRecord) -> Input:
        """As the store shows it."""
        digest = record.status.get("digest")
        return cls(record.name, _state(record), Digest.parse(digest) if digest else None)


def _state(record: TrialRecord) -> State:
    if has_succeeded(record.status):
        return State.DIVERGED if reason_of(record.status) == Reason.DIVERGED else State.SUCCEEDED
    return State.FAILED if has_failed(record.status) else State.PENDING


@dataclass(frozen=True, slots=True)
class World:
    """What is known about the trials that a spec names."""

    by_name: Mapping[str, Input]
    by_digest: Mapping[Digest, Sequence[Input]]
    preflights: Mapping[str, Result]
    """Results of the Preflights that it names."""
    planned: bool
    """The trial belongs to an experiment, which makes every input: one that is missing will come."""


def trial_names(spec: CPTTrialSpec) -> set[str]:
    """Every trial that the spec names."""
    found = (_name(reference) for reference in _all_references(spec))
    return {name for name in found if name}


def preflight_names(spec: CPTTrialSpec) -> set[str]:
    """Every Preflight that the spec names."""
    return {r.preflight_name for r in _all_references(spec) if isinstance(r, Source) and r.preflight_name}


def trial_digests(spec: CPTTrialSpec) -> set[Digest]:
    """Digests of trials, not of files, that the spec names."""
    return {r.digest for r in _all_references(spec) if isinstance(r, TrialRef) and r.digest}


def _all_references(spec: CPTTrialSpec) -> list[TrialRef | Source]:
    return [*references(spec.work), *references(spec.run.observe)]


def _name(reference: TrialRef | Source) -> str | None:
    return reference.trial_name if isinstance(reference, TrialRef) else reference.preflight_name


def resolve(spec: CPTTrialSpec, world: World) -> CPTTrialSpec | Finding:
    """The spec with a digest in every reference, or why that cannot be had now."""
    wanted = _all_references(spec)
    findings = [finding for r in wanted if (finding := _missing(r, spec.type, world)) is not None]
    failed = next((finding for finding in findings if finding.reason is not Reason.WAITING_FOR_INPUT), None)
    if failed:
        return failed
    if findings:
        # the same words until it starts: each change would be a write
        text = f"waits until all {len(wanted)} inputs have succeeded, and then for its turn"
        return Finding(Reason.WAITING_FOR_INPUT, text)
    run = spec.run.model_copy(update={"observe": _filled(spec.run.observe, world)})
    block = spec.type.value[0].lower() + spec.type.value[1:]
    return spec.model_copy(update={block: _filled(spec.work, world), "run": run})


def _missing(reference: TrialRef | Source, reader: TrialType, world: World) -> Finding | None:
    if isinstance(reference, Source):
        return _source_missing(reference, world)
    if reference.trial_name:
        named = world.by_name.get(reference.trial_name)
        inputs = [named] if named else []
        label = f"trial {reference.trial_name}"
    else:
        assert reference.digest
        inputs = list(world.by_digest.get(reference.digest, ()))
        label = f"the trial of digest {reference.digest.short}…"
        if not inputs and not world.planned:
            return None  # it may be in the store only; the trainer refuses it when it is not
    return _unfinished(inputs, label, reader)


def _unfinished(inputs: Sequence[Input], label: str, reader: TrialType) -> Finding | None:
    states = {item.state for item in inputs}
    if State.SUCCEEDED in states:
        return None
    if inputs:  # who must act needs a name, whatever the reference says
        label = f"trial {min(item.name for item in inputs)}"
    if State.DIVERGED in states:
        if reader in (TrialType.DECIDE, TrialType.REPORT):
            return None  # divergence is what they want to know
        return Finding(Reason.INPUT_FAILED, f"{label} diverged: it has no end to go on from")
    if State.PENDING in states or not states:
        return Finding(Reason.WAITING_FOR_INPUT, f"{label} has not succeeded yet")
    return Finding(Reason.INPUT_FAILED, f"{label} failed; read its conditions, delete it, and it is made again")


def _source_missing(source: Source, world: World) -> Finding | None:
    if source.preflight_name is None:
        if source.uri and source.digest:
            return None
        return Finding(
            Reason.INVALID, "a source needs uri and digest, or preflightName and input: let a Preflight resolve it"
        )
    label = f"Preflight {source.preflight_name}"
    look = world.by_name.get(source.preflight_name)
    unfinished = _unfinished([look] if look else [], label, TrialType.PREFLIGHT)
    if unfinished:
        return unfinished
    result = world.preflights.get(source.preflight_name)
    if result is None:
        return Finding(Reason.WAITING_FOR_INPUT, f"the result of {label} has not been read yet")
    found = next((item for item in result.resolved if item.name == source.input), None)
    trouble = next((f.message for f in result.findings if f.input in (None, source.input)), None)
    if found is None or trouble:
        return Finding(
            Reason.INPUT_FAILED, f"{label} did not resolve input {source.input!r}: {trouble or 'not listed'}"
        )
    return None


def _filled(value: T, world: World) -> T:
    """A copy of `value` in which every reference has its digest."""
    copy: Any = value
    if isinstance(value, TrialRef):
        if value.trial_name:
            copy = TrialRef(digest=world.by_name[value.trial_name].digest)
    elif isinstance(value, Source):
        if value.preflight_name:
            resolved = world.preflights[value.preflight_name].resolved
            found = next(item for item in resolved if item.name == value.input)
            copy = Source(uri=found.uri, digest=found.digest)
    elif isinstance(value, Model):
        fields = type(value).model_fields
        copy = value.model_copy(update={name: _filled(getattr(value, name), world) for name in fields})
    elif isinstance(value, tuple):
        copy = tuple(_filled(item, world) for item in value)
    result: T = copy
    return result
