"""The question of a rung, as Decide trials: which rates lead, and which are out of the race.

One trial asks for all datasets, since they share the run noise; where its arms would not fit into a pod's environment,
several ask for a part of the datasets each:

    90 datasets x 5 rates    450 arms    two Decide trials, of 255 and 195 arms

An answer was written under a user's identity: it counts when it is about the very rates that it was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cpt_api.digest import subject_digest
from cpt_api.result import Decision, RateChoice
from cpt_api.trial import (
    Arm,
    ControlArms,
    CPTTrialSpec,
    DatasetArms,
    DecideWork,
    Question,
    TrialRef,
    TrialType,
)
from cpt_api.values import Digest, LearningRate, Tokens
from cpt_operator.plan.metrics import metrics_of
from cpt_operator.plan.segments import Segments
from cpt_operator.plan.types import Failed, Succeeded

Key = TypeVar("Key")
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

STAGE = "learningRateSweep"
_ARMS_MAX = 256
"""Of one decision: an arm has 112 bytes in its spec."""

Arms = Mapping[str, Mapping[LearningRate, Digest]]
"""The trial of each arm by dataset name and rate."""
Missing = Mapping[str, frozenset[LearningRate]]
"""Rates by dataset name whose arm failed for good: a decision cannot be sure without them."""
Controls = Mapping[LearningRate, tuple[Digest, ...]]
"""The control and its replicates by rate."""


def ask(
    segments: Segments,
    arms: Arms,
    missing: Missing,
    controls: Controls,
    scored: Mapping[Digest, Digest],
    rung: int,
) -> dict[Digest, Arms]:
    """Add the Decide trials of a rung; the arms that each is about. `scored`: who holds the tables of an arm."""
    return {_decide(segments, group, missing, controls, scored, rung): group for group in grouped(segments, arms)}


def grouped(
    segments: Segments, arms: Mapping[str, Mapping[Key, Digest]], datasets_max: int = _ARMS_MAX
) -> list[Mapping[str, Mapping[Key, Digest]]]:
    """One question for all datasets; several where it would not fit into a pod's environment, or its answer be read."""
    subjects = segments.subjects
    groups: list[dict[str, Mapping[Key, Digest]]] = [{}]
    for name in sorted(arms, key=lambda name: (subjects[name].digest, name)):  # by data, not by what people call it
        is_full = sum(map(len, groups[-1].values())) + len(arms[name]) > _ARMS_MAX or len(groups[-1]) == datasets_max
        if groups[-1] and is_full:
            groups.append({})
        groups[-1][name] = arms[name]
    return [*filter(None, groups)]


@dataclass(frozen=True, slots=True)
class Heard(Generic[Answer]):
    """What the Decide trials of one question say: all of it, or nothing."""

    answers: Mapping[str, Answer] = field(default_factory=dict)
    """By dataset name."""
    sentence: str = ""
    """For people."""
    complete: bool = False
    """All have answered."""
    obstacle: str | None = None
    """Why one never will."""


def hear(
    segments: Segments,
    asked: Mapping[Digest, Asked],
    believed: Callable[[Decision, Asked], Mapping[str, Answer] | None],
) -> Heard[Answer]:
    """The answers so far. `believed`: what a document says about what it was asked; None when it does not answer it."""
    documents = []
    for decision, group in asked.items():
        match segments.outcomes.get(decision):
            case Succeeded(result) if result.decision is not None:
                documents.append((result.decision, group))
            case Failed(reason, message):
                return Heard(obstacle=f"the decision failed: {reason}: {message}")
            case _:
                return Heard()
    answers: dict[str, Answer] = {}
    for document, group in documents:
        found = believed(document, group)
        if found is None:
            return Heard(obstacle="the decision does not answer what it was asked")
        answers |= found
    return Heard(answers, " ".join(document.sentence for document, _ in documents), complete=True)


def _decide(
    segments: Segments,
    arms: Arms,
    missing: Missing,
    controls: Controls,
    scored: Mapping[Digest, Digest],
    rung: int,
) -> Digest:
    recipe = segments.recipe
    datasets = [
        DatasetArms(
            **segments.subjects[name].reference,
            arms=tuple(Arm(learning_rate=r, trial=TrialRef(digest=scored[d])) for r, d in sorted(rates.items())),
            missing=tuple(sorted(missing[name])),
        )
        for name, rates in arms.items()
    ]
    return pose(
        segments,
        Question.LEARNING_RATE,
        datasets,
        STAGE,
        f"learning rate @ {recipe.rungs[rung]}",
        controls=control_arms(((rate, None, digests) for rate, digests in sorted(controls.items())), scored),
        rung_tokens=recipe.rungs[rung],
        rungs=len(recipe.rungs),
        last=rung + 1 == len(recipe.rungs),
    )


def pose(
    segments: Segments, question: Question, datasets: Iterable[DatasetArms], stage: str, title: str, **own: object
) -> Digest:
    """Add a Decide trial about these; `own`: fields of the question, and of all questions what differs."""
    target, retention = metrics_of(segments)
    common = {"target": target, "retention": retention, "baseline": TrialRef(digest=segments.baseline)}
    work = DecideWork(
        question=question,
        datasets=tuple(sorted(datasets, key=subject_digest)),
        seed=segments.recipe.seed,
        **common | own,
    )
    about = f" of {segments.about}" if segments.about else ""
    return segments.add(CPTTrialSpec(type=TrialType.DECIDE, decide=work), stage, f"{title}{about}")


def control_arms(
    controls: Iterable[tuple[LearningRate, Tokens | None, Iterable[Digest]]], scored: Mapping[Digest, Digest]
) -> tuple[ControlArms, ...]:
    """Those that have a score, by rate and tokens, in the given order."""
    holders = ((rate, tokens, [scored[arm] for arm in arms if arm in scored]) for rate, tokens, arms in controls)
    return tuple(
        ControlArms(learning_rate=rate, trials=tuple(TrialRef(digest=digest) for digest in found), tokens=tokens)
        for rate, tokens, found in holders
        if found
    )


def choices_of(segments: Segments, document: Decision, asked: Arms) -> dict[str, RateChoice] | None:
    """By dataset name; None unless there is one for every dataset, at the rates that it was asked for."""
    by_data = {choice.dataset: choice for choice in document.rates}
    choices = {}
    for name, rates in asked.items():
        choice = by_data.get(segments.subjects[name].digest)
        if choice is None or {arm.learning_rate for arm in choice.arms} != rates.keys():
            return None
        if choice.chosen is not None and choice.chosen not in rates:
            return None
        choices[name] = choice
    return choices
