"""From a manifest and what is known so far to the trials that should exist. Pure: no I/O, no clock.

`plan()` is called again and again with more outcomes; each call gives all trials known by then, in the order in which
they should start. The same outcomes give the same plan, in whatever order the manifest lists things and however
often the planner died in between.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace

from cpt_api.conditions import Reason
from cpt_api.experiment import Best, CPTExperimentSpec, DatasetStatus, MixStrategy, OnUndecided, StageStatus
from cpt_api.result import Estimate, HeldOutScore
from cpt_api.values import Digest, Tokens
from cpt_operator.plan import mixing as mixes
from cpt_operator.plan import mixsweep
from cpt_operator.plan.also import STAGE as ALSO
from cpt_operator.plan.also import Also, plan_also
from cpt_operator.plan.answers import Answer, Answers
from cpt_operator.plan.bill import operations_of
from cpt_operator.plan.candidates import Candidate, chosen, ends
from cpt_operator.plan.durations import STAGE as DURATIONS
from cpt_operator.plan.durations import Durations, plan_durations, tokens_at_most
from cpt_operator.plan.inputs import STAGE as PREFLIGHT
from cpt_operator.plan.inputs import Inputs, Looked, plan_inputs
from cpt_operator.plan.lengths import InvalidRecipeError
from cpt_operator.plan.metrics import knows_metrics, units_of, unknown_metrics
from cpt_operator.plan.mixrecipe import MixRecipe
from cpt_operator.plan.question import STAGE as SWEEP
from cpt_operator.plan.question import Controls
from cpt_operator.plan.recipe import BASE, Recipe, resolve
from cpt_operator.plan.repeat import STAGE as SCALING
from cpt_operator.plan.repeat import Course
from cpt_operator.plan.report import plan_report, stage_of
from cpt_operator.plan.scaling import NOTHING, Scaling, naive_tokens, plan_scaling
from cpt_operator.plan.scaling import tokens_at_most as scaling_at_most
from cpt_operator.plan.screening import STAGE as SCREENING
from cpt_operator.plan.screening import Screening, plan_screening
from cpt_operator.plan.segments import Earlier, Segments
from cpt_operator.plan.soup import STAGE as SOUP
from cpt_operator.plan.soup import Soup, plan_soup
from cpt_operator.plan.subjects import MIX, of_datasets
from cpt_operator.plan.sweep import Sweep, plan_sweep, replicated
from cpt_operator.plan.trials import Trials
from cpt_operator.plan.types import (
    NO_TOKENS,
    Context,
    Failed,
    Finding,
    Look,
    Outcome,
    Outcomes,
    Plan,
    PlannedTrial,
    Succeeded,
    Units,
)

__all__ = [
    "ENDED_STAGES",
    "Answer",
    "Context",
    "Earlier",
    "Failed",
    "Finding",
    "HeldOutScore",
    "Look",
    "Outcome",
    "Outcomes",
    "Plan",
    "PlannedTrial",
    "Succeeded",
    "plan",
]


_PARTS_NAMED = 6
"""Of a mix, in a sentence."""
ENDED_STAGES = frozenset({"Decided", "Failed"})
"""States of a stage in which nothing of it is left to do."""


def plan(
    spec: CPTExperimentSpec, context: Context, outcomes: Outcomes | Answer, earlier: Earlier | None = None
) -> Plan:
    """All trials known so far, and what was decided; with an `Answer` all that will be.

    `earlier`: kept from turn to turn, it saves most of the time.
    """
    try:
        recipe = resolve(spec)
    except InvalidRecipeError as error:
        return Plan(trials=(), finding=error.finding)
    trials = Trials(spec, context)
    looked = plan_inputs(recipe, context, trials)
    if looked.inputs is None:
        stages = (StageStatus(name=PREFLIGHT, state="Running"),)
        datasets = tuple(DatasetStatus(name=dataset.name) for dataset in spec.datasets)
        return Plan(trials.all(), stages, datasets, tokens_naive=_naive(recipe), finding=looked.finding)
    earlier = Earlier() if earlier is None else earlier
    earlier.begin((spec, replace(context, looks=(), look_again=False), looked.inputs))
    subjects = of_datasets(looked.inputs)
    if not isinstance(outcomes, Mapping):
        outcomes = Answers(trials, outcomes)
    segments = Segments(looked.inputs, _baseline(looked.inputs, trials), trials, outcomes, subjects, earlier)
    found = _decide(segments)
    decided = all(stage.decided for stage in found.all)
    naive = _naive(recipe, found)
    units = units_of(segments)
    best = _best(recipe, found, units)
    named = found.mixing.named if found.mixing else ()
    models = found.scaling.names if found.scaling else {}
    also = _also(segments, found) if recipe.also and decided else None
    can_report = decided and knows_metrics(segments) and (also is None or also.decided)
    scored = also.scored if also else ()
    report = plan_report(segments, context, naive, best, named, models, scored) if can_report else None
    finding = unknown_metrics(segments) or _finding(found, recipe) or looked.finding
    return Plan(
        trials=trials.all(),
        stages=(*_stages(looked, found), *_last(recipe, also), stage_of(report)),
        datasets=tuple(_dataset(dataset.name, found, units) for dataset in spec.datasets),
        mix=found.mixing.shares if found.mixing else (),
        scaling=found.scaling.models if found.scaling else (),
        best=best,
        units=units,
        tokens_ahead=Tokens(sum(stage.tokens_ahead for stage in found.all)),
        tokens_naive=naive,
        tokens_naive_elsewhere=_naive_elsewhere(recipe, found),
        operations=operations_of(segments),
        finding=finding,
        # a failed report is an end too
        complete=report is not None and report.has_ended and looked.is_whole and finding is None,
        report=report.page if report else None,
        message="; ".join(filter(None, [_answer(found, best), report.reason])) if report else "",
    )


_NO_SWEEP = Sweep(decided=True)
"""Of a recipe without one."""
Stage = Sweep | Screening | Durations | mixes.Mixing | mixsweep.MixSweep | Soup | Scaling


@dataclass(frozen=True, slots=True)
class _Found:
    """What the stages have decided so far; None: the recipe has no such stage."""

    sweep: Sweep
    screening: Screening | None
    durations: Durations | None = None
    mixing: mixes.Mixing | None = None
    mix_sweep: mixsweep.MixSweep | None = None
    soup: Soup | None = None
    scaling: Scaling | None = None

    @property
    def all(self) -> tuple[Stage, ...]:
        """The stages of the recipe."""
        before = (self.sweep, self.screening, self.durations, self.mixing, self.mix_sweep)
        stages: tuple[Stage | None, ...] = (*before, self.soup, self.scaling)
        return tuple(stage for stage in stages if stage)

    @property
    def named(self) -> tuple[tuple[str, str, Stage], ...]:
        """The same with their names, and what it means that one cannot be decided."""
        stages = (
            (SWEEP, "the sweep cannot be decided", self.sweep if self.sweep is not _NO_SWEEP else None),
            (SCREENING, "screening cannot be decided", self.screening),
            (DURATIONS, "the duration sweep cannot be decided", self.durations),
            (mixes.STAGE, "mixing cannot be decided", self.mixing),
            (mixsweep.STAGE, "the mix sweep cannot be decided", self.mix_sweep),
            (SOUP, "no soup is released", self.soup),
            (SCALING, "scaling cannot be decided", self.scaling),
        )
        return tuple((name, words, stage) for name, words, stage in stages if stage)

    @property
    def survivors(self) -> Container[str]:
        """Datasets that go on."""
        return self.screening.survivors if self.screening and self.screening.decided else self.sweep.answers


def _decide(segments: Segments) -> _Found:
    recipe = segments.recipe
    controls = replicated(segments)
    sweep = plan_sweep(segments, controls) if recipe.has_sweep else _NO_SWEEP
    found = _Found(sweep, plan_screening(segments, sweep, controls) if recipe.on_undecided else None)
    if recipe.durations:
        found = replace(found, durations=_durations(segments, found, controls))
    if recipe.mix:
        found = _mixed(segments, found, recipe.mix, controls)
    if recipe.soup_weights:
        found = replace(found, soup=_soup(segments, found))
    if recipe.spec.recipe.scaling:
        found = replace(found, scaling=_scaling(segments, found, controls))
    return found


def _can_go_on(found: _Found, recipe: Recipe) -> bool:
    """Whether nothing before the next stage is open, or needs somebody."""
    return all(stage.decided for stage in found.all) and _finding(found, recipe) is None


def _durations(segments: Segments, found: _Found, controls: Controls) -> Durations:
    recipe = segments.recipe
    if not _can_go_on(found, recipe):
        return Durations(tokens_ahead=tokens_at_most(recipe, len(recipe.spec.datasets)))
    rates = {name: answer.choice.chosen for name, answer in found.sweep.answers.items() if name in found.survivors}
    return plan_durations(segments, {name: rate for name, rate in rates.items() if rate}, controls)


def _mixed(segments: Segments, found: _Found, mix: MixRecipe, controls: Controls) -> _Found:
    """With mixing, and the sweep of the mix."""
    recipe = segments.recipe
    mixing = mixes.Mixing(tokens_ahead=mixes.tokens_at_most(segments))
    if _can_go_on(found, recipe):
        survivors = [name for name in found.sweep.answers if name in found.survivors]
        mixing = mixes.plan_mixing(segments, found.sweep, found.durations, survivors, controls)
    found = replace(found, mixing=mixing)
    if not mix.is_swept:
        return found
    if not _can_go_on(found, recipe):
        return replace(found, mix_sweep=mixsweep.MixSweep(tokens_ahead=mixsweep.tokens_at_most(recipe)))
    return replace(found, mix_sweep=mixsweep.plan_mix_sweep(segments, mixing.subject, controls))


def _soup(segments: Segments, found: _Found) -> Soup:
    """Of what the last stage has trained."""
    if not _can_go_on(found, segments.recipe):
        return Soup()
    if found.mixing and found.mixing.subject:
        segments = replace(segments, subjects={**segments.subjects, MIX: found.mixing.subject})
    return plan_soup(segments, _trained(segments.recipe, found))


def _also(segments: Segments, found: _Found) -> Also:
    """Of what was chosen for each dataset and the mix, and of the soup."""
    if found.mixing and found.mixing.subject:
        segments = replace(segments, subjects={**segments.subjects, MIX: found.mixing.subject})
    return plan_also(segments, _chosen(segments.recipe, found), found.soup.released if found.soup else None)


def _last(recipe: Recipe, also: Also | None) -> tuple[StageStatus, ...]:
    """Of the suites that decide nothing, where there are any."""
    if not recipe.also:
        return ()
    state = "Waiting" if also is None else "Decided" if also.decided else "Running"
    return (StageStatus(name=ALSO, state=state, reason=_words([*also.failures]) if also else None),)


def _scaling(segments: Segments, found: _Found, controls: Controls) -> Scaling:
    """Of the arm that was chosen; a soup is not repeated."""
    recipe = segments.recipe
    if not _can_go_on(found, recipe):
        return Scaling(tokens_ahead=scaling_at_most(recipe))
    best = _best_arm(recipe, found)
    if best is None:
        return NOTHING
    mixed = found.mixing.subject if found.mixing and best.name == MIX else None
    picked_from = len(found.sweep.answers) * len(recipe.rates) * max(1, len(recipe.durations))
    if found.mix_sweep and recipe.mix:
        picked_from += len(recipe.mix.rates) * max(1, len(recipe.mix.durations))
    course = Course(mixed or segments.subjects[best.name], best.rate, best.tokens, best.trial, picked_from)
    return plan_scaling(segments, course, controls)


def _naive(recipe: Recipe, found: _Found | None = None) -> Tokens:
    """The study's protocol: each point of each sweep its own run. Who survives is not known from the beginning."""
    names = [dataset.name for dataset in recipe.spec.datasets]
    swept = len(names) * len(recipe.rates) * recipe.rungs[-1] if recipe.has_sweep else 0
    known = found is not None and (found.screening or found.sweep).decided
    lasting = [name for name in names if not known or (found and name in found.survivors)]
    mix = recipe.mix
    mixed = mix.naive if mix and mix.is_swept and (lasting or mix.strategy is MixStrategy.EXPLICIT) else 0
    scaled = len(recipe.scaling) * _naive_elsewhere(recipe, found)
    return Tokens(swept + len(lasting) * sum(recipe.durations) + mixed + scaled)


def _naive_elsewhere(recipe: Recipe, found: _Found | None) -> Tokens:
    """Of these, on each further base."""
    scaling = found.scaling if found else None
    return NO_TOKENS if scaling is NOTHING else naive_tokens(recipe, scaling.course if scaling else None)


def _baseline(inputs: Inputs, trials: Trials) -> Digest:
    """The base on every text, scored as the arms are: the line that everything is compared with."""
    return trials.add(inputs.evaluation(model=inputs.model), "baseline", BASE)


def _stages(looked: Looked, found: _Found) -> tuple[StageStatus, ...]:
    stages = [StageStatus(name=PREFLIGHT, state="Decided" if looked.is_whole else "Running")]
    can_run = True
    for name, _, stage in found.named:
        state = "Decided" if stage.decided else "Running" if can_run else "Waiting"
        reason = _words([stage.sentence, stage.remedy, *stage.failures])
        stages.append(StageStatus(name=name, state=state, decision=stage.decision, reason=reason))
        can_run = stage.decided
    return tuple(stages)


def _words(sentences: list[str]) -> str | None:
    return "; ".join(filter(None, sentences))[:1024] or None


def _dataset(name: str, found: _Found, units: Units) -> DatasetStatus:
    """Of the last stage that says something; screening's verdict and effect stand."""
    sweep, screening, durations = found.sweep, found.screening, found.durations
    answer = sweep.answers.get(name)
    if answer is None:
        return DatasetStatus(name=name, verdict="Undecided" if sweep.decided and name in sweep.failed else None)
    verdict: str = answer.choice.verdict
    effect = answer.choice.gain
    lasting = durations.answers.get(name) if durations else None
    if screening and (screened := screening.answers.get(name)):
        verdict, effect = screened.target.verdict.value, screened.target.effect
    elif lasting:
        verdict, effect = lasting.choice.verdict, lasting.choice.gain
    return DatasetStatus(
        name=name,
        verdict=verdict,
        best_learning_rate=answer.choice.chosen,
        effect=units.target.change(effect.value) if effect else None,
        optimal_tokens=lasting.choice.chosen if lasting else None,
        interval=_interval(effect, units),
    )


def _interval(estimate: Estimate | None, units: Units) -> str | None:
    if estimate is None or estimate.lower is None or estimate.upper is None:
        return None
    return f"{units.target.change(estimate.lower)} to {units.target.change(estimate.upper)}"


def _trained(recipe: Recipe, found: _Found) -> list[Candidate]:
    """Cooled arms of the last stage that trained a dataset, or the mix."""
    mixed = found.mix_sweep
    if mixed:
        return ends(mixed.rungs, mixed.sweep, mixed.durations, MIX)
    names = [name for name in found.sweep.answers if name in found.survivors]
    return [end for name in names for end in ends(recipe.rungs, found.sweep, found.durations, name)]


def _best(recipe: Recipe, found: _Found, units: Units) -> Best | None:
    """The released soup; without one the chosen arm with the best target, where it is better than the base.

    None: the base is best. After screening only of datasets that survived it, and the mix.
    """
    if found.soup and found.soup.decided:
        return found.soup.released.best(units) if found.soup.released else None
    best = _best_arm(recipe, found)
    return best.shown(units, best.trial, best.arm) if best else None


def _chosen(recipe: Recipe, found: _Found) -> list[Candidate]:
    """What was chosen for each dataset that survived, and for the mix."""
    names = [name for name in found.sweep.answers if name in found.survivors]
    candidates = [chosen(recipe.rungs, found.sweep, found.durations, name) for name in names]
    if mixed := found.mix_sweep:
        candidates.append(chosen(mixed.rungs, mixed.sweep, mixed.durations, MIX))
    return [one for one in candidates if one]


def _best_arm(recipe: Recipe, found: _Found) -> Candidate | None:
    """What was chosen for a dataset or the mix, of that what has the best target; None where the base is better."""
    better = [one for one in _chosen(recipe, found) if one.gain and one.gain.value > 0]
    return min(better, key=lambda one: (one.target, one.name), default=None)


def _finding(found: _Found, recipe: Recipe) -> Finding | None:
    screening = found.screening
    for _, what, stage in found.named:
        if stage.obstacle is not None:
            return Finding(Reason.FAILED, f"{what}: {'; '.join([stage.obstacle, *stage.failures])}"[:1024])
    if screening is None or recipe.on_undecided is not OnUndecided.STOP or not screening.undecided:
        return None
    first = screening.answers[screening.undecided[0]].reason
    return Finding(
        Reason.UNDECIDED,
        f"undecided: {', '.join(screening.undecided)}; an experiment with a new name and another onUndecided, or with "
        f"what it takes, shares all that was trained. {screening.undecided[0]}: {first}"[:1024],
    )


def _answer(found: _Found, best: Best | None) -> str:
    words = [f"{name}: {_of_dataset(name, found)}" for name in sorted(found.sweep.answers)]
    words += _of_mix(found)
    words += [found.sweep.remedy, found.mix_sweep.remedy if found.mix_sweep else ""]
    if found.screening and not found.screening.survivors and not (found.mix_sweep and found.mix_sweep.is_trained):
        words.append(found.screening.outcome)
    elif found.soup and found.soup.decided:
        words.append(f"soup: {found.soup.answer}")
    elif not best:
        words.append("no arm is better than the base")
    for model in found.scaling.models if found.scaling else ():
        if model.gain:
            worth = f", worth {model.compute_equivalent} times its compute" if model.compute_equivalent else ""
            words.append(f"on {model.name} {model.gain}{worth}")
    words.append(found.scaling.remedy if found.scaling else "")
    return "; ".join(filter(None, words))


def _of_mix(found: _Found) -> list[str]:
    """Which mix, and how it is trained; empty where there is none."""
    if not found.mixing or not found.mixing.shares:
        return []
    parts = ", ".join(f"{share.dataset} {share.weight}" for share in found.mixing.shares[:_PARTS_NAMED])
    more = len(found.mixing.shares) - _PARTS_NAMED
    words = f"{MIX} ({parts}{f' and {more} more' if more > 0 else ''})"
    mixed = found.mix_sweep
    lasting = mixed.durations.answers.get(MIX) if mixed and mixed.durations else None
    swept = mixed.sweep.answers.get(MIX) if mixed and mixed.sweep else None
    if lasting and lasting.choice.chosen:
        choice = lasting.choice
        return [f"{words}: {choice.chosen} tokens at {choice.learning_rate} ({choice.verdict})"]
    if swept:
        return [f"{words}: {swept.choice.chosen or 'every rate diverged'} ({swept.choice.verdict})"]
    return [words]


def _of_dataset(name: str, found: _Found) -> str:
    """Verdict, and the chosen duration or rate."""
    choice = found.sweep.answers[name].choice
    if choice.chosen is None:
        return "every rate diverged"
    lasting = found.durations.answers.get(name) if found.durations else None
    chosen = f"{lasting.choice.chosen} tokens at {choice.chosen}" if lasting and lasting.choice.chosen else ""
    if found.screening and (screened := found.screening.answers.get(name)):
        return f"{screened.target.verdict}, {chosen}" if chosen else str(screened.target.verdict)
    if lasting and chosen:
        return f"{chosen} ({lasting.choice.verdict})"
    return f"{choice.chosen} ({choice.verdict})"
