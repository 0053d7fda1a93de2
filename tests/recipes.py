"""Random recipes for hypothesis, and fates: whole histories of an experiment that follow from one number.

A stage that is added later adds one line to STAGES (what may be asked for) and one to ANSWERS (what may be decided).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from cpt_api.result import Decision, Result, Verdict
from cpt_api.trial import CPTTrialSpec, DatasetArms, DecideWork, Question, SizedModel, TrialType
from cpt_api.values import LearningRate
from cpt_operator.plan import Failed, Outcome, Succeeded
from make import make_decision, make_result, outcome_diverged

Manifest = dict[str, Any]
"""What `make_experiment` is to change."""

RUNGS = ("10240", "20480", "40960")
RATES = ("1e-5", "3e-5", "1e-4", "3e-4", "1e-3")


def _some(values: tuple[str, ...], most: int) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


def _models(names: list[str]) -> list[Manifest]:
    """One that says everything, one that says nothing."""
    known = {"peakLearningRate": "2e-4", "pretrainingTokens": "2T", "resources": {"nodes": 2, "memory": "9Gi"}}
    return [{"name": name, "uri": f"s3://cpt/{name}", **(known if name == "large" else {})} for name in names]


STAGES: Mapping[str, st.SearchStrategy[Any]] = {
    "screening": st.fixed_dictionaries({"onUndecided": st.sampled_from(["Drop", "Keep", "Stop"])}),
    "durationSweep": st.fixed_dictionaries({"durations": _some(("40960", "61440", "81920", "163840"), 4)}),
    "mixing": st.fixed_dictionaries({}, optional={"strategy": st.sampled_from(["OptimalTokens", "Uniform"])}),
    "mixSweep": st.fixed_dictionaries(
        {},
        optional={
            "learningRates": _some(RATES, 2),
            "rungs": _some(RUNGS[:2], 2),
            "durations": _some(("40960", "81920"), 2),
        },
    ),
    "soup": st.fixed_dictionaries({}, optional={"weights": _some(("0.25", "0.5", "0.75", "1"), 3)}),
    "scaling": st.fixed_dictionaries({}, optional={"models": _some(("large", "small"), 2).map(_models)}),
}
"""By name in the recipe: each may be there or not."""


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Valid ones: one to three datasets, with or without replay data and retention, any stages."""
    names = draw(_some(("python", "perl", "sql", "scheme"), 3))
    has_replay = draw(st.booleans())
    retention = draw(st.sampled_from([None, "data", "datasets"] if has_replay else [None, "data"]))
    sweep = {"learningRates": draw(_some(RATES, 4)), "rungs": draw(_some(RUNGS, 3))}
    stages = {name: draw(stage) for name, stage in STAGES.items() if draw(st.booleans())}
    if "mixing" not in stages:
        stages.pop("mixSweep", None)
    references = {"references": _models(["huge"])} if "scaling" in stages and draw(st.booleans()) else {}
    return {
        "model": {"uri": "s3://cpt/sources/base", "peakLearningRate": "4e-4", "pretrainingTokens": "1T"},
        **references,
        "datasets": [_text(name) for name in names],
        "replay": {"dataset": _text("speeches")} if has_replay else None,
        "evaluation": {
            "target": {"suite": "Heldout", "data": [_text(name) for name in draw(_some(("linux", "manuals"), 2))]},
            "retention": _retention(retention),
        },
        "recipe": {"learningRateSweep": sweep} | stages,
        "training": {"sequenceLength": 64, "globalBatchSize": 8, "replicates": draw(st.integers(1, 3))},
    }


def _text(name: str) -> Manifest:
    return {"name": name, "uri": f"s3://cpt/sources/{name}.jsonl"}


def _retention(kind: str | None) -> Manifest | None:
    match kind:
        case "data":
            return {"suite": "Heldout", "data": [_text("novels")]}
        case "datasets":
            return {"suite": "Heldout", "datasets": ["speeches"]}
        case _:
            return None


def turned(manifest: Any, seed: int) -> Any:
    """The same manifest with every list of it in another order."""
    rng = random.Random(seed)
    match manifest:
        case dict():
            return {key: turned(value, rng.randrange(10_000)) for key, value in manifest.items()}
        case list():
            return rng.sample(found := [turned(value, seed) for value in manifest], len(found))
        case _:
            return manifest


# --- fates ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fate:
    """What becomes of every trial: by its digest, and of a decision by what each dataset was asked.

    The same question about the same arms has the same answer, however many datasets were asked beside it.
    """

    seed: int
    luck: float = 0.8
    """How often a trial ends well."""

    def __call__(self, spec: CPTTrialSpec) -> Outcome:
        """Of a resolved trial."""
        result = make_result(spec)
        rng = random.Random(f"{self.seed} {result.digest}")
        if spec.type is TrialType.PREFLIGHT or rng.random() < self.luck:
            return Succeeded(self._answered(spec, result))
        return _mishap(spec, result) if rng.random() < 0.5 else Failed("ConfigError", "fate wanted it so")

    def _answered(self, spec: CPTTrialSpec, result: Result) -> Result:
        work = spec.decide
        if work is None or work.question not in ANSWERS:
            return result
        decision = make_decision(work)
        asked = work.datasets or work.models or ()
        rngs = [random.Random(f"{self.seed} {_asked(work, entry)}") for entry in asked]
        return result.model_copy(update={"decision": ANSWERS[work.question](work, decision, rngs)})


def _mishap(spec: CPTTrialSpec, result: Result) -> Outcome:
    """A result that is no good: training diverged, a dataset is tiny, a decision answers nothing."""
    if spec.train:
        return Succeeded(outcome_diverged(spec))
    if spec.prepare:
        return Succeeded(result.model_copy(update={"numbers": {"trainTokens": 2000.0}}))
    if spec.decide:
        silent = Decision(question=spec.decide.question, method="test-1", sentence="nothing")
        return Succeeded(result.model_copy(update={"decision": silent}))
    return Failed("DataError", "fate wanted it so")


def _asked(work: DecideWork, entry: DatasetArms | SizedModel) -> str:
    return f"{work.question} {work.rung_tokens} {entry.to_dict()}"


def _rates(work: DecideWork, decision: Decision, rngs: list[random.Random]) -> Decision:
    choices = []
    for choice, rng in zip(decision.rates, rngs, strict=True):
        rates = [arm.learning_rate for arm in choice.arms]
        staying = tuple(rates if work.last else rng.sample(rates, rng.randint(1, len(rates))))
        vertex = LearningRate.parse(rng.choice(["1e-6", "5e-2"])) if rng.random() < 0.3 else None
        chosen = rng.choice([*rates, None]) if work.last else rates[0]
        choices.append(
            choice.model_copy(
                update={
                    "survivors": staying if rng.random() < 0.9 else (),
                    "fitted_vertex": vertex,
                    "chosen": chosen,
                    "verdict": "Chosen" if chosen else "AllDiverged",
                }
            )
        )
    return decision.model_copy(update={"rates": tuple(choices)})


def _screened(_: DecideWork, decision: Decision, rngs: list[random.Random]) -> Decision:
    answers = [
        one.model_copy(update={"target": one.target.model_copy(update={"verdict": rng.choice(list(Verdict))})})
        for one, rng in zip(decision.screened or (), rngs, strict=True)
    ]
    return decision.model_copy(update={"screened": tuple(answers)})


def _durations(_: DecideWork, decision: Decision, rngs: list[random.Random]) -> Decision:
    answers = [
        one.model_copy(
            update={"go_on": rng.random() < 0.7, "chosen": rng.choice([*(arm.tokens for arm in one.arms), None])}
        )
        for one, rng in zip(decision.durations or (), rngs, strict=True)
    ]
    return decision.model_copy(update={"durations": tuple(answers)})


def _mix(_: DecideWork, decision: Decision, rngs: list[random.Random]) -> Decision:
    """One answer for all: the first mix's numbers draw it."""
    choice, rng = decision.mix, rngs[0]
    assert choice is not None
    chosen = rng.choice([choice.proposal, *sorted(arm.mix for arm in choice.arms)])
    verdict = "Replaced" if chosen != choice.proposal else rng.choice(["Kept", "Undecided"])
    return decision.model_copy(update={"mix": choice.model_copy(update={"chosen": chosen, "verdict": verdict})})


def _soup(_: DecideWork, decision: Decision, rngs: list[random.Random]) -> Decision:
    """One answer for all: the first dataset's numbers draw it."""
    choice, rng = decision.soup, rngs[0]
    assert choice is not None
    verdict = rng.choice(["Chosen", "Chosen", "Unconfirmed", "NoneBetter", "NoneFeasible"])
    picked = rng.choice(choice.arms)
    return decision.model_copy(update={"soup": choice.model_copy(update={"verdict": verdict, "picked": picked.trial})})


def _scaled(_: DecideWork, decision: Decision, rngs: list[random.Random]) -> Decision:
    """Some arms diverged, and some have nothing to be compared with."""
    diverged = {"outcome": "Diverged", "target": None, "gain": None, "equivalent": None}
    changes: list[Mapping[str, object]] = [{}, {"equivalent": None}, diverged]
    answers = [
        one.model_copy(update=rng.choice(changes) if one.trial else {})
        for one, rng in zip(decision.scaled or (), rngs, strict=True)
    ]
    return decision.model_copy(update={"scaled": tuple(answers)})


ANSWERS: Mapping[Question, Callable[[DecideWork, Decision, list[random.Random]], Decision]] = {
    Question.LEARNING_RATE: _rates,
    Question.SCREENING: _screened,
    Question.DURATION: _durations,
    Question.MIX: _mix,
    Question.SOUP: _soup,
    Question.SCALING: _scaled,
}
"""By question: another answer for each dataset, drawn from its own numbers. Others get that of `make_decision`."""


def calm(rate: LearningRate) -> Callable[[CPTTrialSpec], Outcome]:
    """All goes well, no rate drops, `rate` is chosen where it was tried, all datasets help, all durations pay."""

    def answer(spec: CPTTrialSpec) -> Outcome:
        if spec.decide is None:
            return Succeeded(make_result(spec))
        tried = sorted({arm.learning_rate for entry in spec.decide.datasets for arm in entry.arms})
        decision = make_decision(spec.decide, rate if rate in tried else min(tried, default=None))
        kept = [
            choice.model_copy(update={"survivors": tuple(arm.learning_rate for arm in choice.arms)})
            for choice in decision.rates
        ]
        return Succeeded(make_result(spec, decision=decision.model_copy(update={"rates": tuple(kept)})))

    return answer
