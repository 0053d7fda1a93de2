"""Preflight and preparation: from addresses to tokens.

What a Preflight resolved is frozen for the experiment's life. Inputs that were appended later, and inputs with
findings, get a Preflight of their own with the next round number:

    round 1   python resolved, perl has a finding     nothing is trained; Stalled, and looked at again
    round 2   perl resolved                           all of them are prepared
    round 3   sql was appended and has a finding      Stalled; python and perl go on without it

Of the rounds the first, the latest, and those that resolved something keep their place in the plan.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cpt_api.conditions import Reason
from cpt_api.experiment import Dataset, HeldOutText
from cpt_api.result import ResolvedInput
from cpt_api.trial import (
    BatchCheck,
    CPTTrialSpec,
    EvaluateWork,
    Holdout,
    InputKind,
    MergeWork,
    ModelRef,
    PreflightInput,
    PreflightWork,
    PrepareWork,
    Source,
    SuiteWork,
    TrialRef,
    TrialType,
)
from cpt_api.values import Digest, Share, Tokens
from cpt_operator.plan.recipe import ITEMS, Recipe, resolve
from cpt_operator.plan.trials import Trials
from cpt_operator.plan.types import Context, Failed, Finding, Look, Succeeded

STAGE = "preflight"
MODEL_INPUT = "model"
_ALL = Holdout(share=Share.parse("1"))


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything the stages read."""

    recipe: Recipe
    """Of the datasets that are resolved."""
    model: ModelRef
    prepared: dict[str, Digest]
    """Prepare trials by the name of their dataset or held-out text."""
    target: tuple[Digest, ...]
    retention: tuple[Digest, ...]
    sources: Mapping[str, Source] = field(default_factory=dict)
    """The files of each dataset and text."""
    further: Mapping[str, ModelRef] = field(default_factory=dict)
    """Other bases of the recipe, by name."""
    items: Source | None = None
    """What suites ask."""

    @property
    def scored(self) -> set[Digest]:
        """Every text that is."""
        return {*self.target, *self.retention}

    @property
    def held_out(self) -> tuple[TrialRef, ...]:
        """The same, in the order that digests need."""
        return tuple(TrialRef(digest=digest) for digest in sorted(self.scored))

    @property
    def observed(self) -> tuple[TrialRef, ...]:
        """The same for people: the target first."""
        return tuple(TrialRef(digest=digest) for digest in dict.fromkeys((*self.target, *self.retention)))

    def evaluation(self, *, target_only: bool = False, **what: ModelRef | TrialRef | MergeWork) -> CPTTrialSpec:
        """Scores a `model`, the end of a `segment` or a `merge` as the arms are: on all that decides, or the target."""
        recipe = self.recipe
        held_out = tuple(TrialRef(digest=text) for text in sorted(self.target)) if target_only else self.held_out
        names: tuple[str | None, ...] = (recipe.target_suite,) if target_only else recipe.suites
        work = EvaluateWork(
            **what,
            held_out=held_out or None,
            sequence_length=recipe.spec.training.sequence_length if held_out else None,
            suites=self._asked(names),
            precision=recipe.precision,
        )
        return CPTTrialSpec(type=TrialType.EVALUATE, evaluate=work)

    def last_evaluation(self, **what: ModelRef | TrialRef) -> CPTTrialSpec:
        """Scores a `model` or the end of a `segment` on the suites that decide nothing."""
        work = EvaluateWork(**what, suites=self._asked(self.recipe.also), precision=self.recipe.precision)
        return CPTTrialSpec(type=TrialType.EVALUATE, evaluate=work)

    @property
    def curves(self) -> tuple[SuiteWork, ...] | None:
        """What a run is asked while it is trained."""
        return self._asked(self.recipe.curves)

    def _asked(self, names: Iterable[str | None]) -> tuple[SuiteWork, ...] | None:
        return tuple(SuiteWork(suite=name, items=self.items) for name in names if name and self.items) or None


@dataclass(frozen=True, slots=True)
class Looked:
    """How far the inputs are."""

    inputs: Inputs | None = None
    """None while something is missing that everything else needs."""
    finding: Finding | None = None
    """What is wrong with those that are missing."""
    is_whole: bool = False
    """Nothing is missing."""


def plan_inputs(recipe: Recipe, context: Context, trials: Trials) -> Looked:
    """Add Preflights and Prepares."""
    resolved = _resolved(context.looks)
    for look in _useful(context.looks):
        trials.add(look.spec, STAGE, _title(look))
    missing = [item for item in _wanted(recipe) if item.name not in resolved]
    finding = _look(recipe, context, trials, missing) if missing else None
    known = _without(recipe, {item.name for item in missing}, context.looks)
    model = _model(resolved, context)
    if known is None or model is None:
        return Looked(finding=finding)
    sources = {name: _source(item) for name, item in resolved.items()}
    names = [text.name for text in known.trained_on] + [text.name for text in known.held_out]
    inputs = _inputs(known, model, _prepared(known, sources, model, names, trials), sources)
    inputs = replace(inputs, further=_further(known, sources, context), items=sources.get(ITEMS))
    return Looked(inputs, finding, is_whole=not missing)


def inputs_of(inputs: Inputs, name: str, wanted: Container[str], trials: Trials, stage: str) -> Inputs:
    """What another base reads: these datasets, and the texts that are scored, with its own tokenizer.

    A held-out text is the same documents in the same pieces whatever the tokenizer is: they are chosen and cut by their
    bytes. So scores of all bases can be paired, document by document.
    """
    recipe, model = inputs.recipe, inputs.further[name]
    names = [text for text, digest in inputs.prepared.items() if text in wanted or digest in inputs.scored]
    prepared = _prepared(recipe, inputs.sources, model, names, trials, stage, f" for {name}")
    return replace(_inputs(recipe, model, prepared, inputs.sources), items=inputs.items)


def _without(recipe: Recipe, missing: set[str], looks: Sequence[Look]) -> Recipe | None:
    """The recipe without what was appended and is not resolved yet; None where something else is missing."""
    if not missing:
        return recipe
    begun_with = {item.name for look in looks[:1] for item in _inputs_of(look)}
    if not looks or missing & begun_with:
        return None
    spec = recipe.spec
    kept: dict[str, Any] = {"datasets": tuple(dataset for dataset in spec.datasets if dataset.name not in missing)}
    if spec.references:
        kept["references"] = tuple(model for model in spec.references if model.name not in missing)
    if (scaling := spec.recipe.scaling) and scaling.models:
        models = tuple(model for model in scaling.models if model.name not in missing)
        kept["recipe"] = spec.recipe.model_copy(update={"scaling": scaling.model_copy(update={"models": models})})
    return resolve(spec.model_copy(update=kept))


def _useful(looks: Sequence[Look]) -> list[Look]:
    """The first, the latest, and those whose answers count."""
    known: set[str] = set()
    kept = []
    for number, look in enumerate(looks):
        fresh = set(_resolved([look])) - known
        known |= fresh
        if fresh or number in (0, len(looks) - 1):
            kept.append(look)
    return kept


def _wanted(recipe: Recipe) -> list[PreflightInput]:
    base = recipe.spec.model
    model = [PreflightInput(name=MODEL_INPUT, kind=InputKind.MODEL, uri=base.uri, pin=base.digest)] if base.uri else []
    model += [
        PreflightInput(name=other.name, kind=InputKind.MODEL, uri=other.uri, pin=other.digest)
        for other in recipe.further
        if other.uri
    ]
    if recipe.all_suites and recipe.spec.evaluation.items_uri:
        uri = recipe.spec.evaluation.items_uri
        model.append(PreflightInput(name=ITEMS, kind=InputKind.ITEMS, uri=uri, suites=recipe.all_suites))
    texts: list[Dataset | HeldOutText] = [*recipe.trained_on, *recipe.held_out]
    return model + [
        PreflightInput(name=text.name, kind=InputKind.DATASET, uri=text.uri, text_field=text.text_field or "text")
        for text in texts
    ]


def _resolved(looks: Sequence[Look]) -> dict[str, ResolvedInput]:
    """By name; the first answer counts, and an input with a finding has none."""
    resolved: dict[str, ResolvedInput] = {}
    for look in looks:
        if isinstance(look.outcome, Succeeded):
            troubled = {finding.input for finding in look.outcome.result.findings}
            if None in troubled:  # it concerns all of them, such as a store without conditional writes
                continue
            for item in look.outcome.result.resolved:
                if item.name not in troubled:
                    resolved.setdefault(item.name, item)
    return resolved


def _look(recipe: Recipe, context: Context, trials: Trials, missing: list[PreflightInput]) -> Finding | None:
    if any(look.outcome is None for look in context.looks):
        return None
    tried = {item.name for look in context.looks for item in _inputs_of(look)}
    fresh = [item for item in missing if item.name not in tried]
    if fresh or context.look_again:
        _add_preflight(recipe, context, trials, missing)
        return None
    return Finding(Reason.PREFLIGHT_FAILED, _what_is_wrong(context.looks, {item.name for item in missing}))


def _inputs_of(look: Look) -> Iterable[PreflightInput]:
    return look.spec.preflight.inputs if look.spec.preflight else ()


def _add_preflight(recipe: Recipe, context: Context, trials: Trials, inputs: list[PreflightInput]) -> None:
    resources = recipe.spec.resources
    round_ = max((_round(look) for look in context.looks), default=0) + 1
    nodes = (resources.nodes if resources else None) or 1
    per_node = (resources.gpus_per_node or resources.processes_per_node if resources else None) or 1
    training = recipe.spec.training
    spec = CPTTrialSpec(
        type=TrialType.PREFLIGHT,
        preflight=PreflightWork(
            experiment_uid=context.experiment_uid,
            round=round_,
            inputs=tuple(inputs),
            batch=BatchCheck(
                sequence_length=training.sequence_length,
                global_batch_size=training.global_batch_size,
                processes=nodes * per_node,
            ),
        ),
    )
    trials.add(spec, STAGE, f"round {round_}")


def _round(look: Look) -> int:
    return look.spec.preflight.round if look.spec.preflight else 0


def _title(look: Look) -> str:
    return f"round {_round(look)}"


def _what_is_wrong(looks: Sequence[Look], missing: set[str]) -> str:
    last = looks[-1].outcome
    if isinstance(last, Failed):
        return last.message
    assert isinstance(last, Succeeded)
    findings = [f for f in last.result.findings if f.input is None or f.input in missing]
    return "; ".join(f"{f.input}: {f.message}" if f.input else f.message for f in findings)


def _model(resolved: dict[str, ResolvedInput], context: Context) -> ModelRef | None:
    if MODEL_INPUT in resolved:
        return ModelRef(source=_source(resolved[MODEL_INPUT]))
    return ModelRef(trial=TrialRef(digest=context.base)) if context.base else None


def _further(recipe: Recipe, sources: Mapping[str, Source], context: Context) -> dict[str, ModelRef]:
    """Those of files; and those of trials that have been made."""
    found = {model.name: ModelRef(source=sources[model.name]) for model in recipe.further if model.uri}
    made = {model.name: context.made.get(model.trial_name or "") for model in recipe.further}
    return found | {name: ModelRef(trial=TrialRef(digest=digest)) for name, digest in made.items() if digest}


def _source(item: ResolvedInput) -> Source:
    return Source(uri=item.uri, digest=item.digest)


def _prepared(
    recipe: Recipe,
    sources: Mapping[str, Source],
    model: ModelRef,
    names: Iterable[str],
    trials: Trials,
    stage: str = "prepare",
    whose: str = "",
) -> dict[str, Digest]:
    """Prepare trials by name. `whose`: stands behind the name where another base than the experiment's reads it."""
    datasets = {d.name: (d.text_field, d.max_tokens, Holdout()) for d in recipe.trained_on}
    texts = {text.name: (text.text_field, None, _ALL) for text in recipe.held_out}
    known: dict[str, tuple[str | None, Tokens | None, Holdout]] = {**datasets, **texts}

    def add(name: str) -> Digest:
        text_field, max_tokens, holdout = known[name]
        work = PrepareWork(
            source=sources[name],
            tokenizer=model,
            text_field=text_field or "text",
            max_tokens=max_tokens,
            holdout=holdout,
        )
        return trials.add(CPTTrialSpec(type=TrialType.PREPARE, prepare=work), stage, f"{name}{whose}")

    return {name: add(name) for name in names}


def _inputs(recipe: Recipe, model: ModelRef, prepared: dict[str, Digest], sources: Mapping[str, Source]) -> Inputs:
    def texts(names: Iterable[str]) -> tuple[Digest, ...]:
        return tuple(sorted({prepared[name] for name in names}))

    evaluation = recipe.spec.evaluation
    target, retention = evaluation.target, evaluation.retention
    return Inputs(
        recipe=recipe,
        model=model,
        prepared=prepared,
        target=texts([*(t.name for t in target.data or ()), *(target.datasets or ())]),
        retention=texts([*(t.name for t in retention.data or ()), *(retention.datasets or ())]) if retention else (),
        sources=sources,
    )
