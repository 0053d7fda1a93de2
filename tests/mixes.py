"""Builders for tests of the mix: recipes, and answers that make proposals differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cpt_api.experiment import CPTExperimentSpec
from cpt_api.trial import CPTTrialSpec, DecideWork, Question
from cpt_api.values import Digest
from cpt_operator.plan import Failed, Outcome, Plan, PlannedTrial, Succeeded
from make import make_durations, make_experiment, make_result
from planned import good

SIZES = {"python": 3e6, "perl": 7e6}
SWEEP = {"learningRates": ["1e-4", "1e-3"], "rungs": ["10240", "20480"]}
DURATIONS = {"durations": ["20480", "40960"]}


def mixed(mixing: dict[str, Any] | None = None, stages: dict[str, Any] | None = None, **changes: Any) -> Any:
    """Two datasets at two rates, two durations, and a mix."""
    recipe = {"learningRateSweep": SWEEP, "durationSweep": DURATIONS, "mixing": mixing or {}, **(stages or {})}
    return make_experiment(recipe={key: value for key, value in recipe.items() if value is not None}, **changes)


def name_of(spec: CPTTrialSpec) -> str:
    """Of the file that a Prepare trial reads."""
    assert spec.prepare
    return str(spec.prepare.source.uri).rpartition("/")[2].partition(".")[0]


def sized(spec: CPTTrialSpec) -> Outcome:
    """All goes well; datasets have their sizes, and perl is worth twice as many tokens as python."""
    if spec.prepare:
        return Succeeded(make_result(spec, numbers={"trainTokens": SIZES.get(name_of(spec), 1e6)}))
    if spec.decide and spec.decide.question is Question.DURATION:
        document = make_durations(spec.decide)
        choices = document.durations or ()
        last = max(choice.dataset for choice in choices)
        longer = tuple(
            choice.model_copy(update={"chosen": choice.arms[-1].tokens}) if choice.dataset == last else choice
            for choice in choices
        )
        return Succeeded(make_result(spec, decision=document.model_copy(update={"durations": longer})))
    return good(spec)


def weights(plan: Plan, trial: PlannedTrial) -> dict[str, str]:
    """What it reads, by name."""
    names = {t.digest: t.title for t in plan.trials if t.spec.prepare}
    assert trial.spec.train
    (phase,) = trial.spec.train.phases
    return {names[part.dataset.digest or Digest("")]: str(part.weight) for part in phase.mixture}


def answering(question: Question, decision: Callable[[DecideWork], Any]) -> Callable[[CPTTrialSpec], Outcome]:
    """All goes well, but for the answers to one question."""

    def answer(spec: CPTTrialSpec) -> Outcome:
        if spec.decide is None or spec.decide.question is not question:
            return sized(spec)
        found = decision(spec.decide)
        return found if isinstance(found, Failed) else Succeeded(make_result(spec, decision=found))

    return answer


def explicit(phases: list[tuple[str | None, list[tuple[str, str]]]], **stages: Any) -> CPTExperimentSpec:
    """Phases by their ends and (dataset, weight); one run unless told otherwise."""
    written = [
        {"weights": [{"dataset": name, "weight": weight} for name, weight in parts]}
        | ({"untilTokens": end} if end else {})
        for end, parts in phases
    ]
    recipe = {"mixing": {"strategy": "Explicit", "phases": written}}
    sweep = {"mixSweep": {"learningRates": ["1e-4"], "durations": ["40960"]}}
    return make_experiment(recipe=recipe | sweep | stages)
