"""Learning-rate sweep: a race over rungs, decided by Decide trials.

At each rung every dataset has one cooled arm for each rate that is still in the race; after the last rung one rate is
chosen. At the first rung the control (replay data alone) runs at every rate, with replicates that differ in their
order seed: they are the only source of the run noise, and every experiment on the same base shares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from cpt_api.result import RateChoice
from cpt_api.trial import (
    Arm,
    ControlArms,
    CPTTrialSpec,
    DatasetArms,
    DecideWork,
    DecisionMetric,
    EvaluateWork,
    Question,
    TrialRef,
    TrialType,
)
from cpt_api.values import Digest, LearningRate
from cpt_operator.plan.segments import Line, Segments, mixture
from cpt_operator.plan.types import Failed, Succeeded

STAGE = "learningRateSweep"


@dataclass(frozen=True, slots=True)
class Sweep:
    """How far the race is."""

    choices: Mapping[str, RateChoice]
    """The latest decision by dataset name; empty before the first."""
    decision: Digest | None
    """The Decide trial that made them."""
    arms: Mapping[str, Mapping[LearningRate, Digest]]
    """The arms of that decision."""
    rung: int
    """Of that decision, from 0."""
    decided: bool
    """The last rung is decided."""
    failures: tuple[str, ...]
    """Arms, or decisions, that failed for good, in words."""
    blocked: bool
    """A decision failed: the race cannot go on."""
    missing: Mapping[str, frozenset[LearningRate]] = field(default_factory=dict)
    """Rates by dataset whose arm failed for good at this rung or before: the answer cannot be sure without them."""


def plan_sweep(segments: Segments) -> Sweep:
    """Add arms and decisions, rung after rung, as far as the outcomes reach."""
    recipe = segments.recipe
    grid = {dataset.name: recipe.rates for dataset in recipe.spec.datasets}
    state = Sweep({}, None, {}, 0, decided=False, failures=(), blocked=False)
    controls = _controls(segments)
    for rung in range(len(recipe.rungs)):
        round_ = _rung(segments, controls, rung, grid, state)
        if rung == 0 and round_.choices:
            wider = _widened(grid, round_.choices)
            if wider != grid:
                grid = wider
                round_ = _rung(segments, controls, rung, grid, state)
        if not round_.choices:
            return round_
        state = round_
        grid = {name: choice.survivors for name, choice in state.choices.items() if choice.survivors}
        if not grid:
            break
    return Sweep(state.choices, state.decision, state.arms, state.rung, True, state.failures, blocked=False)


def _controls(segments: Segments) -> dict[LearningRate, list[Digest]]:
    recipe = segments.recipe
    if recipe.replay is None:
        return {}
    data = mixture({segments.inputs.prepared[recipe.replay.name]: Fraction(1)})
    return {
        rate: [
            segments.arm(Line("control", data, rate, recipe.seed + number), 0, STAGE)
            for number in range(recipe.replicates)
        ]
        for rate in recipe.rates
    }


def _line(segments: Segments, name: str, rate: LearningRate) -> Line:
    recipe, prepared = segments.recipe, segments.inputs.prepared
    parts = {prepared[name]: 1 - recipe.screening_share}
    if recipe.replay:
        parts[prepared[recipe.replay.name]] = (
            parts.get(prepared[recipe.replay.name], Fraction(0)) + recipe.screening_share
        )
    return Line(name, mixture(parts), rate, recipe.seed)


def _rung(
    segments: Segments,
    controls: Mapping[LearningRate, list[Digest]],
    rung: int,
    grid: Mapping[str, tuple[LearningRate, ...]],
    before: Sweep,
) -> Sweep:
    """One rung: its arms, and its decision when all of them have ended. Without choices: not decided yet."""
    arms = {
        name: {rate: segments.arm(_line(segments, name, rate), rung, STAGE) for rate in rates}
        for name, rates in grid.items()
    }
    watched = [digest for rates in arms.values() for digest in rates.values()]
    watched += [digest for digests in controls.values() for digest in digests]
    failures = list(before.failures)
    for name, rates in arms.items():
        for rate, digest in rates.items():
            if isinstance(outcome := segments.outcomes.get(digest), Failed):
                failures.append(f"{name} at {rate}: {outcome.reason}: {outcome.message}")
    undecided = Sweep({}, before.decision, before.arms, rung, decided=False, failures=tuple(failures), blocked=False)
    if any(digest not in segments.outcomes for digest in watched):
        return undecided
    scored = {digest: scored for digest in watched if (scored := _scored(segments, digest))}
    present = {name: {rate: d for rate, d in rates.items() if d in scored} for name, rates in arms.items()}
    present = {name: rates for name, rates in present.items() if rates}
    if not present:
        return Sweep({}, before.decision, before.arms, rung, False, tuple(failures), blocked=True)
    if any(digest not in segments.outcomes for digest in scored.values()):
        return undecided
    missing = {
        name: before.missing.get(name, frozenset()) | (arms[name].keys() - rates.keys())
        for name, rates in present.items()
    }
    decision = _decide(segments, present, missing, controls, scored, rung)
    match segments.outcomes.get(decision):
        case Succeeded(result) if result.decision is not None:
            names = {segments.inputs.prepared[name]: name for name in grid}
            choices = {names[choice.dataset]: choice for choice in result.decision.rates if choice.dataset in names}
            return Sweep({**before.choices, **choices}, decision, arms, rung, False, tuple(failures), False, missing)
        case Failed(reason, message):
            failures.append(f"decision: {reason}: {message}")
            return Sweep({}, before.decision, before.arms, rung, False, tuple(failures), blocked=True)
        case _:
            return undecided


def _scored(segments: Segments, arm: Digest) -> Digest | None:
    """The trial that holds the arm's item tables: itself, or an Evaluate trial where a reused one lacks a text."""
    outcome = segments.outcomes[arm]
    if isinstance(outcome, Failed):
        return None
    have = {score.text for score in outcome.result.held_out}
    want = {ref.digest for ref in segments.inputs.held_out}
    if want <= have or outcome.result.checkpoint is None:
        return arm
    work = EvaluateWork(
        segment=TrialRef(digest=arm),
        held_out=segments.inputs.held_out,
        sequence_length=segments.recipe.spec.training.sequence_length,
    )
    return segments.trials.add(CPTTrialSpec(type=TrialType.EVALUATE, evaluate=work), STAGE, "score of a reused arm")


def _decide(
    segments: Segments,
    arms: Mapping[str, Mapping[LearningRate, Digest]],
    missing: Mapping[str, frozenset[LearningRate]],
    controls: Mapping[LearningRate, list[Digest]],
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


def _widened(
    grid: Mapping[str, tuple[LearningRate, ...]], choices: Mapping[str, RateChoice]
) -> dict[str, tuple[LearningRate, ...]]:
    """One more grid point for a dataset whose fitted optimum lies outside its grid (first rung only)."""
    wider = dict(grid)
    for name, choice in choices.items():
        rates = grid[name]
        if choice.fitted_vertex is None or len(rates) < 2:
            continue
        if choice.fitted_vertex > rates[-1]:
            wider[name] = (*rates, _beyond(rates[-2], rates[-1]))
        elif choice.fitted_vertex < rates[0]:
            wider[name] = (_beyond(rates[1], rates[0]), *rates)
    return wider


def _beyond(inner: LearningRate, edge: LearningRate) -> LearningRate:
    """One grid step further, to three digits."""
    return LearningRate.parse(f"{float(edge.fraction * edge.fraction / inner.fraction):.3g}")
