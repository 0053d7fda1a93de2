"""From a manifest and what is known so far to the trials that should exist. Pure: no I/O, no clock.

`plan()` is called again and again with more outcomes; each call gives all trials known by then, in the order in which
they should start. The same outcomes give the same plan, in whatever order the manifest lists things and however
often the planner died in between.
"""

from __future__ import annotations

from cpt_api.conditions import Reason
from cpt_api.experiment import Best, CPTExperimentSpec, DatasetStatus, StageStatus
from cpt_api.result import Estimate, HeldOutScore, RateArm, RateChoice
from cpt_api.trial import CPTTrialSpec, EvaluateWork, TrialType
from cpt_api.values import Digest, Tokens
from cpt_operator.plan.inputs import STAGE as PREFLIGHT
from cpt_operator.plan.inputs import Inputs, Looked, plan_inputs
from cpt_operator.plan.question import STAGE as SWEEP
from cpt_operator.plan.recipe import InvalidRecipeError, Recipe, resolve
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
    best = _best(recipe, sweep)
    return Plan(
        trials=trials.all(),
        stages=_stages(looked, sweep),
        datasets=tuple(_dataset(dataset.name, sweep) for dataset in spec.datasets),
        best=best,
        tokens_ahead=sweep.tokens_ahead,
        tokens_naive=naive,
        finding=_finding(sweep) or looked.finding,
        complete=sweep.decided and looked.is_whole,
        message=_answer(sweep, best) if sweep.decided else "",
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


def _stages(looked: Looked, sweep: Sweep) -> tuple[StageStatus, ...]:
    failures = [text for texts in sweep.failures.values() for text in texts]
    return (
        StageStatus(name=PREFLIGHT, state="Decided" if looked.is_whole else "Running"),
        StageStatus(
            name=SWEEP,
            state="Decided" if sweep.decided else "Running",
            decision=sweep.decision,
            reason="; ".join(filter(None, [sweep.sentence, *failures]))[:1024] or None,
        ),
    )


def _dataset(name: str, sweep: Sweep) -> DatasetStatus:
    answer = sweep.answers.get(name)
    if answer is None:
        return DatasetStatus(name=name, verdict="Undecided" if sweep.decided and name in sweep.failures else None)
    gain = answer.choice.gain
    return DatasetStatus(
        name=name,
        verdict=answer.choice.verdict,
        best_learning_rate=answer.choice.chosen,
        effect=f"{gain.value:+.4f}" if gain else None,
        interval=_interval(gain),
    )


def _interval(estimate: Estimate | None) -> str | None:
    if estimate is None or estimate.lower is None or estimate.upper is None:
        return None
    return f"{estimate.lower:+.4f} to {estimate.upper:+.4f}"


def _chosen(choice: RateChoice) -> RateArm | None:
    return next((arm for arm in choice.arms if arm.learning_rate == choice.chosen), None)


def _best(recipe: Recipe, sweep: Sweep) -> Best | None:
    """The chosen arm with the best target, where it is better than the base; None: the base is."""
    candidates = [
        (arm.target, name, arm)
        for name, answer in sweep.answers.items()
        if (arm := _chosen(answer.choice))
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


def _finding(sweep: Sweep) -> Finding | None:
    if sweep.obstacle is None:
        return None
    failures = [text for texts in sweep.failures.values() for text in texts]
    return Finding(Reason.FAILED, f"the sweep cannot be decided: {'; '.join([sweep.obstacle, *failures])}"[:1024])


def _answer(sweep: Sweep, best: Best | None) -> str:
    rates = [
        f"{name}: {answer.choice.chosen} ({answer.choice.verdict})"
        if answer.choice.chosen
        else f"{name}: every rate diverged"
        for name, answer in sorted(sweep.answers.items())
    ]
    return "; ".join(rates if best else [*rates, "no arm is better than the base"])
