"""What the commands read off experiments and trials, each fact once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cpt_api.conditions import ConditionType, Reason
from cpt_api.experiment import CPTExperimentSpec
from cpt_operator.children import ORDER_ANNOTATION, STAGE_ANNOTATION, TITLE_ANNOTATION
from cpt_operator.kinds import EXPERIMENT_LABEL
from cpt_operator.standing import condition_of, has_ended, has_failed, has_succeeded, is_at_work, is_stalled, reason_of
from kubectl_cpt.cluster.kubectl import EXPERIMENTS, TRIALS, Kubectl, MissingError, Object
from kubectl_cpt.errors import CliError


@dataclass(frozen=True, slots=True)
class Trial:
    """A CPTTrial as the API server has it."""

    body: Object

    @property
    def name(self) -> str:
        """Of the object."""
        return str(self.body["metadata"]["name"])

    @property
    def status(self) -> Object:
        """Empty while nobody looked at it."""
        status: Object = self.body.get("status") or {}
        return status

    @property
    def spec(self) -> Object:
        """As written."""
        spec: Object = self.body["spec"]
        return spec

    @property
    def title(self) -> str:
        """For people."""
        return str(self._annotations.get(TITLE_ANNOTATION) or self.spec["type"])

    @property
    def stage(self) -> str:
        """Of the recipe; empty for trials written by hand."""
        return str(self._annotations.get(STAGE_ANNOTATION, ""))

    @property
    def order(self) -> tuple[str, str]:
        """Its place in the plan."""
        return str(self._annotations.get(ORDER_ANNOTATION, "")), self.name

    @property
    def experiment(self) -> str | None:
        """Whose trial it is; None for trials written by hand."""
        owners = self.body["metadata"].get("ownerReferences") or ()
        return next((owner["name"] for owner in owners if owner.get("controller")), None)

    @property
    def state(self) -> str:
        """One word: the reason, or the phase where the reason says less."""
        if is_stalled(self.status):
            return str(condition_of(self.status, ConditionType.STALLED).get("reason"))
        return reason_of(self.status) or Reason.QUEUED

    @property
    def message(self) -> str:
        """For people."""
        type_ = ConditionType.STALLED if is_stalled(self.status) else ConditionType.SUCCEEDED
        return str(condition_of(self.status, type_).get("message") or "")

    @property
    def failed(self) -> bool:
        """It ended without a result, or waits for somebody to act."""
        return has_failed(self.status) or is_stalled(self.status)

    @property
    def lost(self) -> bool:
        """It ended without a result, and nobody wished that: those behind it wait, and go on by themselves."""
        return has_failed(self.status) and reason_of(self.status) != Reason.CANCELLED

    @property
    def given_up(self) -> bool:
        """Kueue has given its attempt up, or lost it: nothing goes on until it is made anew."""
        return self.state in (Reason.QUEUE_DEACTIVATED, Reason.QUEUE_STUCK)

    @property
    def at_work(self) -> bool:
        """It has an attempt."""
        return is_at_work(self.status)

    @property
    def succeeded(self) -> bool:
        """It has a result."""
        return has_succeeded(self.status)

    @property
    def ended(self) -> bool:
        """For good."""
        return has_ended(self.status)

    @property
    def _annotations(self) -> Object:
        annotations: Object = self.body["metadata"].get("annotations") or {}
        return annotations


@dataclass(frozen=True, slots=True)
class Experiment:
    """A CPTExperiment as the API server has it."""

    body: Object

    @property
    def name(self) -> str:
        """Of the object."""
        return str(self.body["metadata"]["name"])

    @property
    def status(self) -> Object:
        """Empty while the operator has not seen it."""
        status: Object = self.body.get("status") or {}
        return status

    @property
    def is_seen(self) -> bool:
        """Whether an operator ever looked at it; the API server itself writes a generation of -1."""
        return bool(self.status.get("conditions"))

    @property
    def is_current(self) -> bool:
        """Whether the status speaks of the spec that stands there now."""
        return bool(self.status.get("observedGeneration") == self.body["metadata"].get("generation"))

    @property
    def condition(self) -> Object:
        """The one that says most."""
        stalled = condition_of(self.status, ConditionType.STALLED)
        if stalled.get("status") == "True":
            return stalled
        ready = condition_of(self.status, ConditionType.READY)
        return ready or condition_of(self.status, ConditionType.SUCCEEDED)

    @property
    def succeeded(self) -> bool:
        """It has an answer."""
        return has_succeeded(self.status)

    @property
    def failed(self) -> bool:
        """It never will have one."""
        return has_failed(self.status)

    @property
    def stalled(self) -> bool:
        """It waits for somebody to act."""
        return is_stalled(self.status)


def experiment(kubectl: Kubectl, name: str) -> Experiment:
    """By name; the error names those that are there."""
    try:
        return Experiment(kubectl.get(EXPERIMENTS, name))
    except MissingError as error:
        names = sorted(item["metadata"]["name"] for item in kubectl.list(EXPERIMENTS))
        there = f"there are: {', '.join(names)}" if names else "there is none"
        raise MissingError(f"there is no CPTExperiment {name!r} in this namespace ({there})") from error


def live_spec(kubectl: Kubectl, name: str, namespace: str) -> CPTExperimentSpec | None:
    """What stands on the cluster now."""
    try:
        return CPTExperimentSpec.model_validate(kubectl.get(EXPERIMENTS, name, f"--namespace={namespace}")["spec"])
    except MissingError:
        return None


def trials_of(kubectl: Kubectl, name: str) -> list[Trial]:
    """In the order of the plan."""
    found = [Trial(item) for item in kubectl.list(TRIALS, f"{EXPERIMENT_LABEL}={name}")]
    return in_order(found)


def in_order(trials: Sequence[Trial]) -> list[Trial]:
    """Of the plan."""
    return sorted(trials, key=lambda trial: trial.order)


def trial(kubectl: Kubectl, reference: str) -> Trial:
    """`TRIAL`, or `EXPERIMENT/TRIAL`."""
    owner, _, name = reference.rpartition("/")
    found = Trial(kubectl.get(TRIALS, name))
    if owner and found.experiment != owner:
        raise CliError(f"trial {name} belongs to {found.experiment or 'no experiment'}, not to {owner}")
    return found


def document(kubectl: Kubectl, name: str) -> dict[str, Any]:
    """An experiment with its trials, for programs."""
    return {
        "experiment": experiment(kubectl, name).body,
        "trials": [trial.body for trial in trials_of(kubectl, name)],
    }
