"""Learning-rate sweep: a race over rungs, decided by Decide trials.

At each rung every dataset has one cooled arm for each rate that is still in the race; after the last rung one rate is
chosen. At the first rung the control (replay data alone) runs at every rate, with replicates that differ in their
order seed: they are the only source of the run noise, and every experiment on the same base shares them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial

from cpt_api.experiment import Dataset
from cpt_api.result import RateChoice
from cpt_api.values import Digest, LearningRate, Tokens
from cpt_operator.plan.metrics import knows_metrics
from cpt_operator.plan.question import STAGE, Arms, Controls, Key, Missing, ask, choices_of, hear
from cpt_operator.plan.recipe import Recipe
from cpt_operator.plan.segments import Line, Segments
from cpt_operator.plan.subjects import phase_of
from cpt_operator.plan.types import NO_TOKENS, Failed, Succeeded

CONTROL = "the control"
"""How lines of replay data alone are called; with its space no name of a dataset."""

Grid = Mapping[str, tuple[LearningRate, ...]]
"""Rates that are in the race, rising, by dataset name."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a decision says about one dataset."""

    choice: RateChoice
    arms: Mapping[LearningRate, Digest]
    """The Train trials that it is about."""
    rung: int
    """From 0."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """How far the race is."""

    answers: Mapping[str, Answer] = field(default_factory=dict)
    """The latest by dataset name; a dataset whose arms all failed has none."""
    decision: Digest | None = None
    """The latest Decide trial that has answered."""
    sentence: str = ""
    """Its answer for people."""
    decided: bool = False
    """The last rung is decided."""
    failed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What failed for good, in words, by dataset name (or CONTROL)."""
    missing: Missing = field(default_factory=dict)
    """At the rungs so far."""
    obstacle: str | None = None
    """Why the race cannot go on."""
    tokens_ahead: Tokens = NO_TOKENS
    """That later rungs train if no rate is dropped."""
    ends: Mapping[str, Mapping[LearningRate, int]] = field(default_factory=dict)
    """The rung (from 0) at which the race ends for a rate, by dataset name: the last one, or where it fell out."""
    racing: Grid = field(default_factory=dict)
    """Rates whose end is not known yet."""
    rung: int = 0
    """The latest."""
    first: Mapping[str, RateChoice] = field(default_factory=dict)
    """What was said at the first rung, the only one at which every dataset has every rate."""

    @property
    def failures(self) -> tuple[str, ...]:
        """The same of all."""
        return tuple(text for texts in self.failed.values() for text in texts)

    @property
    def remedy(self) -> str:
        """What to do about datasets for which no rate can be chosen; empty where there is none."""
        names = sorted(name for name, answer in self.answers.items() if self.decided and answer.choice.chosen is None)
        if not names:
            return ""
        return f"every rate of {', '.join(names)} diverged: append lower ones to learningRateSweep.learningRates"


def plan_sweep(segments: Segments, controls: Controls) -> Sweep:
    """Add arms and decisions, rung after rung, as far as the outcomes reach."""
    recipe = segments.recipe
    grid: Grid = dict.fromkeys(segments.subjects, recipe.rates)
    sweep = Sweep()
    for rung in range(len(recipe.rungs)):
        sweep = replace(sweep, rung=rung)
        round_ = _rung(segments, controls, rung, grid, sweep.missing)
        if rung == 0 and round_.decision and (wider := _widened(grid, round_.choices)) != grid:
            sweep = _after(sweep, round_, rung)
            grid, round_ = wider, _rung(segments, controls, rung, wider, sweep.missing)
        sweep = _after(sweep, round_, rung)
        if rung == 0:
            sweep = replace(sweep, first=round_.choices)
        is_last = rung + 1 == len(recipe.rungs)
        if is_last:
            sweep = replace(sweep, ends=_ended(sweep.ends, grid, {}, rung))
        if not round_.decision:
            return replace(sweep, tokens_ahead=_ahead(recipe, grid, rung), racing={} if is_last else grid)
        choices, before = round_.choices, grid
        grid = {name: rates for name in grid if name in choices and (rates := _survivors(choices[name]))}
        sweep = replace(sweep, ends=_ended(sweep.ends, before, grid, rung))
        if not grid:  # every rate diverged
            break
    return replace(sweep, decided=True)


def _survivors(choice: RateChoice) -> tuple[LearningRate, ...]:
    return tuple(sorted(arm.learning_rate for arm in choice.arms if arm.learning_rate in choice.survivors))


def _ended(
    ends: Mapping[str, Mapping[LearningRate, int]], before: Grid, after: Grid, rung: int
) -> Mapping[str, Mapping[LearningRate, int]]:
    """Rates that do not go on end at this rung, unless they had before."""
    fallen = {name: [rate for rate in rates if rate not in after.get(name, ())] for name, rates in before.items()}
    return {**ends, **{name: dict.fromkeys(rates, rung) | dict(ends.get(name, {})) for name, rates in fallen.items()}}


def _ahead(recipe: Recipe, grid: Grid, rung: int) -> Tokens:
    lines = sum(len(rates) for rates in grid.values())
    return Tokens(lines * sum(recipe.tokens_of_rung(later) for later in range(rung + 1, len(recipe.rungs))))


# --- arms ---------------------------------------------------------------------------------------------------------


def replicated(segments: Segments) -> Controls:
    """The control and its replicates at every rate, at the first rung."""
    recipe = segments.recipe
    if recipe.replay is None:
        return {}
    return {
        rate: tuple(
            segments.arm(control_line(segments, recipe.replay, rate, number), recipe.control_tokens, STAGE)
            for number in range(recipe.replicates)
        )
        for rate in recipe.rates
    }


def control_line(segments: Segments, replay: Dataset, rate: LearningRate, number: int = 0) -> Line:
    """Replay data alone; the replicates are numbered from 1."""
    phase = phase_of({segments.inputs.prepared[replay.name]: Fraction(1)})
    return Line(CONTROL, (phase,), rate, segments.recipe.seed + number)


def line_of(segments: Segments, name: str, rate: LearningRate) -> Line:
    """Of a dataset or a mix, with its replay data."""
    return Line(name, segments.subjects[name].phases, rate, segments.recipe.seed)


# --- one rung -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Round:
    """One rung: what its decision says, or why there is none yet (or ever)."""

    failed: Mapping[str, tuple[str, ...]]
    missing: Missing = field(default_factory=dict)
    decision: Digest | None = None
    arms: Arms = field(default_factory=dict)
    choices: Mapping[str, RateChoice] = field(default_factory=dict)
    sentence: str = ""
    obstacle: str | None = None


def _after(sweep: Sweep, round_: _Round, rung: int) -> Sweep:
    failed = {name: _once((*sweep.failed.get(name, ()), *words)) for name, words in round_.failed.items()}
    sweep = replace(sweep, failed={**sweep.failed, **failed}, obstacle=round_.obstacle)
    if round_.decision is None:
        return sweep
    answers = {name: Answer(choice, round_.arms[name], rung) for name, choice in round_.choices.items()}
    return replace(
        sweep,
        answers={**sweep.answers, **answers},
        decision=round_.decision,
        sentence=round_.sentence,
        missing={**sweep.missing, **round_.missing},
    )


def _once(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


def _rung(segments: Segments, controls: Controls, rung: int, grid: Grid, before: Missing) -> _Round:
    """Its arms, and its decision when all of them have ended. `before`: what is missing from earlier rungs."""
    end = segments.recipe.rungs[rung]
    arms = {
        name: {rate: segments.arm(line_of(segments, name, rate), end, STAGE) for rate in rates}
        for name, rates in grid.items()
    }
    watched = [digest for rates in arms.values() for digest in rates.values()]
    watched += [digest for digests in controls.values() for digest in digests]
    scored = scored_by(segments, watched)
    failed = _failed(segments, arms, controls)
    if scored is None:
        return _Round(failed)
    present = with_scores(arms, scored)
    if not present:
        return _Round(failed, obstacle="no arm is left")
    missing: Missing = {
        name: before.get(name, frozenset()) | (arms[name].keys() - rates.keys()) for name, rates in present.items()
    }
    asked = ask(segments, present, missing, controls, scored, rung)
    heard = hear(segments, asked, partial(choices_of, segments))
    if not heard.complete:
        return _Round(failed, obstacle=heard.obstacle)
    return _Round(failed, missing, next(iter(asked)), present, heard.answers, heard.sentence)


def _failed(segments: Segments, arms: Arms, controls: Controls) -> dict[str, tuple[str, ...]]:
    lines = {name: [(f"{name} at {rate}", digest) for rate, digest in rates.items()] for name, rates in arms.items()}
    lines[CONTROL] = [(f"{CONTROL} at {rate}", digest) for rate, digests in controls.items() for digest in digests]
    return {name: _once(words) for name, trials in lines.items() if (words := segments.failures(trials))}


def scored_by(segments: Segments, arms: Iterable[Digest]) -> Mapping[Digest, Digest] | None:
    """The trials that hold the item tables of these arms; None until all have ended, and what decides is known.

    Arms have none that failed, or whose evaluation did.
    """
    arms, outcomes = list(arms), segments.outcomes
    if any(arm not in outcomes for arm in arms):
        return None
    holders = {arm: holder for arm in arms if (holder := _holder(segments, arm))}
    if any(holder not in outcomes for holder in holders.values()) or not knows_metrics(segments):
        return None
    return {arm: holder for arm, holder in holders.items() if isinstance(outcomes[holder], Succeeded)}


def with_scores(
    arms: Mapping[str, Mapping[Key, Digest]], scored: Mapping[Digest, Digest]
) -> Mapping[str, Mapping[Key, Digest]]:
    """Without arms that have no item tables, and datasets without any that has."""
    present = {name: {key: arm for key, arm in by_key.items() if arm in scored} for name, by_key in arms.items()}
    return {name: by_key for name, by_key in present.items() if by_key}


def _holder(segments: Segments, arm: Digest) -> Digest | None:
    """The arm itself; an Evaluate trial where a suite decides, or a reused one lacks a text."""
    outcome = segments.outcomes[arm]
    if isinstance(outcome, Failed):
        return None
    have = {score.text for score in outcome.result.held_out}
    has_all = segments.inputs.scored <= have and not segments.recipe.suites
    return arm if has_all or not segments.can_continue(arm) else segments.score(arm)


def _widened(grid: Grid, choices: Mapping[str, RateChoice]) -> Grid:
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
