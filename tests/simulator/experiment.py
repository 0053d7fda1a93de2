"""One whole experiment: the real planner asks, the world answers, until the plan is complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cpt_api.experiment import CPTExperimentSpec
from cpt_api.result import DurationChoice, MixChoice, RateChoice, Scaled, Screened, SoupChoice
from cpt_api.trial import CPTTrialSpec, DecideWork, Question, TrialType
from cpt_api.values import Digest, Tokens
from cpt_operator.plan import Context, Earlier, Look, Outcome, Plan, Succeeded, plan
from cpt_operator.plan.repeat import STAGE as SCALING
from make import make_experiment
from simulator.truth import Truth
from simulator.world import BASE, REPLAY, RETENTION, TARGET, World

RATES = ("3e-5", "1e-4", "3e-4", "1e-3")
RUNGS = ("1M", "2M", "4M")
PRETRAINED = "100M"
"""What bases were pretrained on, where that is told."""


@dataclass(frozen=True, slots=True)
class Ended:
    """An experiment, and what it decided."""

    world: World
    plan: Plan
    decisions: tuple[tuple[DecideWork, tuple[RateChoice, ...]], ...]
    """Of learning rates by rung; a rung that was widened stands here twice."""
    screened: Mapping[str, Screened]
    """By the name of the dataset."""
    lasting: Mapping[str, DurationChoice]
    """The last answer about durations, by the name of the dataset."""
    scaled: Mapping[str, Scaled]
    """By the name of the model."""
    asked: tuple[CPTTrialSpec, ...]
    """Every trial that ran."""
    soup: SoupChoice | None = None
    """Where the recipe has one."""
    mix: MixChoice | None = None
    """Where mixes were compared."""

    @property
    def chosen(self) -> dict[str, RateChoice]:
        """The last answer for every dataset."""
        names = self.world.names
        return {names[choice.dataset]: choice for _, choices in self.decisions for choice in choices}


def experiment_spec(
    datasets: Sequence[str], stages: Mapping[str, Any] | None = None, *, replay: bool = True, **training: Any
) -> CPTExperimentSpec:
    """A sweep of four rates over three rungs, and what comes after it."""

    def uri(name: str) -> str:
        return f"s3://cpt/sources/{name}.jsonl"

    return make_experiment(
        model={
            "uri": f"s3://cpt/sources/{BASE}",
            **({"pretrainingTokens": PRETRAINED} if "scaling" in (stages or {}) else {}),
        },
        datasets=[{"name": name, "uri": uri(name)} for name in datasets],
        replay={"dataset": {"name": REPLAY, "uri": uri(REPLAY)}} if replay else None,
        evaluation={
            "target": {"suite": "Heldout", "data": [{"name": TARGET, "uri": uri(TARGET)}]},
            "retention": {"suite": "Heldout", "data": [{"name": RETENTION, "uri": uri(RETENTION)}]},
        },
        recipe={"learningRateSweep": {"learningRates": list(RATES), "rungs": list(RUNGS)}, **(stages or {})},
        training={"sequenceLength": 250, "globalBatchSize": 8, "replicates": 3, **training},
    )


def run_experiment(truth: Truth, seed: int, spec: CPTExperimentSpec | None = None, *, end: str = RUNGS[-1]) -> Ended:
    """From the manifest to the last decision. `end`: the last rung."""
    spec = spec or experiment_spec(sorted(truth.curves))
    world = World(truth, seed, Tokens.parse(end))
    context = Context(experiment_uid="uid", protocol=1)
    outcomes: dict[Digest, Outcome] = {}
    earlier = Earlier()
    asked: list[CPTTrialSpec] = []
    decisions: list[tuple[DecideWork, tuple[RateChoice, ...]]] = []
    screened: dict[str, Screened] = {}
    lasting: dict[str, DurationChoice] = {}
    mix: MixChoice | None = None
    soup: SoupChoice | None = None
    scaled: dict[str, Scaled] = {}
    while True:
        known = plan(spec, context, outcomes, earlier)
        fresh = [trial for trial in known.trials if trial.digest not in outcomes]
        if not fresh:
            return Ended(world, known, tuple(decisions), screened, lasting, scaled, tuple(asked), soup, mix)
        for trial in fresh:  # in the order of the plan, so that what one needs stands before it
            result = world.answer(trial.digest, trial.spec)
            outcomes[trial.digest] = Succeeded(result)
            asked.append(trial.spec)
            if trial.spec.decide and result.decision:
                screened |= {world.names[one.dataset]: one for one in result.decision.screened or ()}
                soup = result.decision.soup or soup
                lasting |= {world.names[one.dataset]: one for one in result.decision.durations or ()}
                mix = result.decision.mix or mix
                scaled |= {world.roots[one.baseline]: one for one in result.decision.scaled or ()}
                if trial.spec.decide.question is Question.LEARNING_RATE and trial.stage != SCALING:
                    decisions.append((trial.spec.decide, result.decision.rates))
            if trial.spec.type is TrialType.PREFLIGHT:
                context = replace(context, looks=(Look(trial.spec, outcomes[trial.digest]),))
            if result.checkpoint is None and trial.spec.train:
                break  # what would have gone on from there is no longer planned
