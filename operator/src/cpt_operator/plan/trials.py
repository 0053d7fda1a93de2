"""The trials of a plan while it is being made: equal ones are one, and the order of adding is the order of starting."""

from __future__ import annotations

from cpt_api.digest import input_digests, trial_digest
from cpt_api.experiment import CPTExperimentSpec, Reuse
from cpt_api.trial import CPTTrialSpec, Legend, ModelResources, Observe, Resources, Run, TrialType
from cpt_api.values import Digest, Tokens
from cpt_operator.plan.types import NO_TOKENS, Context, PlannedTrial

_SECONDS = {"s": 1, "m": 60, "h": 3600}


GPU_TYPES = frozenset({TrialType.TRAIN, TrialType.EVALUATE})
"""What a GPU helps; all others get none."""


def sized(resources: Resources, trial_type: TrialType) -> Resources:
    """As a plan asks for them: all nodes for training, one for evaluation, elsewhere one process on CPU."""
    if trial_type is TrialType.TRAIN:
        return resources
    if trial_type is TrialType.EVALUATE:
        return resources.model_copy(update={"nodes": 1})
    return resources.model_copy(update={"nodes": 1, "gpus_per_node": 0, "processes_per_node": None})


def merged(resources: Resources | None, wanted: ModelResources | None) -> Resources:
    """`wanted` where it says something, else what all models ask for."""
    names = type(wanted).model_fields if wanted else ()
    said = {name: value for name in names if (value := getattr(wanted, name)) is not None}
    return (resources or Resources()).model_copy(update=said)


class Trials:
    """Collects trials by digest and gives each the experiment's `run` block, protocol, salt and image."""

    def __init__(
        self, spec: CPTExperimentSpec, context: Context, collected: dict[Digest, PlannedTrial] | None = None
    ) -> None:
        self._spec = spec
        self._context = context
        self._by_digest: dict[Digest, PlannedTrial] = {} if collected is None else collected
        salted = spec.artifacts is not None and spec.artifacts.reuse is Reuse.NONE
        self._marks = {
            "protocol": context.protocol,
            "salt": context.experiment_uid if salted else None,
            "image_digest": context.image_digest,
        }

    def sized_for(self, wanted: ModelResources | None) -> Trials:
        """The same collection: what is added through this view asks for `wanted` where that says something."""
        if wanted is None:
            return self
        resources = merged(self._spec.resources, wanted)
        return Trials(self._spec.model_copy(update={"resources": resources}), self._context, self._by_digest)

    def add(
        self,
        spec: CPTTrialSpec,
        stage: str,
        title: str,
        *,
        tokens: Tokens = NO_TOKENS,
        observe: Observe | None = None,
        legend: Legend | None = None,
    ) -> Digest:
        """Add a trial unless an equal one is there, and return its digest."""
        spec = spec.model_copy(update=self._marks)
        digest = trial_digest(spec)
        if digest not in self._by_digest:
            run = self._run(spec.type).model_copy(update={"observe": observe, "legend": legend})
            planned = spec.model_copy(update={"run": run})
            needs = tuple(needed for needed in input_digests(spec) if needed in self._by_digest)
            self._by_digest[digest] = PlannedTrial(digest, planned, stage, title, tokens, needs)
        return digest

    def put(self, planned: PlannedTrial) -> Digest:
        """Add a trial of an earlier plan of the same manifest unless an equal one is there, and return its digest."""
        return self._by_digest.setdefault(planned.digest, planned).digest

    def planned(self, digest: Digest) -> PlannedTrial:
        """A trial that was added."""
        return self._by_digest[digest]

    def title(self, digest: Digest) -> str:
        """Of a trial that was added."""
        return self._by_digest[digest].title

    def tokens(self, digest: Digest) -> Tokens:
        """That a trial that was added trains."""
        return self._by_digest[digest].tokens

    def all(self) -> tuple[PlannedTrial, ...]:
        """In the order in which they were added."""
        return tuple(self._by_digest.values())

    def _run(self, trial_type: TrialType) -> Run:
        resources, scheduling = self._spec.resources, self._spec.scheduling
        run = Run(suspend=self._spec.suspend)
        if resources:
            if trial_type not in (TrialType.TRAIN, TrialType.EVALUATE):
                # a pod of the verb's own small size, but the user's account, profile and image
                resources = resources.model_copy(update={"cpu": None, "memory": None})
            run = run.model_copy(update={"resources": sized(resources, trial_type)})
        if scheduling:
            on_cpu = not run.resources.gpus_per_node
            deadline = scheduling.active_deadline
            run = run.model_copy(
                update={
                    "queue_name": scheduling.cpu_queue_name if on_cpu else scheduling.queue_name,
                    "priority_class_name": scheduling.priority_class_name,
                    "max_retries": scheduling.max_retries,
                    "active_deadline_seconds": int(deadline[:-1]) * _SECONDS[deadline[-1]] if deadline else None,
                }
            )
        return run
