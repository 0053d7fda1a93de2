"""What runs on a store have left: the world as the next run would find it, without running anything."""

from __future__ import annotations

from cpt_trainer.store import Store
from kubectl_cpt.errors import CliError
from kubectl_cpt.machine.attempt import read_result
from kubectl_cpt.machine.memory import name_of, recall
from kubectl_cpt.machine.world import World
from kubectl_cpt.manifest import Manifests


def recalled(manifests: Manifests, store: Store) -> World:
    """With every result that the plan asks for, however far that leads. CliError when nobody ran it there."""
    experiment = manifests.experiment
    namespace = (experiment or manifests.trials[0]).namespace
    world = World(manifests, recall(store, namespace, name_of(manifests)))
    if experiment and not world.memory.looks:
        raise CliError(
            f"{experiment.name} was never run on {store.address.uri} (namespace {namespace}): name the store of its "
            "`kubectl cpt run`"
        )
    seen = set()
    while fresh := [job for job in world.jobs if job.digest and job.digest not in seen]:
        for job in fresh:
            assert job.digest is not None
            seen.add(job.digest)
            outcome = read_result(store, namespace, job)
            if outcome is not None:
                world.answer(job.digest, outcome)
    return world
