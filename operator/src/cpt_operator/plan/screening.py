"""Screening: which datasets help more than replay data alone? Judges arms of the sweep; only controls are added.

A rate of a dataset is judged where its race ended, against the control at the same rate and tokens. With rungs of 1B,
2B and 4B, where python dropped 1e-3 at 1B, and perl at 2B:

    python    3e-4 @ 4B   1e-3 @ 1B                 control   3e-4 @ 4B
    perl      3e-4 @ 4B   1e-3 @ 2B                           1e-3 @ 1B (with replicates, of the sweep)   1e-3 @ 2B

Controls are lines like any other: their trunks are shared, none is pruned, none goes on past the last rung. Those of
the last rung are planned beside its arms, so that screening adds no time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from cpt_api.experiment import OnUndecided
from cpt_api.result import Decision, Outcome, Screened, Verdict
from cpt_api.trial import Arm, DatasetArms, Question, TrialRef
from cpt_api.values import Digest, LearningRate, Tokens
from cpt_operator.plan.question import Arms, Controls, control_arms, grouped, hear, pose
from cpt_operator.plan.recipe import Recipe
from cpt_operator.plan.segments import Segments
from cpt_operator.plan.sweep import CONTROL, Sweep, control_line, line_of, scored_by, with_scores
from cpt_operator.plan.types import NO_TOKENS, StageState, Succeeded

STAGE = "screening"
_DATASETS_MAX = 48
"""Of one decision: an answer has up to 5 kB in its document."""

Place = tuple[LearningRate, int]
"""A rate, and the rung (from 0) at which it is judged."""


@dataclass(frozen=True, slots=True)
class Screening(StageState):
    """How far it is. Failures are those of controls."""

    answers: Mapping[str, Screened] = field(default_factory=dict)
    """By dataset name; one whose arms all failed has none."""
    survivors: tuple[str, ...] = ()
    """Datasets that go on: those that help and, under Keep, the undecided ones."""

    @property
    def undecided(self) -> tuple[str, ...]:
        """Datasets of which nothing sure can be said."""
        return tuple(sorted(name for name, one in self.answers.items() if one.target.verdict is Verdict.UNDECIDED))

    @property
    def outcome(self) -> str:
        """What it means that no dataset goes on."""
        if not self.undecided:
            return "no dataset survived screening: the base is best"
        return f"no dataset is known to help, so the base stays: {self.sentence}"


def plan_screening(segments: Segments, sweep: Sweep, replicates: Controls) -> Screening:
    """Add controls for all that the race has settled, and when it is over the question."""
    added = _controls(segments, sweep, replicates)
    controls = {(rate, 0): digests for rate, digests in replicates.items()} | added
    judged = [
        (f"{CONTROL} at {rate}, {segments.recipe.rungs[rung]} tokens", digest)
        for (rate, rung), digests in added.items()
        for digest in digests
    ]
    failures = segments.failures(judged)
    ahead = _ahead(segments.recipe, sweep, controls) if segments.recipe.replay else NO_TOKENS
    if not sweep.decided:
        return Screening(failures=failures, tokens_ahead=ahead)
    rungs = segments.recipe.rungs
    arms = {
        name: {
            rate: segments.arm(line_of(segments, name, rate), rungs[rung], STAGE) for rate, rung in sorted(ends.items())
        }
        for name, ends in sweep.ends.items()
    }
    watched = [digest for digests in controls.values() for digest in digests]
    watched += [digest for rates in arms.values() for digest in rates.values()]
    scored = scored_by(segments, watched)
    failures = segments.failures(judged)
    if scored is None:
        return Screening(failures=failures)
    present = with_scores(arms, scored)
    question = _Question(segments, sweep, arms, controls, scored, family=len(present))
    asked = {question.ask(group): group for group in grouped(segments, present, _DATASETS_MAX)}
    heard = hear(segments, asked, partial(_believed, segments))
    if not heard.complete:
        return Screening(failures=failures, obstacle=heard.obstacle)
    return Screening(
        answers=heard.answers,
        survivors=_survivors(segments.recipe, heard.answers),
        decision=next(iter(asked), None),
        sentence=heard.sentence,
        decided=True,
        failures=failures,
    )


# --- controls -----------------------------------------------------------------------------------------------------


def _controls(segments: Segments, sweep: Sweep, replicates: Controls) -> dict[Place, tuple[Digest, ...]]:
    """One for each rate and rung at which an arm is judged; the sweep has those of the first rung."""
    recipe = segments.recipe
    if recipe.replay is None:
        return {}
    places = {
        (rate, rung)
        for name, ends in sweep.ends.items()
        for rate, rung in ends.items()
        if rung + 1 == len(recipe.rungs) or _has_score(segments, name, rate, rung)
    }
    return {
        (rate, rung): (segments.arm(control_line(segments, recipe.replay, rate), recipe.rungs[rung], STAGE),)
        for rate, rung in sorted(places)
        if rung or rate not in replicates
    }


def _has_score(segments: Segments, name: str, rate: LearningRate, rung: int) -> bool:
    """What diverged or failed on the way is compared with nothing."""
    end = segments.recipe.rungs[rung]
    outcome = segments.outcomes.get(segments.arm(line_of(segments, name, rate), end, STAGE))
    return isinstance(outcome, Succeeded) and outcome.result.outcome is Outcome.COMPLETED


def _ahead(recipe: Recipe, sweep: Sweep, controls: Iterable[Place]) -> Tokens:
    """At most: every rate that races on is judged at every rung to come."""
    total, places, last = 0, set(controls), len(recipe.rungs) - 1
    for rate in {rate for rates in sweep.racing.values() for rate in rates}:
        reached = max((rung for known, rung in places if known == rate), default=None)
        trunk = recipe.branch_point(recipe.rungs[reached]) if reached is not None else 0
        total += recipe.branch_point(recipe.rungs[last]) - trunk
        for rung in range(sweep.rung, last + 1):
            if (rate, rung) not in places:
                total += recipe.rungs[rung] - recipe.branch_point(recipe.rungs[rung])
    return Tokens(total)


# --- the question ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Question:
    """What all parts of the question share."""

    segments: Segments
    sweep: Sweep
    arms: Arms
    """Failed ones among them."""
    controls: Mapping[Place, tuple[Digest, ...]]
    scored: Mapping[Digest, Digest]
    family: int

    def ask(self, group: Arms) -> Digest:
        """Add the Decide trial about these datasets."""
        segments, recipe = self.segments, self.segments.recipe
        judged = {(rate, self.sweep.ends[name][rate]) for name, rates in group.items() for rate in rates}
        runs = (
            (rate, recipe.rungs[rung], digests)
            for (rate, rung), digests in sorted(self.controls.items())
            if (rate, rung) in judged or len(digests) > 1  # replicates tell the run noise, wherever they are
        )
        datasets = [self._dataset(name, rates) for name, rates in group.items()]
        return pose(
            segments,
            Question.SCREENING,
            datasets,
            STAGE,
            "screening",
            controls=control_arms(runs, self.scored),
            error_rate=recipe.error_rate,
            family=self.family,
        )

    def _dataset(self, name: str, rates: Mapping[LearningRate, Digest]) -> DatasetArms:
        rungs = self.segments.recipe.rungs
        return DatasetArms(
            **self.segments.subjects[name].reference,
            arms=tuple(
                Arm(
                    learning_rate=rate,
                    trial=TrialRef(digest=self.scored[digest]),
                    tokens=rungs[self.sweep.ends[name][rate]],
                )
                for rate, digest in sorted(rates.items())
            ),
            missing=tuple(sorted(self.arms[name].keys() - rates.keys())),
        )


def _believed(segments: Segments, document: Decision, asked: Arms) -> dict[str, Screened] | None:
    """By dataset name; None unless there is one for every dataset, about the very arms that it was asked for."""
    by_data = {one.dataset: one for one in document.screened or ()}
    answers = {}
    for name, rates in asked.items():
        answer = by_data.get(segments.subjects[name].digest)
        if answer is None or {arm.learning_rate for arm in answer.arms} != rates.keys():
            return None
        answers[name] = answer
    return answers


def _survivors(recipe: Recipe, answers: Mapping[str, Screened]) -> tuple[str, ...]:
    surviving = {Verdict.HELPS} | ({Verdict.UNDECIDED} if recipe.on_undecided is OnUndecided.KEEP else set())
    return tuple(sorted(name for name, answer in answers.items() if answer.target.verdict in surviving))
