"""Arms as a tree of segments: one trunk per (data, rate, seed), and a cooled branch at each rung.

With rungs of 1B and 2B and a cooldown share of 0.2:

    0 ────────── 0.8B ────────── 1.6B          trunk: two segments, each ends where a branch leaves
                  └─ 1.0B         └─ 2.0B      branches: the rate falls to zero

The second rung trains 1.2B new tokens instead of 2B, and a rung that is appended later re-trains nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cpt_api.result import Outcome
from cpt_api.trial import (
    Cooldown,
    CPTTrialSpec,
    Observe,
    Phase,
    Schedule,
    Start,
    TrainWork,
    TrialRef,
    TrialType,
)
from cpt_api.values import Digest, LearningRate, Tokens
from cpt_operator.plan.inputs import Inputs
from cpt_operator.plan.recipe import Recipe
from cpt_operator.plan.subjects import Subject
from cpt_operator.plan.trials import Trials
from cpt_operator.plan.types import Failed, Outcomes, PlannedTrial, Succeeded


@dataclass(frozen=True, slots=True)
class Line:
    """What all segments of one trunk share."""

    name: str
    """The dataset's, CONTROL, or a mix's: with rate and seed it names the line."""
    phases: tuple[Phase, ...]
    """What it reads."""
    rate: LearningRate
    seed: int


@dataclass(slots=True)
class Earlier:
    """Segments of the plan before, which the next one looks up: making and hashing a trial again takes 50 times longer.

    A plan is what it would be without.
    """

    rests_on: object = None
    """Everything beside line and place that goes into a segment; when it changes, nothing is known any more."""
    segments: dict[object, tuple[Line, PlannedTrial]] = field(default_factory=dict)
    """By place on a line, where it starts from, and stage."""
    evaluations: dict[object, PlannedTrial] = field(default_factory=dict)
    """By the arm that they score, and stage."""

    def begin(self, rests_on: object) -> None:
        """The next plan is made from that."""
        if self.rests_on != rests_on:
            self.rests_on, self.segments, self.evaluations = rests_on, {}, {}

    def find(self, key: object, line: Line) -> PlannedTrial | None:
        """The segment there, if it was one of that very line."""
        known = self.segments.get(key)
        return known[1] if known and known[0] == line else None


@dataclass(frozen=True, slots=True)
class Segments:
    """Adds segments of lines to a plan."""

    inputs: Inputs
    baseline: Digest
    trials: Trials
    outcomes: Outcomes
    subjects: Mapping[str, Subject]
    """Whom questions may be about, by name."""
    earlier: Earlier = field(default_factory=Earlier)
    stage: str | None = None
    """That everything belongs to which is added; None: to the stage that adds it."""
    about: str = ""
    """In the titles of questions: the mix, or another base; empty: the datasets of the recipe."""
    added: dict[tuple[str, LearningRate, int, Tokens, bool], Digest] = field(default_factory=dict)
    """By line, end, and whether it is cooled: a later rung begins with the trunk of the rung before."""
    scored: dict[Digest, Digest] = field(default_factory=dict)
    """Evaluate trials of arms, by arm."""
    points: dict[Tokens, tuple[Tokens, ...]] = field(default_factory=dict)
    """Where a trunk ends on its way to an arm of that length; the same for all lines."""

    @property
    def recipe(self) -> Recipe:
        """Of the inputs."""
        return self.inputs.recipe

    def arm(self, line: Line, end: Tokens, stage: str) -> Digest:
        """Add what is missing up to the cooled end at `end`, and return the arm's digest.

        When the trunk has diverged, the trunk's last segment *is* the arm: there is nothing to cool. When its data
        could not be prepared, that failed trial is: there is nothing to train.
        """
        parts = [part for phase in line.phases for part in phase.mixture]
        lost = [part.dataset.digest for part in parts if self._has_failed(part.dataset.digest)]
        if lost and lost[0]:
            return lost[0]
        segment: Digest | None = None
        begin = Tokens(0)
        if end not in self.points:
            self.points[end] = self.recipe.trunk_points(end)
        for point in self.points[end]:
            segment = self._add(line, segment, begin, point, stage, cooled=False)
            if not self.can_continue(segment):
                return segment
            begin = point
        return self._add(line, segment, begin, end, stage, cooled=True)

    def add(self, spec: CPTTrialSpec, stage: str, title: str) -> Digest:
        """Add a trial that trains nothing."""
        return self.trials.add(spec, self.stage or stage, title)

    def failures(self, trials: Iterable[tuple[str, Digest]]) -> tuple[str, ...]:
        """Which of these failed for good, or their evaluation, and why, in words, by what people call them."""
        trials = list(trials)
        ended = [(name, self.outcomes.get(digest)) for name, digest in trials]
        ended += [
            (f"{name}: its evaluation", self.outcomes.get(self.scored[digest]))
            for name, digest in trials
            if digest in self.scored
        ]
        return tuple(f"{name}: {one.reason}: {one.message}" for name, one in ended if isinstance(one, Failed))

    def score(self, arm: Digest) -> Digest:
        """Add an Evaluate trial of that arm to its stage, and return its digest."""
        planned = self.trials.planned(arm)
        key = (arm, planned.stage)
        if (known := self.earlier.evaluations.get(key)) is None:
            spec = self.inputs.evaluation(segment=TrialRef(digest=arm))
            known = self.trials.planned(self.trials.add(spec, planned.stage, f"score of {planned.title}"))
            self.earlier.evaluations[key] = known
        self.scored[arm] = self.trials.put(known)
        return known.digest

    def trunk(self, line: Line, end: Tokens) -> Digest | None:
        """The segment that the cooled end at `end` left, once that was added; None where it never came so far."""
        return self.added.get((line.name, line.rate, line.seed, self.recipe.branch_point(end), False))

    def can_continue(self, segment: Digest) -> bool:
        """Unless it is known to have ended without an end to go on from."""
        match self.outcomes.get(segment):
            case None:
                return True
            case Succeeded(result):
                return result.outcome is Outcome.COMPLETED and result.checkpoint is not None
            case _:
                return False

    def _has_failed(self, digest: Digest | None) -> bool:
        return digest is not None and isinstance(self.outcomes.get(digest), Failed)

    def _add(
        self, line: Line, before: Digest | None, begin: Tokens, end: Tokens, stage: str, *, cooled: bool
    ) -> Digest:
        place = (line.name, line.rate, line.seed, end, cooled)
        if place in self.added:
            return self.added[place]
        stage = self.stage or stage
        key = (place, begin, before, stage)
        if known := self.earlier.find(key, line):
            self.added[place] = self.trials.put(known)
            return known.digest
        recipe = self.recipe
        start = Start(segment=TrialRef(digest=before)) if before else Start(model=self.inputs.model)
        cooldown = Cooldown(start_tokens=begin, end_tokens=end, shape=recipe.cooldown_shape) if cooled else None
        work = TrainWork(
            start=start,
            start_tokens=begin,
            stop_tokens=end,
            phases=line.phases,
            schedule=Schedule(peak_learning_rate=line.rate, warmup_tokens=recipe.warmup, cooldown=cooldown),
            sequence_length=recipe.spec.training.sequence_length,
            global_batch_size=recipe.spec.training.global_batch_size,
            optimizer=recipe.optimizer,
            precision=recipe.precision,
            document_mask=recipe.document_mask,
            seed=line.seed,
        )
        observe = Observe(
            held_out=self.inputs.observed,
            suites=self.inputs.curves,
            every_tokens=recipe.spec.evaluation.every_tokens,
            baseline=None if before else TrialRef(digest=self.baseline),
        )
        what = "cooled" if cooled else "trunk"
        title = f"{line.name} {line.rate} seed {line.seed} {what} @ {end}"
        spec = CPTTrialSpec(type=TrialType.TRAIN, train=work)
        digest = self.trials.add(spec, stage, title, tokens=Tokens(end - begin), observe=observe)
        self.added[place] = digest
        self.earlier.segments[key] = (line, self.trials.planned(digest))
        return digest
