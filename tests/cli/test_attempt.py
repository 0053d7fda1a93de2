"""The environment of a trial that runs on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cpt_api.trial import Resources
from cpt_trainer.store import Address, open_address
from kubectl_cpt.machine.attempt import Machine, environment_of
from kubectl_cpt.machine.processes import Processes


def machine(folder: Path, **environment: str) -> Machine:
    """Two trials at a time."""
    store = open_address(Address(str(folder)), 1.0)
    return Machine(store, "team", folder, parallel=2, processes=None, children=Processes(()), environment=environment)


@pytest.mark.parametrize(
    ("resources", "environment", "threads"),
    [
        (Resources(), {}, str(max(1, (os.cpu_count() or 1) // 2))),
        (Resources(), {"OMP_NUM_THREADS": "7"}, "7"),
        (Resources(cpu="1500m"), {}, None),
        (Resources(gpus_per_node=1, cpu="8"), {}, str(max(1, (os.cpu_count() or 1) // 2))),
    ],
    ids=["its part of the machine", "as the person says", "as the manifest says", "GPUs"],
)
def test_threads(tmp_path: Path, resources: Resources, environment: dict[str, str], threads: str | None) -> None:
    """A trial that says how many CPUs it takes finds the same numbers as in a pod."""
    assert environment_of(machine(tmp_path, **environment), resources, 0).get("OMP_NUM_THREADS") == threads


def test_processes_and_devices(tmp_path: Path) -> None:
    """Each place of the machine has GPUs of its own, and no pod's variables come in."""
    found = environment_of(machine(tmp_path, RANK="3", HOME="here"), Resources(gpus_per_node=2), 1)
    assert {name: found.get(name) for name in ("PET_NPROC_PER_NODE", "CUDA_VISIBLE_DEVICES", "RANK", "HOME")} == {
        "PET_NPROC_PER_NODE": "2",
        "CUDA_VISIBLE_DEVICES": "2,3",
        "RANK": None,
        "HOME": "here",
    }
