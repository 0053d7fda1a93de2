"""The trials that an experiment makes: their manifests, and what of them follows the experiment's spec. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cpt_api import GROUP
from cpt_api.names import trial_name
from cpt_operator.kinds import DIGEST_ANNOTATION, EXPERIMENT_LABEL, TYPE_LABEL, Kind
from cpt_operator.plan import Plan, PlannedTrial
from cpt_operator.records import Body, ExperimentRecord

ORDER_ANNOTATION = f"{GROUP}/order"
"""On trials of an experiment: their place in the plan, zero-padded."""
STAGE_ANNOTATION = f"{GROUP}/stage"
"""On trials of an experiment: the stage of the recipe."""
TITLE_ANNOTATION = f"{GROUP}/title"
"""On trials of an experiment: what they are, for people."""


def child_name(experiment: ExperimentRecord, planned: PlannedTrial) -> str:
    """Deterministic: whoever makes it twice meets his own."""
    return trial_name(experiment.name, experiment.uid, planned.spec.type, planned.digest)


@dataclass(frozen=True, slots=True)
class Expansion:
    """A plan as trials of one experiment."""

    plan: Plan
    planned: Mapping[str, PlannedTrial]
    """By name, in the plan's order."""
    runs: Mapping[str, Body]
    """Their run blocks by name, as they should stand in the cluster."""


def expanded(experiment: ExperimentRecord, plan: Plan) -> Expansion:
    """The plan's trials with their names."""
    planned = {child_name(experiment, trial): trial for trial in plan.trials}
    return Expansion(plan, planned, {name: trial.spec.run.to_dict() for name, trial in planned.items()})


def manifest(experiment: ExperimentRecord, planned: PlannedTrial, order: int, run: Body) -> dict[str, Any]:
    """The whole object, to be created."""
    return {
        "apiVersion": Kind.TRIAL.api_version,
        "kind": Kind.TRIAL.kind,
        "metadata": {
            "name": child_name(experiment, planned),
            "namespace": experiment.namespace,
            "labels": {
                "app.kubernetes.io/managed-by": "cpt-operator",
                EXPERIMENT_LABEL: experiment.name,
                TYPE_LABEL: planned.spec.type.value,
            },
            "annotations": {
                DIGEST_ANNOTATION: planned.digest,
                STAGE_ANNOTATION: planned.stage,
                TITLE_ANNOTATION: planned.title,
                ORDER_ANNOTATION: f"{order:05}",
            },
            "ownerReferences": [
                {
                    "apiVersion": Kind.EXPERIMENT.api_version,
                    "kind": Kind.EXPERIMENT.kind,
                    "name": experiment.name,
                    "uid": experiment.uid,
                    "controller": True,
                }
            ],
        },
        "spec": planned.spec.to_dict() | {"run": dict(run)},
    }


def run_of(run: Body, *, stop: bool) -> Body:
    """With the experiment's wish that the trial pauses."""
    return {**run, "suspend": True} if stop else run


def run_differs(spec: Body, run: Body) -> bool:
    """Whether a trial's run block is not what its experiment wants; `cancel` is the user's."""
    present: Body = spec.get("run") or {}
    if "cancel" in present:
        present = {key: value for key, value in present.items() if key != "cancel"}
    return present != run
