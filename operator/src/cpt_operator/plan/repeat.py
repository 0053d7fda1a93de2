"""The chosen recipe once more, on another base: two rates to the first rung, and the better one to the end.

    chosen at 3e-5 on a base with a peak of 3e-4; this one had 2e-4:    2e-5 and 1e-5

What is repeated may be a dataset or a mix: the same data in the same proportions, made with the other base's tokenizer.
Which of the two rates is decided by the items of that model alone: nobody trains replicates of a large one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

from cpt_api.digest import mix_digest
from cpt_api.experiment import ScalingModel
from cpt_api.trial import Arm, TrialRef
from cpt_api.values import Digest, LearningRate, Tokens
from cpt_operator.plan.inputs import Inputs
from cpt_operator.plan.question import ask, choices_of, hear
from cpt_operator.plan.recipe import Recipe
from cpt_operator.plan.segments import Segments
from cpt_operator.plan.subjects import Subject, phase_of
from cpt_operator.plan.sweep import line_of, scored_by
from cpt_operator.plan.trials import Trials

STAGE = "scaling"
_SLOWER = Fraction(1, 2)
"""Of the transferred rate: larger models like lower ones."""


@dataclass(frozen=True, slots=True)
class Course:
    """What is repeated: the arm that was chosen on the experiment's base."""

    subject: Subject
    """What it reads there."""
    rate: LearningRate
    tokens: Tokens
    arm: Digest
    """The Train trial."""
    picked_from: int
    """Among how many arms it was the best."""


@dataclass(frozen=True, slots=True)
class Trained:
    """How far the training of one model is."""

    arm: Arm | None = None
    failures: tuple[str, ...] = ()
    obstacle: str | None = None
    waits: bool = False
    tokens_ahead: int = 0


def train(segments: Segments, course: Course, model: ScalingModel) -> Trained:
    """Two rates to the first rung, and the better one on. `segments` are those of the model (`on_model`)."""
    ((name, _),) = segments.subjects.items()
    first = segments.recipe.rungs[0]
    ahead = beyond_first(segments.recipe, first, course.tokens)
    rates = list(_rates(segments.recipe, course, model))
    arms = {rate: segments.arm(line_of(segments, name, rate), first, STAGE) for rate in rates}
    holders = scored_by(segments, arms.values())
    if holders is None:
        return Trained(waits=True, tokens_ahead=ahead)
    present = {name: {rate: arm for rate, arm in arms.items() if arm in holders}}
    failures = segments.failures((f"{model.name}: {rate}", arm) for rate, arm in arms.items())
    if not present[name]:
        return Trained(failures=failures)
    missing = {name: frozenset(arms.keys() - present[name].keys())}
    heard = hear(segments, ask(segments, present, missing, {}, holders, rung=0), partial(choices_of, segments))
    if not heard.complete:
        return Trained(failures=failures, obstacle=heard.obstacle, waits=True, tokens_ahead=ahead)
    rate = heard.answers[name].chosen
    if rate is None:  # both diverged: a result
        rate = min(present[name])
        return Trained(arm_of(rate, first, holders[present[name][rate]]), failures)
    arm = segments.arm(line_of(segments, name, rate), course.tokens, STAGE)
    holders = scored_by(segments, [arm])
    if holders is None:
        return Trained(failures=failures, waits=True)
    failures += segments.failures([(f"{model.name}: {rate} @ {course.tokens}", arm)])
    return Trained(arm_of(rate, course.tokens, holders.get(arm)), failures)


def on_model(
    segments: Segments, course: Course, model: str, inputs: Inputs, baseline: Digest, trials: Trials
) -> Segments:
    """Segments of that base: one line, with ends where two rates are compared and where the course ends."""
    name = f"{model}: {course.subject.name}"  # what was added is shared, so lines of other models have other names
    first = first_end(segments.recipe, course.tokens)
    longer = (course.tokens,) if course.tokens > first else ()
    return replace(
        segments,
        inputs=replace(inputs, recipe=replace(segments.recipe, rungs=(first,), durations=longer)),
        baseline=baseline,
        trials=trials,
        subjects={name: _translated(segments.inputs, inputs, course.subject, name)},
        stage=STAGE,
        about=model,
        points={},
    )


def names_of(inputs: Inputs) -> dict[Digest, str]:
    """By Prepare trial; the first of two names counts."""
    return {digest: name for name, digest in sorted(inputs.prepared.items(), reverse=True)}


def first_end(recipe: Recipe, end: Tokens) -> Tokens:
    """Where two rates are compared: where the control's replicates tell the run noise, or before."""
    return min(recipe.control_tokens, end)


def beyond_first(recipe: Recipe, first: Tokens, end: Tokens) -> int:
    """Tokens of an arm that ends there, beyond its trunk to the first comparison."""
    return end - recipe.branch_point(first) if end > first else 0


def arm_of(rate: LearningRate, tokens: Tokens, holder: Digest | None) -> Arm | None:
    """As a question names it; `holder` has its score."""
    return Arm(learning_rate=rate, trial=TrialRef(digest=holder), tokens=tokens) if holder else None


def _rates(recipe: Recipe, course: Course, model: ScalingModel) -> Iterator[LearningRate]:
    """The chosen rate, in proportion to the peaks of pretraining where both are known, and half of it."""
    peak, own = recipe.spec.model.peak_learning_rate, model.peak_learning_rate
    transferred = course.rate.fraction * (own.fraction / peak.fraction if own and peak else 1)
    for rate in (transferred * _SLOWER, transferred):
        yield LearningRate.parse(f"{float(rate):.6g}")


def _translated(inputs: Inputs, other: Inputs, subject: Subject, name: str) -> Subject:
    """The same data as another base reads it."""
    names = names_of(inputs)

    def theirs(data: Digest | None) -> Digest:
        assert data is not None, "a plan is resolved"
        return other.prepared[names[data]]

    phases = tuple(
        phase_of({theirs(part.dataset.digest): part.weight.fraction for part in phase.mixture}, phase.until_tokens)
        for phase in subject.phases
    )
    if subject.dataset is None:
        return Subject(name, mix_digest(phases), phases)
    data = theirs(subject.dataset)
    return Subject(name, data, phases, data)
