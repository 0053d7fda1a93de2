"""A forecast as rows, totals and warnings: what every output format of `kubectl cpt plan` shows. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cpt_api.experiment import Budget, CPTExperimentSpec
from cpt_api.trial import CPTTrialSpec, EvaluateWork, PreflightWork, Question, TrialType
from cpt_operator.plan import Plan, PlannedTrial
from cpt_operator.plan.also import STAGE as ALSO
from cpt_operator.plan.durations import STAGE as DURATIONS
from cpt_operator.plan.mixing import STAGE as MIXING
from cpt_operator.plan.mixrecipe import MixRecipe
from cpt_operator.plan.mixsweep import STAGE as MIX_SWEEP
from cpt_operator.plan.recipe import Recipe, further
from cpt_operator.plan.repeat import STAGE as SCALING
from cpt_operator.plan.soup import STAGE as SOUP
from kubectl_cpt.bill import CONVENTION, Bill, Prices
from kubectl_cpt.changes import Change, changes
from kubectl_cpt.foresee import Forecast, end_of, foresee, tokens
from kubectl_cpt.manifest import Document, Manifests
from kubectl_cpt.numbers import amount, hours

UNRESOLVED = "unresolved"
"""Stands for every digest: they hang on what Preflight will see."""
_EPOCHS_WARNED = 4
_ROUNDING_WARNED = 0.01


@dataclass(frozen=True, slots=True)
class Row:
    """Trials that belong together."""

    stage: str
    what: str
    trials: tuple[int, int]
    """At least and at most."""
    tokens: tuple[int, int]
    """At least and at most."""


@dataclass(frozen=True, slots=True)
class Line:
    """One trial of the most that may run."""

    stage: str
    type: TrialType
    title: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Preview:
    """One experiment with its bill."""

    name: str
    namespace: str
    summary: str
    rows: tuple[Row, ...]
    trials: tuple[Line, ...]
    """All that may run."""
    least: Bill
    most: Bill
    naive: Bill
    """The study's protocol: each point of each sweep its own run; no control, no replicates."""
    naive_least: Bill
    """The same where no dataset survives screening."""
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    changes: tuple[Change, ...] | None = None
    """Against the live object; None: nobody asked, or there is none."""

    @property
    def counts(self) -> tuple[int, int]:
        """Trials, at least and at most."""
        return sum(row.trials[0] for row in self.rows), sum(row.trials[1] for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """For programs: numbers are numbers, unknown prices are null."""
        return {
            "name": self.name,
            "namespace": self.namespace,
            "stages": [
                {"stage": row.stage, "what": row.what, "trials": _bounds(row.trials), "tokens": _bounds(row.tokens)}
                for row in self.rows
            ],
            "trials": [
                {"stage": t.stage, "type": t.type.value, "title": t.title, "tokens": t.tokens, "digest": UNRESOLVED}
                for t in self.trials
            ],
            "total": {"trials": _bounds(self.counts)}
            | {key: _bounds((getattr(self.least, name), getattr(self.most, name))) for key, name in _BILL}
            | {
                "evaluationShare": _bounds((self.least.evaluation, self.most.evaluation)),
                "flopsConvention": CONVENTION,
            },
            "naive": {key: getattr(self.naive, name) for key, name in _BILL},
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        } | ({} if self.changes is None else {"changes": [str(change) for change in self.changes]})


_BILL = (("tokens", "tokens"), ("flops", "flops"), ("gpuHours", "gpu_hours"), ("cost", "cost"))


def _bounds(values: tuple[Any, Any]) -> dict[str, Any]:
    return {"least": values[0], "most": values[1]}


def preview(
    document: Document[CPTExperimentSpec],
    manifests: Manifests,
    prices: Prices,
    live: CPTExperimentSpec | None = None,
) -> Preview:
    """Forecast one experiment, and compare it with the live one. ManifestError when it contradicts itself."""
    forecast = foresee(document)
    recipe = forecast.recipe
    plans = (forecast.least, forecast.most)
    least, most = (Bill.of(tokens(plan.trials), prices, _elsewhere(plan), _scored(recipe, plan)) for plan in plans)
    naive_least, naive = (Bill.of(int(plan.tokens_naive), prices, _naive_elsewhere(recipe, plan)) for plan in plans)
    return Preview(
        name=document.name,
        namespace=document.namespace,
        summary=_summary(recipe),
        rows=tuple(_rows(forecast)),
        trials=tuple(Line(t.stage, t.spec.type, t.title, int(t.tokens)) for t in forecast.most.trials),
        least=least,
        most=most,
        naive=naive,
        naive_least=naive_least,
        warnings=tuple(_warnings(document.spec, recipe, most)),
        notes=tuple(_notes(document, manifests, forecast, prices)),
        changes=tuple(changes(live, document.spec)) if live else None,
    )


def _elsewhere(plan: Plan) -> Counter[str]:
    """Tokens that are trained on further bases: their names stand before the colon of such segments."""
    found: Counter[str] = Counter()
    for trial in plan.trials:
        if trial.stage == SCALING and trial.tokens:
            found[trial.title.partition(":")[0]] += trial.tokens
    return found


def _scored(recipe: Recipe, plan: Plan) -> Counter[str]:
    """Models that are asked the suites that decide, by further base as above; an empty name is the base."""
    decide = set(recipe.suites)
    found: Counter[str] = Counter()
    for trial in plan.trials:
        if trial.spec.evaluate and decide & {asked.suite for asked in trial.spec.evaluate.suites or ()}:
            about = trial.title.removeprefix("the base ").removeprefix("score of ").partition(":")[0]
            found[about if trial.stage == SCALING else ""] += 1
    return found


def _naive_elsewhere(recipe: Recipe, plan: Plan) -> dict[str, int]:
    """The same of the study's protocol."""
    return {model.name: int(plan.tokens_naive_elsewhere) for model in recipe.scaling}


def by_hand(trials: Sequence[Document[CPTTrialSpec]]) -> list[Row]:
    """Hand-written trials of the same files."""
    return [
        Row("by hand", f"{trial.spec.type} {trial.name}", (1, 1), (own_tokens(trial.spec), own_tokens(trial.spec)))
        for trial in trials
    ]


def own_tokens(spec: CPTTrialSpec) -> int:
    """That a hand-written trial trains."""
    return int(spec.train.stop_tokens - spec.train.start_tokens) if spec.train else 0


# --- rows -----------------------------------------------------------------------------------------------------------


def _summary(recipe: Recipe) -> str:
    datasets, rates = len(recipe.spec.datasets), len(recipe.rates)
    rungs = ", ".join(map(amount, recipe.rungs))
    swept = (
        f"learning-rate sweep of {datasets} {_plural('dataset', datasets)} at {rates} {_plural('rate', rates)} "
        f"({', '.join(map(str, recipe.rates))}), compared at {rungs} tokens"
    )
    stages = [swept] if recipe.has_sweep else []
    if recipe.on_undecided:
        stages.append(f"screening (undecided: {recipe.on_undecided})")
    if recipe.durations:
        stages.append(f"durations of {', '.join(map(amount, recipe.durations))} tokens")
    if recipe.mix:
        stages.append(_summary_of_mix(recipe.mix))
    if recipe.soup_weights:
        stages.append(f"means with the base of weight {', '.join(map(str, recipe.soup_weights))}")
    if recipe.scaling:
        stages.append(f"the same on {', '.join(model.name for model in recipe.scaling)}")
    return ", then ".join(stages)


def _summary_of_mix(mix: MixRecipe) -> str:
    words = f"a mix ({mix.strategy})"
    if mix.is_raced:
        rungs = ", ".join(map(amount, mix.rungs))
        words += f" at {len(mix.rates)} {_plural('rate', len(mix.rates))}, compared at {rungs} tokens"
    elif mix.is_swept:
        words += f" at {mix.rates[0]}"
    return words + (f", for {', '.join(map(amount, mix.durations))} tokens" if mix.durations else "")


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def _rows(forecast: Forecast) -> Iterator[Row]:
    most, least = (_grouped(forecast, plan.trials) for plan in (forecast.most, forecast.least))
    for key, trials in most.items():
        few = least.get(key, [])
        yield Row(*key, (len(few), len(trials)), (tokens(few), tokens(trials)))


def _grouped(forecast: Forecast, trials: Sequence[PlannedTrial]) -> dict[tuple[str, str], list[PlannedTrial]]:
    groups: dict[tuple[str, str], list[PlannedTrial]] = {}
    for trial in trials:
        groups.setdefault((trial.stage, _what(forecast, trial)), []).append(trial)
    return groups


def _what(forecast: Forecast, trial: PlannedTrial) -> str:
    """The same for trials that belong together, and the same whatever survives."""
    recipe, spec = forecast.recipe, trial.spec
    if of_stage := _OF_STAGE.get(trial.stage):
        return of_stage(trial)
    if isinstance(spec.work, PreflightWork):
        return f"looks at {len(spec.work.inputs)} inputs"
    if spec.prepare:
        return f"tokenises {len(recipe.trained_on) + len(recipe.held_out)} texts"
    if spec.evaluate:
        return _what_is_scored(spec.evaluate)
    if spec.report:
        return "one page with figures and tables"
    end = end_of(forecast, trial)
    if trial.stage == MIX_SWEEP:
        recipe = recipe.for_mix()
    at = f"rung {recipe.rungs.index(end) + 1} at {amount(end)} tokens" if end in recipe.rungs else "other segments"
    is_long = trial.stage in (DURATIONS, MIX_SWEEP) and end in recipe.durations
    if is_long and not (trial.stage == MIX_SWEEP and end in recipe.rungs) and end:
        at = f"{amount(end)} tokens"
    if trial.stage == MIXING and end:
        at = f"{amount(end)} tokens"
    if spec.decide:
        return f"{at}: decision" if end else "decision: which datasets help more than the control"
    if spec.train and trial.stage == MIXING:
        return f"{at}: the proposal and simple mixes"
    if spec.train and {c.dataset.digest for c in spec.train.phases[0].mixture} == {forecast.control}:
        seeds = recipe.replicates if end == recipe.control_tokens else 1
        return f"{at}: control, {seeds} {_plural('seed', seeds)}"
    return f"{at}: arms (trunk and cooled branch)"


def _what_is_scored(work: EvaluateWork) -> str:
    if work.merge:
        return "merges of trunks, scored and not written"
    held_out = [f"{len(work.texts)} held-out {_plural('text', len(work.texts))}"] if work.texts else []
    on = " and ".join([*held_out, *(asked.suite for asked in work.suites or ())])
    return f"scores on {on}" if work.segment else f"the base on {on}"


def _what_of_soup(trial: PlannedTrial) -> str:
    spec = trial.spec
    if spec.decide:
        return "decision: which mean of the base and a trained model is best"
    if spec.merge:
        return "the chosen mean, written"
    return (
        "means, scored without being written"
        if spec.evaluate and spec.evaluate.merge
        else "what was written, scored again"
    )


def _what_of_also(trial: PlannedTrial) -> str:
    suites = (trial.spec.evaluate.suites if trial.spec.evaluate else None) or ()
    return f"the base and what was chosen on {' and '.join(asked.suite for asked in suites)}"


def _what_of_scaling(trial: PlannedTrial) -> str:
    """By model: what stands before the colon of its segments."""
    spec = trial.spec
    if spec.prepare:
        return "tokenises texts for further bases"
    if spec.evaluate and spec.evaluate.segment:
        return _what_is_scored(spec.evaluate)
    if spec.evaluate:
        suites = " and ".join(asked.suite for asked in spec.evaluate.suites or ())
        return f"further bases on {suites or 'held-out texts'}"
    if spec.decide and spec.decide.question is Question.SCALING:
        return "decision: what it is worth on each"
    if spec.decide:
        return f"{trial.title.rpartition(' of ')[2]}: decision: which rate"
    return f"{trial.title.partition(':')[0]}: two rates to the first rung, one to the end"


_OF_STAGE: Mapping[str, Callable[[PlannedTrial], str]] = {
    ALSO: _what_of_also,
    SOUP: _what_of_soup,
    SCALING: _what_of_scaling,
}


# --- words ----------------------------------------------------------------------------------------------------------


def _warnings(spec: CPTExperimentSpec, recipe: Recipe, most: Bill) -> Iterator[str]:
    """What will run, and will not tell what one hopes for."""
    what = "choices and verdicts" if recipe.on_undecided else "choices"
    if recipe.replay is None:
        yield f"there is no replay.dataset, so no control: all {what} will be Undecided (no run-noise estimate)"
    elif recipe.replicates < 2:
        yield f"training.replicates is 1: without a second control there is no run-noise estimate, {what} are Undecided"
    if spec.evaluation.retention is None:
        yield "evaluation.retention is absent: nobody will notice what the model forgets"
    if len(recipe.rates) == 1 and recipe.has_sweep:
        yield f"there is one learning rate, {recipe.rates[0]}: nothing to compare"
    yield from _budget(spec.budget or Budget(), most)
    if spec.recipe.scaling:
        yield from _axis(spec)
    yield from _sizes(spec, recipe)
    yield from _repetitions(spec, recipe)
    yield from _of_the_mix(recipe)


def _budget(budget: Budget, most: Bill) -> Iterator[str]:
    end = "it may end with BudgetExhausted"
    if budget.tokens is not None and budget.tokens < most.tokens:
        yield f"budget.tokens is {budget.tokens}, up to {amount(most.tokens)} tokens may be needed: {end}"
    if budget.gpu_hours is not None and most.gpu_hours is not None and budget.gpu_hours < most.gpu_hours:
        yield f"budget.gpuHours is {budget.gpu_hours}, up to {hours(most.gpu_hours)} may be needed: {end}"


def _axis(spec: CPTExperimentSpec) -> Iterator[str]:
    """What the compute-equivalent gain needs."""
    bases = {
        "model": spec.model.pretraining_tokens,
        **{model.name: model.pretraining_tokens for model in further(spec)},
    }
    if sum(tokens is not None for tokens in bases.values()) < 2:
        yield "fewer than two bases have pretrainingTokens: there will be no compute-equivalent gain"
    elif unknown := [name for name, tokens in bases.items() if tokens is None]:
        yield f"{', '.join(unknown)}: without pretrainingTokens there is no compute-equivalent gain of it"


def _sizes(spec: CPTExperimentSpec, recipe: Recipe) -> Iterator[str]:
    sweep, mixed = spec.recipe.learning_rate_sweep, spec.recipe.mix_sweep
    for given in (*((sweep and sweep.rungs) or ()), *((mixed and mixed.rungs) or ())):
        rounded = recipe.whole_batches(given)
        if abs(rounded - given) > _ROUNDING_WARNED * given:
            yield f"rung {given} becomes {rounded}: whole global batches of {recipe.batch_tokens} tokens"
    resources = spec.resources
    per_node = (resources.gpus_per_node or resources.processes_per_node if resources else None) or 1
    processes = ((resources.nodes if resources else None) or 1) * per_node
    batch = spec.training.global_batch_size
    if batch % processes:
        yield f"training.globalBatchSize {batch} is not divisible by {processes} processes: Preflight will refuse it"


def _repetitions(spec: CPTExperimentSpec, recipe: Recipe) -> Iterator[str]:
    for dataset in spec.datasets:
        if dataset.max_tokens:
            longest = max((*recipe.rungs, *recipe.durations))
            epochs = recipe.epochs(longest, dataset.max_tokens)
            if epochs > _EPOCHS_WARNED:
                times = f"{float(epochs):.1f} times at {'the last rung' if longest in recipe.rungs else longest}"
                yield f"{dataset.name}: maxTokens {dataset.max_tokens} is repeated {times}"


def _of_the_mix(recipe: Recipe) -> Iterator[str]:
    mix = recipe.mix
    if mix is None:
        return
    if mix.longest is None:
        yield "there is mixing and no mixSweep: the mix is chosen, and nothing is trained on it"
    for phase in mix.phases:
        if phase.until_tokens and mix.longest and phase.until_tokens >= mix.longest:
            late = f"a phase of the mix ends at {phase.until_tokens}, its longest arm at {mix.longest}"
            yield f"{late}: what follows is not read"


def _notes(
    document: Document[CPTExperimentSpec], manifests: Manifests, forecast: Forecast, prices: Prices
) -> Iterator[str]:
    """What the numbers above do not say."""
    yield f"names and digests are {UNRESOLVED} until Preflight has seen the inputs; equal trials that exist are free"
    if least := list(_at_least(forecast.recipe)):
        yield f"the lower numbers: {', '.join(least)}; the upper ones: {'none' if len(least) == 1 else 'none of that'}"
    if len(forecast.recipe.rates) > 1:
        extra = forecast.tokens_of_more_rates
        yield f"where a fitted optimum lies outside the grid one rate is added: at most {amount(extra)} tokens more"
    if more := forecast.tokens_of_more_controls:
        yield f"where datasets drop a rate at different rungs its control has more ends: at most {amount(more)} tokens"
    yield from _on_asking(forecast.recipe, prices)
    unknown = [model.name for model in forecast.recipe.scaling if model.name not in prices.further]
    if unknown and prices != Prices():
        sizes = " ".join(f"--parameters-of {name}=COUNT" for name in unknown)
        yield f"what training on further bases costs hangs on their sizes: --parameters COUNT {sizes}"
    base = document.spec.model.trial_name
    if base and not any(trial.name == base for trial in manifests.trials):
        yield f"the base is made by CPTTrial {base}, which is not in these files: its cost is not counted"


def _on_asking(recipe: Recipe, prices: Prices) -> Iterator[str]:
    """What suites take."""
    if recipe.suites and not prices.tokens_per_evaluation:
        asked = " and ".join(recipe.suites)
        yield (
            f"what it takes to ask {asked} is not in the numbers above, every score is a trial with GPUs: with "
            "--tokens-per-evaluation COUNT, which stands in the result of such a trial, it is"
        )
    if recipe.also:
        yield f"what it takes to ask {' and '.join(recipe.also)} in the end is not in the numbers above"


def _at_least(recipe: Recipe) -> Iterator[str]:
    """How the least comes about."""
    if len(recipe.rungs) > 1 and recipe.has_sweep:
        yield "half of the rates dropped at every rung"
    if recipe.on_undecided and (recipe.durations or recipe.soup_weights):
        yield "no dataset survives screening"
        return
    if len(recipe.durations) > 2 or (recipe.mix and len(recipe.mix.durations) > 2):
        yield "no duration after the second is worth it"
    if recipe.soup_weights:
        yield "no soup is released"
    if recipe.scaling and not recipe.on_undecided:
        yield "no arm is better than the base"
