"""One cluster of two nodes for all tests of this tier; every group of tests has a namespace of its own.

Set CPT_TEST_CLUSTER to the name of a running cluster to use that one and leave it up: half a minute less a run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from cpt_local import tenants
from cpt_local.cluster import Cluster
from e2e.lab import Lab, experiment, preparation, training

LabFactory = Callable[[str], Lab]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real cluster with training-operator, S3, Prometheus and our chart."""
    given = os.environ.get("CPT_TEST_CLUSTER")
    name = given or f"e2e-{os.getpid()}"
    local = [sys.executable, "-m", "cpt_local"]
    nodes = f"--nodes={os.environ.get('CPT_TEST_NODES', '2')}"
    try:
        subprocess.run([*local, "up", f"--name={name}", nodes], check=True)
        yield Cluster.find(name)
    finally:
        if given is None:
            subprocess.run([*local, "down", f"--name={name}"], check=True)


@pytest.fixture(scope="session")
def lab_factory(cluster: Cluster) -> LabFactory:
    """Makes namespaces that are ready for experiments."""

    def make(name: str) -> Lab:
        namespace = f"{name}-{os.getpid()}"
        tenants.add(cluster, namespace)
        return Lab(cluster, namespace)

    return make


@pytest.fixture(scope="session")
def swept(lab_factory: LabFactory) -> Lab:
    """A namespace with a base and the finished experiments `one` and `two`, which mean the same."""
    lab = lab_factory("sweep")
    lab.apply(*preparation(lab), training("base", 60))
    lab.apply(experiment(lab, "one"), experiment(lab, "two"))
    for name in ("one", "two"):
        lab.wait(f"cptx/{name}", "Succeeded", seconds=900)
    return lab
