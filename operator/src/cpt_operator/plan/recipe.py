"""The manifest with every default filled in: the one place where defaults are decided.

They are part of digests: changing one re-trains everything, so it needs a new protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeVar

from cpt_api.experiment import (
    HELD_OUT,
    Base,
    CPTExperimentSpec,
    Dataset,
    HeldOutText,
    OnUndecided,
    Reference,
    Retention,
    ScalingModel,
    Target,
)
from cpt_api.trial import CooldownShape, DocumentMask, Optimizer, OptimizerName, Precision
from cpt_api.values import Amount, LearningRate, Share, Tokens
from cpt_operator.plan.lengths import InvalidRecipeError, first_rung, whole_batches
from cpt_operator.plan.mixrecipe import MixRecipe, resolve_mix
from cpt_operator.plan.trials import merged

T = TypeVar("T")

_RATE_FRACTIONS = (Fraction(1, 30), Fraction(1, 10), Fraction(1, 3), Fraction(1, 2))
"""Of the pretraining peak: the optimum of a constant rate is about half of cosine's."""
EPOCHS_MAX = 16
"""A dataset is not repeated more often: what would is refused."""
EPOCHS_WARNED = 4
"""Beyond, more tokens gain little."""
_WARMUP_SHARE = Fraction(1, 100)
_THRESHOLD_MAX = Amount.parse("0.5")
"""Of suites: whoever writes more means points."""
_SCREENING_SHARE = Share.parse("0.5")
_COOLDOWN_SHARE = Share.parse("0.2")
_ERROR_RATE = Share.parse("0.05")
_SOUP_WEIGHTS = tuple(map(Share.parse, ("0.25", "0.5", "0.75", "1")))
BASE = "base"
"""How the experiment's model is called beside further ones."""
ITEMS = "items"
"""How what suites ask is called beside data."""
_SCORES_MAX = 512
"""Of a Scaling's question: a score has 90 bytes in its spec."""
INPUTS_MAX = 256
"""Of a Preflight, by its schema."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A `CPTExperimentSpec` without anything left open."""

    spec: CPTExperimentSpec
    rates: tuple[LearningRate, ...]
    """Rising. Without a sweep those of the mix, as are rungs: what follows is about both."""
    rungs: tuple[Tokens, ...]
    """Rising, each a whole number of global batches."""
    control_tokens: Tokens
    """Where the control has its replicates: the first rung, also for the mix."""
    batch_tokens: int
    warmup: Tokens
    cooldown_share: Fraction
    cooldown_shape: CooldownShape
    screening_share: Fraction
    """Of replay in an arm of a single dataset; 0 without replay."""
    replicates: int
    """Control arms per rate at the first rung; 0 without replay."""
    seed: int
    optimizer: Optimizer
    precision: Precision
    document_mask: DocumentMask
    minimum_effect: Amount | None
    """As the manifest says; None: by the unit of what decides."""
    margin: Amount | None
    on_undecided: OnUndecided | None
    """Screening's policy; None without screening."""
    durations: tuple[Tokens, ...] = ()
    """Rising, each a whole number of global batches; empty without a duration sweep."""
    error_rate: Share = _ERROR_RATE
    """Chance that a screening calls any useless dataset helpful."""
    mix: MixRecipe | None = None
    """None without mixing."""
    soup_weights: tuple[Share, ...] = ()
    """Of the trained model, rising; empty without a soup."""

    @property
    def replay(self) -> Dataset | None:
        """General data, where there is some."""
        return self.spec.replay.dataset if self.spec.replay else None

    @property
    def trained_on(self) -> tuple[Dataset, ...]:
        """Candidates and replay data."""
        return (*self.spec.datasets, *((self.replay,) if self.replay else ()))

    @property
    def held_out(self) -> tuple[HeldOutText, ...]:
        """Texts that nothing trains on; one that is both target and retention stands here once."""
        metrics = (self.spec.evaluation.target, self.spec.evaluation.retention)
        texts = {text.name: text for metric in metrics if metric for text in metric.data or ()}
        return tuple(texts[name] for name in sorted(texts))

    @property
    def target_suite(self) -> str | None:
        """The suite that decides; None where held-out text does."""
        return _named(self.spec.evaluation.target)

    @property
    def retention_suite(self) -> str | None:
        """The same of the retention; None also where none is asked for."""
        return _named(self.spec.evaluation.retention)

    @property
    def suites(self) -> tuple[str, ...]:
        """All that decide."""
        return tuple(sorted({suite for suite in (self.target_suite, self.retention_suite) if suite}))

    @property
    def also(self) -> tuple[str, ...]:
        """Those that are scored at the end, and decide nothing."""
        return tuple(sorted(set(self.spec.evaluation.also or ()) - set(self.suites)))

    @property
    def curves(self) -> tuple[str, ...]:
        """Those that are asked while a run is trained."""
        return tuple(sorted(set(self.spec.evaluation.curves or ())))

    @property
    def all_suites(self) -> tuple[str, ...]:
        """All that are asked."""
        return tuple(sorted({*self.suites, *self.also, *self.curves}))

    @property
    def has_sweep(self) -> bool:
        """Datasets are swept one by one."""
        return self.spec.recipe.learning_rate_sweep is not None

    def for_mix(self) -> Recipe:
        """The same with rates, rungs, durations and replay of the mix."""
        assert self.mix is not None, "there is mixing"
        mix = self.mix
        return replace(self, rates=mix.rates, rungs=mix.rungs, durations=mix.durations, screening_share=mix.share)

    @property
    def scaling(self) -> tuple[ScalingModel, ...]:
        """Bases on which the recipe is repeated."""
        return (self.spec.recipe.scaling.models if self.spec.recipe.scaling else None) or ()

    @property
    def further(self) -> tuple[Reference, ...]:
        """All bases but the experiment's."""
        return further(self.spec)

    def whole_batches(self, tokens: Fraction | int) -> Tokens:
        """The nearest whole number of global batches, at least one."""
        return Tokens(max(1, round(Fraction(tokens) / self.batch_tokens)) * self.batch_tokens)

    def branch_point(self, rung: Tokens) -> Tokens:
        """Where the cooled branch that ends at `rung` leaves its trunk."""
        return self.whole_batches(rung * (1 - self.cooldown_share))

    def epochs(self, tokens: Tokens, dataset_tokens: Tokens) -> Fraction:
        """How often an arm of that length reads a dataset of that size."""
        return Fraction(tokens) * (1 - self.screening_share) / dataset_tokens

    def trunk_points(self, end: Tokens) -> tuple[Tokens, ...]:
        """Where the trunk ends on its way to the branch of that length, itself included.

        Rungs come first, then longer durations. A duration between two rungs has a piece of trunk of its own: cutting
        the sweep's there would make it another one, and every sweep without durations would have to train it again.
        """
        point, last = self.branch_point(end), self.branch_point(self.rungs[-1])
        before = {self.branch_point(rung) for rung in self.rungs}
        before |= {later for duration in self.durations if (later := self.branch_point(duration)) > last}
        return (*sorted(earlier for earlier in before if earlier < point), point)

    def tokens_of_rung(self, number: int) -> int:
        """What one arm adds at that rung (from 0): its trunk since the rung before, and the cooled branch."""
        before = self.branch_point(self.rungs[number - 1]) if number else 0
        return self.rungs[number] - before


def further(spec: CPTExperimentSpec) -> tuple[Reference, ...]:
    """All bases but the experiment's."""
    scaling = spec.recipe.scaling
    return (*((scaling.models if scaling else None) or ()), *(spec.references or ()))


def further_trials(spec: CPTExperimentSpec) -> tuple[str, ...]:
    """Names of those that make such bases."""
    return tuple(model.trial_name for model in further(spec) if model.trial_name)


def resolve(spec: CPTExperimentSpec) -> Recipe:
    """Fill in the defaults. Raises InvalidRecipeError when the manifest contradicts itself."""
    training = spec.training
    batch_tokens = training.sequence_length * training.global_batch_size
    sweep = spec.recipe.duration_sweep
    durations = whole_batches(sweep.durations if sweep else (), batch_tokens)
    rates, rungs = _rates_and_rungs(spec, durations, batch_tokens)
    mix = resolve_mix(spec, rates, rungs, batch_tokens)
    if mix and spec.recipe.learning_rate_sweep is None:
        rates, rungs = mix.rates, mix.rungs
    recipe = Recipe(
        spec=spec,
        rates=rates,
        rungs=rungs,
        control_tokens=rungs[0] if mix is None else mix.control_tokens,
        batch_tokens=batch_tokens,
        warmup=Tokens(int(rungs[0] * _WARMUP_SHARE)) if training.warmup_tokens is None else training.warmup_tokens,
        cooldown_share=_or(training.cooldown_share, _COOLDOWN_SHARE).fraction,
        cooldown_shape=training.cooldown_shape or CooldownShape.ONE_MINUS_SQRT,
        screening_share=_or(spec.replay.screening_share, _SCREENING_SHARE).fraction if spec.replay else Fraction(0),
        replicates=_replicates(spec, mix),
        seed=training.seed or 0,
        optimizer=Optimizer(
            name=training.optimizer or OptimizerName.ADAMW,
            weight_decay=_or(training.weight_decay, Amount.parse("0.1")),
            gradient_clip=_or(training.gradient_clip, Amount.parse("1")),
        ),
        precision=training.precision or Precision.BFLOAT16,
        document_mask=training.document_mask or DocumentMask.ENABLED,
        minimum_effect=spec.evaluation.target.minimum_effect,
        margin=spec.evaluation.retention.margin if spec.evaluation.retention else None,
        on_undecided=(screening.on_undecided or OnUndecided.DROP) if (screening := spec.recipe.screening) else None,
        durations=durations,
        mix=mix,
        soup_weights=tuple(sorted(set(soup.weights or _SOUP_WEIGHTS))) if (soup := spec.recipe.soup) else (),
    )
    _check_lengths(recipe)
    _check_durations(recipe)
    if mix and mix.is_swept:
        _check_lengths(recipe.for_mix())
        _check_branches(recipe.for_mix())
    if not all(recipe.soup_weights):
        raise InvalidRecipeError("recipe.soup.weights: a weight of 0 is the base itself: remove it")
    _check_names(recipe)
    _check_suites(recipe)
    _check_number(recipe)
    _check_scaling(recipe)
    return recipe


def _replicates(spec: CPTExperimentSpec, mix: MixRecipe | None) -> int:
    """None without replay data, and where nothing is compared."""
    is_one_run = spec.recipe.learning_rate_sweep is None and mix is not None and mix.points == 1
    if spec.replay is None or is_one_run:
        return 0
    return _or(spec.training.replicates, 3)


def _rates_and_rungs(
    spec: CPTExperimentSpec, durations: Sequence[Tokens], batch_tokens: int
) -> tuple[tuple[LearningRate, ...], tuple[Tokens, ...]]:
    """Of the sweep: rungs are three doublings where none are given. Both empty without a sweep."""
    sweep = spec.recipe.learning_rate_sweep
    if sweep is None:
        return (), ()
    first = first_rung(durations)
    rungs = sweep.rungs or [Tokens(first * factor) for factor in (1, 2, 4)]
    return _rates(spec, sweep.learning_rates), whole_batches(rungs, batch_tokens)


def _rates(spec: CPTExperimentSpec, given: tuple[LearningRate, ...] | None) -> tuple[LearningRate, ...]:
    if given:
        return tuple(sorted(set(given)))
    peak = spec.model.peak_learning_rate
    if peak is None:
        raise InvalidRecipeError(
            "recipe.learningRateSweep has no learningRates and model no peakLearningRate to derive them from: give one"
        )
    return tuple(LearningRate.parse(f"{float(peak.fraction * part):.6g}") for part in _RATE_FRACTIONS)


def _check_lengths(recipe: Recipe) -> None:
    branch_points = [recipe.branch_point(rung) for rung in recipe.rungs]
    for rung, point in zip(recipe.rungs, branch_points, strict=True):
        if point >= rung:
            raise InvalidRecipeError(
                f"a rung of {rung} tokens leaves no whole batch of {recipe.batch_tokens} tokens for its cooldown "
                f"(cooldownShare {recipe.cooldown_share}): take a longer rung or a smaller batch"
            )
    if sorted(set(branch_points)) != branch_points:
        raise InvalidRecipeError("two rungs branch off at the same batch: take rungs that are further apart")
    if recipe.warmup > branch_points[0]:
        raise InvalidRecipeError(
            f"warmupTokens {recipe.warmup} ends after the first cooldown begins at {branch_points[0]}: shorten it"
        )
    if recipe.screening_share == 1:
        raise InvalidRecipeError("replay.screeningShare 1 leaves no place for the dataset: take less than 1")


def _check_durations(recipe: Recipe) -> None:
    if not recipe.durations:
        return
    if recipe.durations[0] < recipe.rungs[0]:
        raise InvalidRecipeError(
            f"duration {recipe.durations[0]} is shorter than the first rung, {recipe.rungs[0]}: leave it out, or begin "
            "learningRateSweep.rungs lower"
        )
    _check_branches(recipe)
    for dataset in recipe.spec.datasets:
        longest, size = recipe.durations[-1], dataset.max_tokens
        if size and (epochs := recipe.epochs(longest, size)) > EPOCHS_MAX:
            raise InvalidRecipeError(
                f"{longest} tokens repeat {dataset.name} ({size}) {float(epochs):.1f} times, at most {EPOCHS_MAX} are "
                "sound: leave out that duration, or give it more data"
            )


def _check_branches(recipe: Recipe) -> None:
    points = [recipe.branch_point(duration) for duration in recipe.durations]
    if sorted(set(points)) != points:
        raise InvalidRecipeError("two durations branch off at the same batch: take durations that are further apart")


def _check_names(recipe: Recipe) -> None:
    names = [dataset.name for dataset in recipe.trained_on] + [text.name for text in recipe.held_out]
    if recipe.all_suites:
        names.append(ITEMS)
    if recipe.spec.recipe.scaling:  # where models have names, they stand beside those of the data
        names += [BASE, *(model.name for model in recipe.further)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidRecipeError(f"the name {twice[0]!r} stands for two different inputs: names must be unique")
    trained_on = {dataset.name for dataset in recipe.trained_on}
    for field, metric in (("target", recipe.spec.evaluation.target), ("retention", recipe.spec.evaluation.retention)):
        if metric is None:
            continue
        _check_metric(field, metric, trained_on)


def _check_suites(recipe: Recipe) -> None:
    evaluation = recipe.spec.evaluation
    if bool(recipe.suites or evaluation.also or evaluation.curves) != (evaluation.items_uri is not None):
        raise InvalidRecipeError(
            "evaluation.itemsUri is where the items of suites lie: name it for any suite but Heldout, and only then"
        )
    metrics = (evaluation.target, evaluation.retention)
    has_texts = any(metric and _named(metric) is None for metric in metrics)
    if evaluation.every_tokens and not (has_texts or recipe.curves):
        raise InvalidRecipeError(
            "evaluation.everyTokens scores running trials on held-out text and on curves: there are neither"
        )
    for field, suite, threshold in (
        ("target.minimumEffect", recipe.target_suite, recipe.minimum_effect),
        ("retention.margin", recipe.retention_suite, recipe.margin),
    ):
        if suite and threshold is not None and threshold > _THRESHOLD_MAX:
            raise InvalidRecipeError(
                f"evaluation.{field} {threshold} of {suite} is more than half of all: it is a share of right answers, "
                'a point is "0.01"'
            )


def _check_number(recipe: Recipe) -> None:
    models: list[Base | Reference] = [recipe.spec.model, *recipe.further]
    inputs = sum(bool(model.uri) for model in models) + len(recipe.trained_on) + len(recipe.held_out)
    inputs += bool(recipe.all_suites)
    if inputs > INPUTS_MAX:
        raise InvalidRecipeError(
            f"{inputs} inputs (models, datasets, held-out texts) are more than the {INPUTS_MAX} that one Preflight "
            "looks at: spread the datasets over several experiments; what they have in common is trained once"
        )


def _check_scaling(recipe: Recipe) -> None:
    metrics = (recipe.spec.evaluation.target, recipe.spec.evaluation.retention)
    texts = sum(len(metric.data or ()) + len(metric.datasets or ()) for metric in metrics if metric)
    if recipe.further and (len(recipe.further) + 1) * texts > _SCORES_MAX:
        raise InvalidRecipeError(
            f"{len(recipe.further)} further bases on {texts} texts are more than the {_SCORES_MAX} scores that one "
            "decision compares: take fewer texts, or fewer references"
        )
    if recipe.spec.references and not recipe.spec.recipe.scaling:
        raise InvalidRecipeError(
            "references are compared in recipe.scaling: add that, 'scaling: {}' compares the base's recipe with them"
        )
    batch = recipe.spec.training.global_batch_size
    for model in (model for model in recipe.scaling if model.resources):  # Preflight looks at the others
        asked = merged(recipe.spec.resources, model.resources)
        processes = (asked.nodes or 1) * (asked.gpus_per_node or asked.processes_per_node or 1)
        if batch % processes:
            raise InvalidRecipeError(
                f"training.globalBatchSize {batch} is not divisible by the {processes} processes of {model.name}: "
                "change recipe.scaling.models[].resources"
            )


def _check_metric(field: str, metric: Target | Retention, trained_on: set[str]) -> None:
    has_texts = bool(metric.data or metric.datasets)
    if has_texts != (metric.suite == HELD_OUT):
        needs = "suite Heldout needs" if metric.suite == HELD_OUT else f"suite {metric.suite} has items of its own, not"
        raise InvalidRecipeError(f"evaluation.{field}: {needs} data or datasets")
    unknown = sorted(set(metric.datasets or ()) - trained_on)
    if unknown:
        raise InvalidRecipeError(
            f"evaluation.{field}.datasets names {unknown[0]!r}, which is no dataset of this experiment"
        )


def _named(metric: Target | Retention | None) -> str | None:
    """Its suite, unless that is Heldout."""
    return metric.suite if metric and metric.suite != HELD_OUT else None


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
