"""The question of a rung, as Decide trials: which rates lead, and which are out of the race.

One trial asks for all datasets, since they share the run noise; where its arms would not fit into a pod's environment,
several ask for a part of the datasets each:

    90 datasets x 5 rates    450 arms    two Decide trials, of 255 and 195 arms

An answer was written under a user's identity: it counts when it is about the very rates that it was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

from cpt_api.result import Decision, RateChoice
from cpt_api.trial import (
    Arm,
    ControlArms,
    CPTTrialSpec,
    DatasetArms,
    DecideWork,
    DecisionMetric,
    Question,
    TrialRef,
    TrialType,
)
from cpt_api.values import Digest, LearningRate
from cpt_operator.plan.segments import Segments

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
    groups = _groups(segments, arms)
    return {_decide(segments, group, missing, controls, scored, rung): group for group in groups}


def _groups(segments: Segments, arms: Arms) -> list[Arms]:
    """One question for all datasets; several where one would not fit into a pod's environment."""
    prepared = segments.inputs.prepared
    groups: list[dict[str, Mapping[LearningRate, Digest]]] = [{}]
    for name in sorted(arms, key=lambda name: (prepared[name], name)):  # by data, not by what people call it
        if groups[-1] and sum(map(len, groups[-1].values())) + len(arms[name]) > _ARMS_MAX:
            groups.append({})
        groups[-1][name] = arms[name]
    return [*groups]


def _decide(
    segments: Segments,
    arms: Arms,
    missing: Missing,
    controls: Controls,
    scored: Mapping[Digest, Digest],
    rung: int,
) -> Digest:
    recipe, inputs = segments.recipe, segments.inputs

    def metric(texts: tuple[Digest, ...], threshold: str) -> DecisionMetric:
        return DecisionMetric.model_validate({"held_out": [{"digest": t} for t in texts], "threshold": threshold})

    datasets = [
        DatasetArms(
            dataset=TrialRef(digest=inputs.prepared[name]),
            arms=tuple(Arm(learning_rate=r, trial=TrialRef(digest=scored[d])) for r, d in sorted(rates.items())),
            missing=tuple(sorted(missing[name])),
        )
        for name, rates in arms.items()
    ]
    replicates = {rate: [scored[d] for d in digests if d in scored] for rate, digests in controls.items()}
    work = DecideWork(
        question=Question.LEARNING_RATE,
        target=metric(inputs.target, str(recipe.minimum_effect)),
        retention=metric(inputs.retention, str(recipe.margin)) if inputs.retention else None,
        baseline=TrialRef(digest=segments.baseline),
        datasets=tuple(sorted(datasets, key=lambda item: str(item.dataset.digest))),
        controls=tuple(
            ControlArms(learning_rate=rate, trials=tuple(TrialRef(digest=d) for d in digests))
            for rate, digests in sorted(replicates.items())
            if digests
        ),
        rung_tokens=recipe.rungs[rung],
        rungs=len(recipe.rungs),
        last=rung + 1 == len(recipe.rungs),
        seed=recipe.seed,
    )
    title = f"learning rate @ {recipe.rungs[rung]}"
    return segments.trials.add(CPTTrialSpec(type=TrialType.DECIDE, decide=work), STAGE, title)


def choices_of(segments: Segments, document: Decision, asked: Arms) -> dict[str, RateChoice] | None:
    """By dataset name; None unless there is one for every dataset, at the rates that it was asked for."""
    by_data = {choice.dataset: choice for choice in document.rates}
    choices = {}
    for name, rates in asked.items():
        choice = by_data.get(segments.inputs.prepared[name])
        if choice is None or {arm.learning_rate for arm in choice.arms} != rates.keys():
            return None
        if choice.chosen is not None and choice.chosen not in rates:
            return None
        choices[name] = choice
    return choices
