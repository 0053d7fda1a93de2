"""training-operator comes after the operator: a control plane of this test's own, without PyTorchJob."""

from __future__ import annotations

from pathlib import Path

from cluster.conftest import apply, install, pytorchjob_crd
from cluster.controlplane import control_plane
from cluster.harness import Lab, Team, kubelet
from cpt_local import programs
from cpt_operator.kinds import Kind
from make import make_experiment


async def test_the_backend_comes_later(lab: Lab, tmp_path: Path) -> None:
    """Experiments say what is missing; once it is there, they go on by themselves."""
    with control_plane(programs.folder("kubernetes"), tmp_path) as plane:
        own = Lab(plane, lab.store, tmp_path, await install(plane))
        async with Team(own, "late") as team:
            with own.operator(team.namespace) as process:
                await team.apply("sweep", make_experiment())

                async def missing() -> bool:
                    return (await team.condition(Kind.EXPERIMENT, "sweep", "Stalled")).get("reason") == "BackendMissing"

                await team.until(missing)
                await apply(team.api, pytorchjob_crd())

                async def served() -> bool:
                    return await team.api.serves(Kind.JOB.root, Kind.JOB.plural)

                await team.until(served)
                async with kubelet(team):
                    await team.until_reason("Completed", "sweep", 90, process)
                assert process.starts == 2
