"""Scaling: what is the chosen recipe worth on other bases? Each reads the same texts with its own tokenizer.

With a first rung of 1B and 8B chosen on the base, at 3e-5 with a pretraining peak of 3e-4; a 13B model had one of 2e-4:

    13b   2e-5   0 ── 0.8B ── 1.6B ── 3.2B ── 6.4B     the better of two rates, of which the decision at 1B knows
                       └─ 1B                   └─ 8B
          1e-5   0 ── 0.8B ─ 1B                        half of it

One more decision holds every model against its own base, and against the line that all bases make. References are
evaluated, and stand on that line. A model that fails is left out, and named: the others are compared without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cpt_api.experiment import ModelStatus, Reference, ScalingModel
from cpt_api.result import Decision, Equivalent, Scaled
from cpt_api.trial import Question, SizedModel, TrialRef
from cpt_api.values import Digest, Tokens
from cpt_operator.plan.inputs import Inputs, inputs_of
from cpt_operator.plan.metrics import units_of
from cpt_operator.plan.question import Controls, control_arms, hear, pose
from cpt_operator.plan.recipe import BASE, Recipe
from cpt_operator.plan.repeat import (
    STAGE,
    Course,
    Trained,
    arm_of,
    beyond_first,
    first_end,
    names_of,
    on_model,
    train,
)
from cpt_operator.plan.segments import Segments
from cpt_operator.plan.sweep import scored_by
from cpt_operator.plan.types import StageState, Units


@dataclass(frozen=True, slots=True)
class Scaling(StageState):
    """How far it is. The failures are models that are left out."""

    models: tuple[ModelStatus, ...] = ()
    """The base first, then by name; what has no answer yet has no numbers."""
    names: Mapping[Digest, str] = field(default_factory=dict)
    """Of models, by the Evaluate trial of their base."""
    course: Course | None = None
    """What is repeated; None while that is open, and where nothing is."""


NOTHING = Scaling(sentence="no arm is better than the base: there is nothing to repeat", decided=True)
"""What a recipe comes to that found nothing."""


def plan_scaling(segments: Segments, course: Course, controls: Controls) -> Scaling:
    """Add what is to be done for every model, and when all have ended the question."""
    recipe = segments.recipe
    taken = {segments.baseline: BASE}
    seen = [_look(segments, course, model, taken) for model in sorted(recipe.further, key=lambda model: model.name)]
    found = Scaling(
        course=course,
        names=taken,
        failures=tuple(text for one in seen for text in one.failures),
        obstacle=next((one.obstacle for one in seen if one.obstacle), None),
        tokens_ahead=Tokens(sum(one.tokens_ahead for one in seen)),
        models=tuple(ModelStatus(name=name) for name in (BASE, *(one.name for one in seen))),
    )
    holders = scored_by(segments, [course.arm, *(arm for arms in controls.values() for arm in arms)])
    if holders is None or found.obstacle or any(one.waits for one in seen):
        return found
    own = SizedModel(
        baseline=TrialRef(digest=segments.baseline),
        target=tuple(TrialRef(digest=text) for text in segments.inputs.target),
        retention=tuple(TrialRef(digest=text) for text in segments.inputs.retention),
        pretraining_tokens=recipe.spec.model.pretraining_tokens,
        arm=arm_of(course.rate, course.tokens, holders.get(course.arm)),
        picked_from=course.picked_from,
    )
    models = sorted([own, *(one.sized for one in seen if one.sized)], key=lambda model: str(model.baseline.digest))
    runs = ((rate, recipe.control_tokens, digests) for rate, digests in sorted(controls.items()))
    asked = pose(
        segments,
        Question.SCALING,
        (),
        STAGE,
        "scaling",
        controls=control_arms(runs, holders),
        models=tuple(models),
    )
    heard = hear(segments, {asked: models}, _believed)
    if not heard.complete:
        return replace(found, obstacle=heard.obstacle)
    return replace(
        found,
        models=tuple(_status(found.names, one, heard.answers, units_of(segments)) for one in found.models),
        decision=asked,
        sentence=heard.sentence,
        decided=True,
        remedy=_remedy(recipe, found.names, heard.answers),
    )


def tokens_at_most(recipe: Recipe) -> Tokens:
    """Two rates to the first rung, and one of them to the longest duration there is."""
    mixed = (recipe.mix.longest if recipe.mix else None) or recipe.rungs[-1]
    longest = max((recipe.rungs[-1], *recipe.durations, mixed))
    return Tokens(sum(_of_one(recipe, model, longest) for model in recipe.scaling))


def naive_tokens(recipe: Recipe, course: Course | None) -> Tokens:
    """Of one model, by the study's protocol: both sweeps of what is repeated again, each point its own run.

    `course`: None while that is open; then it is the mix, where there is a sweep of one.
    """
    mix = recipe.mix
    if mix and mix.is_swept and (course is None or course.subject.dataset is None):
        return Tokens(mix.naive)
    return Tokens(len(recipe.rates) * recipe.rungs[-1] + sum(recipe.durations))


def _of_one(recipe: Recipe, model: Reference, end: Tokens) -> int:
    """All that it trains."""
    first = first_end(recipe, end)
    return 2 * first + beyond_first(recipe, first, end) if isinstance(model, ScalingModel) else 0


# --- one model --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Seen:
    """How far one model is."""

    name: str
    sized: SizedModel | None = None
    """Its part in the question, once all of it has ended."""
    failures: tuple[str, ...] = ()
    obstacle: str | None = None
    waits: bool = False
    tokens_ahead: int = 0


def _look(segments: Segments, course: Course, model: Reference, taken: dict[Digest, str]) -> _Seen:
    """Add what it needs next, and its name to those of the bases."""
    if model.name not in segments.inputs.further:
        return _Seen(model.name, waits=True, tokens_ahead=_of_one(segments.recipe, model, course.tokens))
    size = model.resources if isinstance(model, ScalingModel) else None
    trials = segments.trials.sized_for(size)
    wanted = _data_of(segments.inputs, course) if isinstance(model, ScalingModel) else ()
    inputs = inputs_of(segments.inputs, model.name, wanted, trials, STAGE)
    if lost := segments.failures((f"{model.name}: {text}", digest) for text, digest in inputs.prepared.items()):
        return _Seen(model.name, failures=lost)
    baseline = trials.add(inputs.evaluation(model=inputs.model), STAGE, f"the base {model.name}")
    if lost := segments.failures([(f"{model.name}: its base", baseline)]):
        return _Seen(model.name, failures=lost)
    if taken.setdefault(baseline, model.name) != model.name:
        return _Seen(model.name, failures=(f"{model.name}: it is the same model as {taken[baseline]}",))
    trained = Trained()
    if isinstance(model, ScalingModel):
        trained = train(on_model(segments, course, model.name, inputs, baseline, trials), course, model)
    waits = trained.waits or baseline not in segments.outcomes
    return _Seen(
        model.name,
        sized=SizedModel(
            baseline=TrialRef(digest=baseline),
            target=_same_texts(segments.inputs, inputs, segments.inputs.target),
            retention=_same_texts(segments.inputs, inputs, segments.inputs.retention),
            pretraining_tokens=model.pretraining_tokens,
            arm=trained.arm,
            picked_from=2 if trained.arm else 1,
        ),
        failures=trained.failures,
        obstacle=trained.obstacle,
        waits=waits,
        tokens_ahead=trained.tokens_ahead,
    )


def _data_of(inputs: Inputs, course: Course) -> set[str]:
    """Names of what is read."""
    names = names_of(inputs)
    parts = (part.dataset.digest for phase in course.subject.phases for part in phase.mixture)
    return {names[data] for data in parts if data}


def _same_texts(inputs: Inputs, other: Inputs, texts: tuple[Digest, ...]) -> tuple[TrialRef, ...]:
    """The same texts as another base reads them, one by one."""
    names = names_of(inputs)
    return tuple(TrialRef(digest=other.prepared[names[text]]) for text in texts)


# --- the answer -------------------------------------------------------------------------------------------------------


def _believed(document: Decision, asked: Sequence[SizedModel]) -> dict[str, Scaled] | None:
    """By the Evaluate trial of the base; None unless there is one for every model, about the very arm."""
    by_base = {str(one.baseline): one for one in document.scaled or ()}
    for model in asked:
        answer = by_base.get(str(model.baseline.digest))
        if answer is None or answer.trial != (model.arm.trial.digest if model.arm else None):
            return None
    return by_base


def _remedy(recipe: Recipe, names: Mapping[Digest, str], answers: Mapping[str, Scaled]) -> str:
    found = sorted(
        f"{name} at {answers[baseline].learning_rate}"
        for baseline, name in names.items()
        if baseline in answers and answers[baseline].outcome == "Diverged"
    )
    if not found:
        return ""
    lower = "append the model under another name with a lower peakLearningRate"
    if recipe.spec.model.peak_learning_rate is None:  # nothing is transferred
        lower = "in a new experiment name the peakLearningRate of the base, and a lower one of that model"
    return f"training diverged on {', '.join(found)}: {lower}"


def _status(
    names: Mapping[Digest, str], model: ModelStatus, answers: Mapping[str, Scaled], units: Units
) -> ModelStatus:
    own = next((baseline for baseline, name in names.items() if name == model.name), None)
    answer = answers.get(str(own))
    if answer is None:
        return model
    gain = answer.gain
    unit = units.target
    bounds = None
    if gain and gain.lower is not None and gain.upper is not None:
        bounds = f"{unit.change(gain.lower)} to {unit.change(gain.upper)}"
    return ModelStatus(
        name=model.name,
        base_target=unit.text(answer.base_target),
        target=unit.text(answer.target) if answer.target is not None else None,
        gain=unit.change(gain.value) if gain else None,
        interval=bounds,
        compute_equivalent=equivalent_words(answer.equivalent, is_sure=bounds is not None)
        if answer.equivalent
        else None,
    )


def equivalent_words(found: Equivalent, *, is_sure: bool) -> str:
    """Such as `2.4 (1.8 to 3.5)` or `> 3.1`; a bound beyond an end of the line is said with that end."""
    below, beyond = f"< {found.smallest:.3g}", f"> {found.largest:.3g}"
    value = {"Below": below, "Beyond": beyond}.get(found.place) or f"{found.value:.3g}"
    clear = (found.place, found.lower) == ("Beyond", found.largest) or (found.place, found.upper) == (
        "Below",
        found.smallest,
    )
    if clear or not is_sure:
        return value
    lower = f"{found.lower:.3g}" if found.lower is not None else below
    upper = f"{found.upper:.3g}" if found.upper is not None else beyond
    return f"{value} ({lower} to {upper})"
