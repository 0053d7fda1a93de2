"""What an experiment will do, before anything is read or run: the operator's own planner on imagined answers.

The planner unfolds as answers arrive, so it is told how every trial will end: Preflight finds everything, every segment
ends well, and decisions drop either no rate (the most that can be trained) or half of them at every rung (the least).

    4 rates, 2 rungs, 2 datasets, 2 replicates      most: 58 trials      least: 50 trials

The shape and the counts are real; digests are not, since they hang on what Preflight will see: nobody may show them.
Price: 0.1 s for the 416 and 161 trials of examples/study.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Any

from cpt_api import PROTOCOL
from cpt_api.digest import input_digests, subject_digest
from cpt_api.experiment import CPTExperimentSpec
from cpt_api.model import sha256
from cpt_api.result import (
    CheckpointRef,
    Decision,
    DurationArm,
    DurationChoice,
    Estimate,
    GroupScore,
    HeldOutScore,
    Judgement,
    MixArm,
    MixChoice,
    Proposal,
    ProxyComponent,
    ProxyScore,
    RateArm,
    RateChoice,
    ResolvedInput,
    Result,
    Scaled,
    Screened,
    ScreenedArm,
    SoupArm,
    SoupChoice,
    SuiteScore,
    Verdict,
)
from cpt_api.trial import (
    CPTTrialSpec,
    DecideWork,
    EvaluateWork,
    Measure,
    PreflightWork,
    PrepareWork,
    Question,
    TrainWork,
    TrialType,
)
from cpt_api.values import Digest, Tokens
from cpt_operator.plan import Context, Look, Plan, PlannedTrial, Succeeded, plan
from cpt_operator.plan.lengths import InvalidRecipeError
from cpt_operator.plan.mixsweep import STAGE as MIX_SWEEP
from cpt_operator.plan.recipe import Recipe, further_trials, resolve
from kubectl_cpt.errors import ManifestError
from kubectl_cpt.manifest import Document

_UID = "foreseen"
_PLENTY = 10**15
"""Tokens at least of a dataset whose size is not in the manifest; no two are alike, nor are mixes by size."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The bounds between which the experiment will end up, whatever its answers are."""

    recipe: Recipe
    most: Plan
    """No rate is dropped."""
    least: Plan
    """Half of the rates are dropped at every rung, more never are; no dataset survives screening, no duration after the
    second is worth it, no arm is better than the base, no soup is released."""

    @property
    def tokens_of_one_more_rate(self) -> int:
        """Per dataset: a fitted optimum outside the grid adds one rate, to all rungs at most."""
        return _to_the_end(self.recipe)

    @property
    def tokens_of_more_rates(self) -> int:
        """The same for all datasets, with their controls, and for the mix."""
        recipe, lines = self.recipe, 2 if self.has_controls_throughout else 1
        total = lines * len(recipe.spec.datasets) * self.tokens_of_one_more_rate if recipe.has_sweep else 0
        return total + (_to_the_end(recipe.for_mix()) if recipe.mix and recipe.mix.is_raced else 0)

    @property
    def has_controls_throughout(self) -> bool:
        """For screening, wherever an arm ends."""
        return self.recipe.on_undecided is not None and self.recipe.replay is not None

    @property
    def tokens_of_more_controls(self) -> int:
        """Where datasets drop a rate at different rungs its control is cooled at each of them."""
        middle = self.recipe.rungs[1:-1] if self.has_controls_throughout else ()
        return sum(rung - self.recipe.branch_point(rung) for rung in middle) * len(self.recipe.rates)

    @property
    def control(self) -> Digest | None:
        """The Prepare trial of the replay data, which control arms train on alone."""
        replay = self.recipe.replay
        if replay is None:
            return None
        return next(t.digest for t in self.most.trials if t.spec.type is TrialType.PREPARE and t.title == replay.name)


def _to_the_end(recipe: Recipe) -> int:
    """Tokens of one rate through all rungs."""
    return sum(recipe.tokens_of_rung(number) for number in range(len(recipe.rungs)))


def foresee(document: Document[CPTExperimentSpec]) -> Forecast:
    """Both bounds. Raises ManifestError when the recipe contradicts itself."""
    try:
        recipe = resolve(document.spec)
    except InvalidRecipeError as error:
        raise ManifestError([f"CPTExperiment {document.name}: {error}"]) from error
    return Forecast(
        recipe=recipe,
        most=_unfold(document.spec, hopeful=True),
        least=_unfold(document.spec, hopeful=False),
    )


def tokens(trials: Sequence[PlannedTrial]) -> int:
    """That they train."""
    return sum(trial.tokens for trial in trials)


def _unfold(spec: CPTExperimentSpec, *, hopeful: bool) -> Plan:
    """What Preflight sees, and then all that follows."""
    context = Context(
        experiment_uid=_UID,
        protocol=PROTOCOL,
        base=sha256(b"base") if spec.model.trial_name else None,
        made={name: sha256(name.encode()) for name in further_trials(spec)},
    )
    answer = partial(_imagined, hopeful=hopeful)
    first = plan(spec, context, answer)
    looks = tuple(Look(trial.spec, answer(trial)) for trial in first.trials if trial.spec.type is TrialType.PREFLIGHT)
    return plan(spec, replace(context, looks=looks), answer)


def _imagined(trial: PlannedTrial, *, hopeful: bool) -> Succeeded:
    spec = trial.spec
    result = Result(
        protocol=PROTOCOL,
        digest=trial.digest,
        type=spec.type,
        inputs=tuple(input_digests(spec)),
        attempt=1,
        **_products(spec, hopeful=hopeful),
    )
    return Succeeded(result)


def _products(spec: CPTTrialSpec, *, hopeful: bool) -> dict[str, Any]:
    match spec.work:
        case PreflightWork(inputs=inputs):
            seen = [
                ResolvedInput(name=i.name, kind=i.kind, uri=i.uri, digest=sha256(i.uri.encode()), files=1, bytes=1)
                for i in inputs
            ]
            return {"resolved": tuple(seen)}
        case PrepareWork(source=source, max_tokens=size):
            return {"numbers": {"trainTokens": float(size or _PLENTY + 10**9 * int(str(source.digest)[:6], 16))}}
        case TrainWork() as work:
            texts = spec.run.observe.held_out if spec.run.observe else ()
            step = work.stop_tokens // (work.sequence_length * work.global_batch_size)
            return {
                "checkpoint": CheckpointRef(manifest="imagined", step=step, tokens=work.stop_tokens),
                "held_out": tuple(_score(text.digest) for text in texts if text.digest),
            }
        case EvaluateWork() as work:
            return {
                "held_out": tuple(_score(text.digest) for text in work.texts if text.digest),
                "suites": tuple(_suite(asked.suite) for asked in work.suites or ()),
            }
        case DecideWork() as work:
            return {"decision": _IMAGINED[work.question](work, hopeful)}
        case _:
            return {}


def _score(text: Digest) -> HeldOutScore:
    return HeldOutScore(text=text, bits_per_byte=1.0, standard_error=0.0, documents=1, bytes=1, table="imagined")


def _suite(suite: str) -> SuiteScore:
    """What it averages changes no plan."""
    group = GroupScore(group="imagined", measure=Measure.ACCURACY, value=0.0, standard_error=0.0)
    nothing = sha256(b"imagined")
    return SuiteScore(suite=suite, digest=nothing, fingerprint=nothing, groups=(group,), items=1, table="imagined")


def _screening(work: DecideWork, hopeful: bool) -> Decision:
    """Every dataset helps, or none."""
    answers = [
        Screened(
            dataset=subject_digest(entry),
            target=Judgement(verdict=Verdict.HELPS if hopeful else Verdict.HURTS, documents=1),
            arms=tuple(
                ScreenedArm(
                    learning_rate=arm.learning_rate, tokens=arm.tokens, trial=arm.trial.digest, outcome="Compared"
                )
                for arm in entry.arms
                if arm.tokens and arm.trial.digest
            ),
            reason="imagined",
        )
        for entry in work.datasets
    ]
    return Decision(question=work.question, method="imagined", screened=tuple(answers), sentence="imagined")


def _race(work: DecideWork, hopeful: bool) -> Decision:
    """No rate is dropped, or as many as can be."""
    choices = []
    for entry in work.datasets:
        rates = [arm.learning_rate for arm in entry.arms]
        choices.append(
            RateChoice(
                dataset=subject_digest(entry),
                arms=tuple(
                    RateArm(
                        learning_rate=arm.learning_rate,
                        trial=arm.trial.digest,
                        outcome="Completed",
                        target=_target(work.rung_tokens),
                    )
                    for arm in entry.arms
                    if arm.trial.digest
                ),
                survivors=tuple(rates if work.last or hopeful else rates[: (len(rates) + 1) // 2]),
                chosen=rates[0],
                verdict="Chosen",
                gain=_gain(hopeful),
                reason="imagined",
            )
        )
    return Decision(question=work.question, method="imagined", rates=tuple(choices), sentence="imagined")


def _durations(work: DecideWork, hopeful: bool) -> Decision:
    """A longer one is worth it, or not."""
    choices = [
        DurationChoice(
            dataset=subject_digest(entry),
            learning_rate=entry.arms[0].learning_rate,
            arms=tuple(
                DurationArm(tokens=arm.tokens, trial=arm.trial.digest, outcome="Completed", target=_target(arm.tokens))
                for arm in entry.arms
                if arm.tokens and arm.trial.digest
            ),
            chosen=entry.arms[min(number, 1) - 1].tokens,  # the first another one, so that no two proposals are alike
            verdict="Chosen",
            go_on=hopeful,
            gain=_gain(hopeful),
            reason="imagined",
        )
        for number, entry in enumerate(work.datasets)
    ]
    return Decision(question=work.question, method="imagined", durations=tuple(choices), sentence="imagined")


def _mixing(work: DecideWork, _hopeful: bool) -> Decision:
    """The proposal is kept."""
    first = work.datasets[0].arms[0]
    assert first.tokens is not None, "arms of this question have them"
    assert work.proposal is not None, "this question has one"
    choice = MixChoice(
        learning_rate=first.learning_rate,
        tokens=first.tokens,
        arms=tuple(
            MixArm(mix=subject_digest(entry), parts=(), trial=arm.trial.digest, outcome="Completed")
            for entry in work.datasets
            for arm in entry.arms
            if arm.trial.digest
        ),
        proposal=work.proposal,
        chosen=work.proposal,
        verdict="Kept",
        reason="imagined",
    )
    return Decision(question=work.question, method="imagined", mix=choice, sentence="imagined")


def _soup(work: DecideWork, hopeful: bool) -> Decision:
    """One is released, or none."""
    arms = [
        SoupArm(
            dataset=subject_digest(entry),
            learning_rate=arm.learning_rate,
            tokens=arm.tokens,
            weight=arm.weight,
            trial=arm.trial.digest,
            target=1.0,
            gain=Estimate(value=0.0),
            holds=hopeful,
            front=hopeful,
        )
        for entry in work.datasets
        for arm in entry.arms
        if arm.tokens and arm.weight and arm.trial.digest
    ]
    choice = SoupChoice(
        arms=tuple(arms),
        picked=arms[0].trial if hopeful else None,
        verdict="Chosen" if hopeful else "NoneFeasible",
        documents=1,
        reason="imagined",
    )
    return Decision(question=work.question, method="imagined", soup=choice, sentence="imagined")


def _by_merges(work: DecideWork, _hopeful: bool) -> Decision:
    """As much of the first as it may have, then of the next: no other mixture is so."""
    left = Decimal(1)
    parts: list[ProxyComponent] = []
    for entry, prior, cap in zip(work.datasets, work.prior or (), work.caps or (), strict=True):
        weight = min(left, Decimal(cap), Decimal("0.9") if not parts else left)
        left -= weight
        part = {"dataset": subject_digest(entry), "weight": str(weight), "prior": prior, "cap": cap}
        parts.append(ProxyComponent.model_validate(part))
    proposal = Proposal(
        learning_rate=work.datasets[0].arms[0].learning_rate,
        components=tuple(parts),
        merges=tuple(
            ProxyScore(weights=merge.weights, trial=merge.trial.digest, target=1.0, unseen=1.0)
            for merge in work.merges or ()
            if merge.trial.digest
        ),
        law="None",
        expected=1.0,
        rank_correlation=1.0,
        verdict="Proposed",
        reason="imagined",
    )
    return Decision(question=work.question, method="imagined", proposal=proposal, sentence="imagined")


def _target(tokens: Tokens | None) -> float:
    """The longer, the better: what is repeated on other bases is the longest."""
    return 1 / tokens if tokens else 1.0


def _gain(hopeful: bool) -> Estimate:
    """Every arm is better than the base, or none."""
    return Estimate(value=1.0 if hopeful else -1.0)


def _scaling(work: DecideWork, hopeful: bool) -> Decision:
    """Nothing hangs on it."""
    answers = [
        Scaled(
            baseline=model.baseline.digest or "",
            base_target=1.0,
            base_interval=(1.0, 1.0),
            trial=model.arm.trial.digest if model.arm else None,
            outcome="Completed" if hopeful else "Diverged",
            reason="imagined",
        )
        for model in work.models or ()
    ]
    return Decision(question=work.question, method="imagined", scaled=tuple(answers), sentence="imagined")


_IMAGINED: Mapping[Question, Callable[[DecideWork, bool], Decision]] = {
    Question.LEARNING_RATE: _race,
    Question.SCREENING: _screening,
    Question.DURATION: _durations,
    Question.MIX: _mixing,
    Question.SOUP: _soup,
    Question.MIXTURE_PROXY: _by_merges,
    Question.SCALING: _scaling,
}


def end_of(forecast: Forecast, trial: PlannedTrial) -> Tokens | None:
    """The rung or duration that an arm's segment was first needed for, and a decision is about; None for all others."""
    if trial.spec.decide:
        lengths = [arm.tokens for entry in trial.spec.decide.datasets for arm in entry.arms if arm.tokens]
        about_one = trial.spec.decide.question in (Question.DURATION, Question.MIX, Question.MIXTURE_PROXY)
        return max(lengths) if about_one else trial.spec.decide.rung_tokens
    work = trial.spec.train
    if work is None:
        return None
    if work.schedule.cooldown:
        return work.stop_tokens
    recipe = forecast.recipe.for_mix() if trial.stage == MIX_SWEEP else forecast.recipe
    ends = (*recipe.rungs, *recipe.durations)
    return next((end for end in ends if recipe.branch_point(end) == work.stop_tokens), None)
