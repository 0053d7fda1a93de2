"""Duration sweep: how long is worth it? One trunk per surviving dataset at its rate, with a cooled branch per duration.

With rungs of 1B, 2B and 4B and durations of 8B, 16B and 32B, where python stops to gain at 16B:

    python   0 ── 3.2B ── 6.4B ── 12.8B            the sweep's trunk is continued; 25.6B is never trained
                   │       └─ 8B   └─ 16B          two durations, then a decision: 16B gained at most minimumEffect
                   └─ 4B (of the sweep)

The two shortest durations are trained at once; from there on each one only where the decision before says that it may
be worth it. An appended duration continues the trunk from its last end, or stays out where that was decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from cpt_api.result import Decision, DurationChoice
from cpt_api.trial import Arm, DatasetArms, Question, TrialRef
from cpt_api.values import Digest, LearningRate, Tokens
from cpt_operator.plan.question import Controls, control_arms, grouped, hear, pose
from cpt_operator.plan.recipe import EPOCHS_MAX, Recipe
from cpt_operator.plan.segments import Segments
from cpt_operator.plan.subjects import epochs
from cpt_operator.plan.sweep import line_of, scored_by, with_scores
from cpt_operator.plan.types import StageState

STAGE = "durationSweep"
_DATASETS_MAX = 24
"""Of one decision: an answer has up to 10 kB in its document."""

Trunks = Mapping[str, LearningRate]
"""The rate of each dataset that goes on."""
Branches = Mapping[str, Mapping[Tokens, Digest]]
"""The trial of each arm by dataset name and duration."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a decision says about one dataset."""

    choice: DurationChoice
    arms: Mapping[Tokens, Digest]
    """The Train trials that it is about."""


@dataclass(frozen=True, slots=True)
class Durations(StageState):
    """How far it is."""

    answers: Mapping[str, Answer] = field(default_factory=dict)
    """The latest by dataset name; a dataset whose arms all failed has none."""


def plan_durations(segments: Segments, trunks: Trunks, controls: Controls) -> Durations:
    """Add arms and decisions, duration after duration, as far as the outcomes reach."""
    recipe = segments.recipe
    ladders = {name: _affordable(segments, name) for name in trunks}
    refused = tuple(
        f"{name}: {recipe.durations[len(ladder)]} tokens would repeat it more than {EPOCHS_MAX} times"
        for name, ladder in sorted(ladders.items())
        if len(ladder) < len(recipe.durations)
    )
    found = Durations(failures=refused)
    climbing = {name: ladder for name, ladder in ladders.items() if ladder}
    for count in range(min(2, len(recipe.durations)), len(recipe.durations) + 1):
        if not climbing:
            break
        step = _step(segments, trunks, controls, {name: ladder[:count] for name, ladder in climbing.items()})
        found = _after(found, step)
        if not step.decided:
            return replace(found, tokens_ahead=_ahead(recipe, climbing, count))
        climbing = {
            name: ladder
            for name, ladder in climbing.items()
            if len(ladder) > count and name in step.answers and step.answers[name].choice.go_on
        }
    return replace(found, decided=True)


def tokens_at_most(recipe: Recipe, subjects: int, *, swept: bool = True) -> Tokens:
    """All durations of so many subjects, beyond what the sweep trains where there is one."""
    return Tokens(subjects * _beyond(recipe, recipe.rungs if swept else (), recipe.durations))


def _affordable(segments: Segments, name: str) -> tuple[Tokens, ...]:
    """Durations that do not repeat any of its data too often, as far as sizes are known."""
    subject, inputs = segments.subjects[name], segments.inputs
    return tuple(
        tokens
        for tokens in segments.recipe.durations
        if max(epochs(subject, inputs, segments.outcomes, tokens).values(), default=0) <= EPOCHS_MAX
    )


def _ahead(recipe: Recipe, ladders: Mapping[str, tuple[Tokens, ...]], count: int) -> Tokens:
    planned = [(*recipe.rungs, *ladder[:count]) for ladder in ladders.values()]
    return Tokens(
        sum(_beyond(recipe, before, ladder) for before, ladder in zip(planned, ladders.values(), strict=True))
    )


def _beyond(recipe: Recipe, before: Iterable[Tokens], durations: Iterable[Tokens]) -> int:
    """Tokens of the segments up to these durations that segments up to those before do not have."""
    have = _segments(recipe, before)
    return sum(end - begin for begin, end in _segments(recipe, durations) - have)


def _segments(recipe: Recipe, ends: Iterable[Tokens]) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    for end in ends:
        points = recipe.trunk_points(end)
        found |= set(zip((0, *points), (*points, end), strict=True))
    return found


# --- one step -------------------------------------------------------------------------------------------------------


def _after(found: Durations, step: Durations) -> Durations:
    failures = tuple(dict.fromkeys((*found.failures, *step.failures)))
    found = replace(found, failures=failures, obstacle=step.obstacle)
    if not step.decided:
        return found
    return replace(
        found,
        answers={**found.answers, **step.answers},
        decision=step.decision or found.decision,
        sentence=step.sentence or found.sentence,
    )


def _step(
    segments: Segments, trunks: Trunks, controls: Controls, ladders: Mapping[str, tuple[Tokens, ...]]
) -> Durations:
    """The arms of these durations, and their decision when all of them have ended."""
    arms = {
        name: {end: segments.arm(line_of(segments, name, trunks[name]), end, STAGE) for end in ladder}
        for name, ladder in sorted(ladders.items())
    }
    ends = ((f"{name} at {end} tokens", digest) for name, ladder in arms.items() for end, digest in ladder.items())
    watched = [digest for ends in arms.values() for digest in ends.values()]
    runs = [digest for digests in controls.values() for digest in digests]
    scored = scored_by(segments, [*watched, *runs])
    failures = segments.failures(ends)
    if scored is None:
        return Durations(failures=failures)
    groups = grouped(segments, with_scores(arms, scored), _DATASETS_MAX)
    asked = {_ask(segments, trunks, arms, group, controls, scored): group for group in groups}
    heard = hear(segments, asked, partial(_believed, segments, trunks))
    if not heard.complete:
        return Durations(failures=failures, obstacle=heard.obstacle)
    return Durations(
        answers=heard.answers,
        decision=next(iter(asked), None),
        sentence=heard.sentence,
        decided=True,
        failures=failures,
    )


def _ask(
    segments: Segments,
    trunks: Trunks,
    arms: Branches,
    group: Branches,
    controls: Controls,
    scored: Mapping[Digest, Digest],
) -> Digest:
    recipe = segments.recipe
    datasets = [
        DatasetArms(
            **segments.subjects[name].reference,
            arms=tuple(
                Arm(learning_rate=trunks[name], trial=TrialRef(digest=scored[digest]), tokens=end)
                for end, digest in sorted(ends.items())
            ),
            missing_tokens=tuple(sorted(arms[name].keys() - ends.keys())) or None,
        )
        for name, ends in group.items()
    ]
    runs = ((rate, recipe.control_tokens, digests) for rate, digests in sorted(controls.items()))
    longest = max(end for ends in group.values() for end in ends)
    return pose(
        segments,
        Question.DURATION,
        datasets,
        STAGE,
        f"durations to {longest}",
        controls=control_arms(runs, scored),
        rates=len(recipe.rates),
        picked_at=recipe.rungs[-1],
    )


def _believed(segments: Segments, trunks: Trunks, document: Decision, asked: Branches) -> dict[str, Answer] | None:
    """By dataset name; None unless there is one for every dataset, about the very arms that it was asked for."""
    by_data = {choice.dataset: choice for choice in document.durations or ()}
    answers = {}
    for name, ends in asked.items():
        choice = by_data.get(segments.subjects[name].digest)
        if choice is None or {arm.tokens for arm in choice.arms} != ends.keys():
            return None
        if choice.learning_rate != trunks[name] or (choice.chosen is not None and choice.chosen not in ends):
            return None
        answers[name] = Answer(choice, ends)
    return answers
