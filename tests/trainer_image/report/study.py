"""A sweep and a screening of the simulator by the real planner and decisions, and the results that its report reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpt_api.digest import trial_digest
from cpt_api.layout import result_key
from cpt_api.model import canonical_json
from cpt_api.result import HeldOutScore, Result
from cpt_api.trial import CPTTrialSpec, TrialDocument, TrialType
from cpt_api.values import Digest
from cpt_trainer.store import FolderStore, Store
from cpt_trainer.trial import Trial
from simulator.experiment import experiment_spec, run_experiment
from simulator.truth import Curve, Truth
from simulator.world import World

NAMESPACE = "team"
STAGES: Mapping[str, Any] = {"screening": {}, "durationSweep": {"durations": ["4M", "8M", "16M"]}, "soup": {}}
TRUTH = Truth(
    {"python": Curve(2e-4, 0.02), "perl": Curve(4e-4, 0.01, gain=0.3), "shuffled": Curve(1e-4, 0.05, gain=0.02)},
    diverges_above=9e-4,
)


def make_study(
    folder: Path, truth: Truth = TRUTH, stages: Mapping[str, Any] = STAGES, *, retention: bool = True
) -> Trial:
    """The Report trial, over a store in which everything that it reads is there."""
    store = FolderStore(folder)
    manifest = experiment_spec(sorted(truth.curves), stages)
    if not retention:
        evaluation = manifest.evaluation.model_copy(update={"retention": None})
        manifest = manifest.model_copy(update={"evaluation": evaluation})
    ended = run_experiment(truth, 1, manifest)
    for spec in ended.asked:
        if spec.type in (TrialType.EVALUATE, TrialType.DECIDE):
            result = ended.world.answer(trial_digest(spec), spec)
            plant(store, result.model_copy(update={"held_out": _scored(ended.world, result)}))
    return make_trial(store, next(spec for spec in ended.asked if spec.type is TrialType.REPORT))


def make_trial(store: Store, spec: CPTTrialSpec) -> Trial:
    """An attempt at that spec."""
    document = TrialDocument(namespace=NAMESPACE, name="t", digest=trial_digest(spec), attempt=1, protocol=1, spec=spec)
    return Trial(document, store)


def plant(store: Store, result: Result) -> None:
    """What another trial committed."""
    store.put(result_key(NAMESPACE, result.digest), canonical_json(result.to_dict()))


def files(trial: Trial) -> dict[str, bytes]:
    """What a trial has written below its data prefix."""
    return {entry.key.removeprefix(trial.data): trial.store.get(entry.key) for entry in trial.store.list(trial.data)}


def decisions(trial: Trial) -> list[Digest]:
    """The Decide trials that it reads."""
    assert trial.spec.report is not None
    return [ref.digest for answered in trial.spec.report.answered for ref in answered.decisions if ref.digest]


def _scored(world: World, result: Result) -> tuple[HeldOutScore, ...]:
    """The base, by the tables that the decisions were taken from."""
    scores = []
    for score in result.held_out:
        items = world.items(result.digest, score.text)
        level = float(items.bits.sum() / items.bytes.sum())
        scores.append(score.model_copy(update={"bits_per_byte": level}))
    return tuple(scores)
