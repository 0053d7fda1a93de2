"""From a manifest and what is known so far to the trials that should exist. Pure: no I/O, no clock.

`plan()` is called again and again with more outcomes; each call gives all trials known by then, in the order in which
they should start. The same outcomes give the same plan, in whatever order the manifest lists things and however
often the planner died in between.
"""

from __future__ import annotations

from cpt_api.conditions import Reason
from cpt_api.experiment import Best, CPTExperimentSpec, DatasetStatus, OnUndecided, StageStatus
from cpt_api.result import Estimate, HeldOutScore, RateArm, RateChoice
from cpt_api.trial import CPTTrialSpec, EvaluateWork, TrialType
from cpt_api.values import Digest, Tokens
from cpt_operator.plan.inputs import STAGE as PREFLIGHT
from cpt_operator.plan.inputs import Inputs, Looked, plan_inputs
from cpt_operator.plan.question import STAGE as SWEEP
from cpt_operator.plan.recipe import InvalidRecipeError, Recipe, resolve
from cpt_operator.plan.screening import STAGE as SCREENING
from cpt_operator.plan.screening import Screening, plan_screening
from cpt_operator.plan.segments import Segments
from cpt_operator.plan.sweep import Sweep, plan_sweep
from cpt_operator.plan.trials import Trials
from cpt_operator.plan.types import (
    Context,
    Failed,
    Finding,
    Look,
    Outcome,
    Outcomes,
    Plan,
    PlannedTrial,
    Succeeded,
)

__all__ = [
    "Context",
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


def plan(spec: CPTExperimentSpec, context: Context, outcomes: Outcomes) -> Plan:
    """All trials known so far, and what was decided."""
    try:
        recipe = resolve(spec)
    except InvalidRecipeError as error:
        return Plan(trials=(), finding=error.finding)
    trials = Trials(spec, context)
    naive = Tokens(len(spec.datasets) * len(recipe.rates) * recipe.rungs[-1])
    looked = plan_inputs(recipe, context, trials)
    if looked.inputs is None:
        stages = (StageStatus(name=PREFLIGHT, state="Running"),)
        datasets = tuple(DatasetStatus(name=dataset.name) for dataset in spec.datasets)
        return Plan(trials.all(), stages, datasets, tokens_naive=naive, finding=looked.finding)
    segments = Segments(looked.inputs, _baseline(looked.inputs, trials), trials, outcomes)
    sweep = plan_sweep(segments)
    screening = plan_screening(segments, sweep) if recipe.on_undecided else None
    best = _best(recipe, sweep, screening)
    decided = sweep.decided and (screening is None or screening.decided)
    finding = _finding(sweep, screening, recipe) or looked.finding
    return Plan(
        trials=trials.all(),
        stages=_stages(looked, sweep, screening),
        datasets=tuple(_dataset(dataset.name, sweep, screening) for dataset in spec.datasets),
        best=best,
        tokens_ahead=Tokens(sweep.tokens_ahead + (screening.tokens_ahead if screening else 0)),
        tokens_naive=naive,
        finding=finding,
        complete=decided and looked.is_whole and finding is None,
        message=_answer(sweep, screening, best) if decided else "",
    )


def _baseline(inputs: Inputs, trials: Trials) -> Digest:
    """The base on every text, scored as the arms are: the line that everything is compared with."""
    work = EvaluateWork(
        model=inputs.model,
        held_out=inputs.held_out,
        sequence_length=inputs.recipe.spec.training.sequence_length,
        precision=inputs.recipe.precision,
    )
    return trials.add(CPTTrialSpec(type=TrialType.EVALUATE, evaluate=work), "baseline", "base")


def _stages(looked: Looked, sweep: Sweep, screening: Screening | None) -> tuple[StageStatus, ...]:
    failures = [text for texts in sweep.failures.values() for text in texts]
    stages = [
        StageStatus(name=PREFLIGHT, state="Decided" if looked.is_whole else "Running"),
        StageStatus(
            name=SWEEP,
            state="Decided" if sweep.decided else "Running",
            decision=sweep.decision,
            reason=_words([sweep.sentence, *failures]),
        ),
    ]
    if screening:
        running = "Running" if sweep.decided else "Waiting"
        stages.append(
            StageStatus(
                name=SCREENING,
                state="Decided" if screening.decided else running,
                decision=screening.decision,
                reason=_words([screening.sentence, *screening.failures]),
            )
        )
    return tuple(stages)


def _words(sentences: list[str]) -> str | None:
    return "; ".join(filter(None, sentences))[:1024] or None


def _dataset(name: str, sweep: Sweep, screening: Screening | None) -> DatasetStatus:
    answer = sweep.answers.get(name)
    if answer is None:
        return DatasetStatus(name=name, verdict="Undecided" if sweep.decided and name in sweep.failures else None)
    verdict: str = answer.choice.verdict
    effect = answer.choice.gain
    if screening and (screened := screening.answers.get(name)):
        verdict, effect = screened.target.verdict.value, screened.target.effect
    return DatasetStatus(
        name=name,
        verdict=verdict,
        best_learning_rate=answer.choice.chosen,
        effect=f"{effect.value:+.4f}" if effect else None,
        interval=_interval(effect),
    )


def _interval(estimate: Estimate | None) -> str | None:
    if estimate is None or estimate.lower is None or estimate.upper is None:
        return None
    return f"{estimate.lower:+.4f} to {estimate.upper:+.4f}"


def _chosen(choice: RateChoice) -> RateArm | None:
    return next((arm for arm in choice.arms if arm.learning_rate == choice.chosen), None)


def _best(recipe: Recipe, sweep: Sweep, screening: Screening | None) -> Best | None:
    """The chosen arm with the best target, where it is better than the base; None: the base is.

    After screening only of datasets that survived it.
    """
    survivors = screening.survivors if screening and screening.decided else sweep.answers
    candidates = [
        (arm.target, name, arm)
        for name, answer in sweep.answers.items()
        if name in survivors
        and (arm := _chosen(answer.choice))
        and arm.target is not None
        and answer.choice.gain
        and answer.choice.gain.value > 0
    ]
    if not candidates:
        return None
    target, name, arm = min(candidates, key=lambda item: (item[0], item[1]))
    answer, interval = sweep.answers[name], arm.target_interval
    trial = answer.arms[arm.learning_rate]
    return Best(
        trial=trial.short,
        digest=trial,
        dataset=name,
        learning_rate=arm.learning_rate,
        tokens=recipe.rungs[answer.rung],
        target=f"{target:.4f}",
        target_interval=f"{interval[0]:.4f} to {interval[1]:.4f}" if interval else None,
        retention=f"{arm.retention:.4f}" if arm.retention is not None else None,
    )


def _finding(sweep: Sweep, screening: Screening | None, recipe: Recipe) -> Finding | None:
    if sweep.obstacle is not None:
        failures = [text for texts in sweep.failures.values() for text in texts]
        return Finding(Reason.FAILED, f"the sweep cannot be decided: {'; '.join([sweep.obstacle, *failures])}"[:1024])
    if screening is None:
        return None
    if screening.obstacle is not None:
        words = "; ".join([screening.obstacle, *screening.failures])
        return Finding(Reason.FAILED, f"screening cannot be decided: {words}"[:1024])
    if recipe.on_undecided is not OnUndecided.STOP or not screening.undecided:
        return None
    first = screening.answers[screening.undecided[0]].reason
    return Finding(
        Reason.UNDECIDED,
        f"undecided: {', '.join(screening.undecided)}; an experiment with a new name and another onUndecided, or with "
        f"what it takes, shares all that was trained. {screening.undecided[0]}: {first}"[:1024],
    )


def _answer(sweep: Sweep, screening: Screening | None, best: Best | None) -> str:
    if screening:
        verdicts = [f"{name}: {one.target.verdict}" for name, one in sorted(screening.answers.items())]
        if not screening.survivors:
            return "; ".join([*verdicts, "no dataset survived screening: the base is best"])
        return "; ".join(verdicts if best else [*verdicts, "no arm is better than the base"])
    rates = [
        f"{name}: {answer.choice.chosen} ({answer.choice.verdict})"
        if answer.choice.chosen
        else f"{name}: every rate diverged"
        for name, answer in sorted(sweep.answers.items())
    ]
    return "; ".join(rates if best else [*rates, "no arm is better than the base"])
