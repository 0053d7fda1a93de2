"""The trials that an experiment makes: their manifests, and what of them follows the experiment's spec. Pure."""

from __future__ import annotations

from typing import Any

from cpt_api import GROUP
from cpt_api.names import trial_name
from cpt_api.trial import Run
from cpt_operator.kinds import DIGEST_ANNOTATION, EXPERIMENT_LABEL, TYPE_LABEL, Kind
from cpt_operator.plan.types import PlannedTrial
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


def manifest(experiment: ExperimentRecord, planned: PlannedTrial, order: int, run: Run) -> dict[str, Any]:
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
        "spec": planned.spec.model_copy(update={"run": run}).to_dict(),
    }


def stopped(run: Run, *, stop: bool) -> Run:
    """With the experiment's wish that the trial pauses."""
    return run.model_copy(update={"suspend": True}) if stop else run


def run_differs(spec: Body, run: Run) -> bool:
    """Whether a trial's run block is not what its experiment wants; `cancel` is the user's."""
    present = {key: value for key, value in (spec.get("run") or {}).items() if key != "cancel"}
    return present != run.to_dict()
