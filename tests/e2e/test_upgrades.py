"""An operator that is killed and upgraded in mid-experiment, and a cluster that forgot everything but the store.

It comes after the tests that look at what is finished, and takes it down.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpt_local import chart
from cpt_local.cluster import Cluster
from e2e.lab import Lab, conditions, experiment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

KILLS = 4
"""Half of them before the upgrade: the kubelet restarts a container after 10 s, 20 s, 40 s."""
RATES = ("1e-3", "1e-2")
"""One of them is known, so that half is reused."""


def operators() -> Iterator[int]:
    """Processes of operators in pods."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line, user = (folder / "cmdline").read_bytes(), folder.stat().st_uid
        except OSError:
            continue
        if b"\0cpt_operator\0--config\0/etc/cpt/" in line and user == 65532:
            yield int(folder.name)


class TestInMidExperiment:
    """Nothing is trained twice, whatever happens to the operator."""

    def test_killed_and_upgraded(self, swept: Lab) -> None:
        """Kills at random moments and a `helm upgrade`: every digest has one attempt, and the answer is reached."""
        rng = random.Random(7)
        restarted = experiment(swept, "restarted", RATES)
        del restarted["spec"]["datasets"][1:]
        swept.apply(restarted)
        for number in range(KILLS):
            time.sleep(rng.uniform(2, 8))  # random moments are the point
            for pid in operators():
                os.kill(pid, signal.SIGKILL)
            if number == KILLS // 2 - 1:
                upgrade(swept.cluster, "--set=podAnnotations.upgraded=yes")
        swept.wait("cptx/restarted", "Succeeded", seconds=800)
        trials = swept.trials_of("restarted")
        assert max(item["status"]["attempts"]["total"] for item in trials) == 1
        jobs = swept.get_all("pytorchjob", "cpt.dev/experiment=restarted")
        digests = [job["metadata"]["annotations"]["cpt.dev/digest"] for job in jobs]
        assert len(digests) == len(set(digests))

    def test_a_new_cluster_over_the_same_store(self, swept: Lab) -> None:
        """Experiments, trials and the operator's memory are gone; the same manifest ends without training a token."""
        before = swept.get("cptx/one")["status"]
        swept.kubectl("delete", "cptx", "--all", "--cascade=foreground", "--timeout=60s")
        swept.kubectl("wait", "cptt", "--selector=cpt.dev/experiment", "--for=delete", "--timeout=60s")
        swept.cluster.kubectl("-n", "cpt-system", "delete", "pod", "--all", "--wait=false")
        swept.apply(experiment(swept, "one"))
        status = swept.wait("cptx/one", "Succeeded", seconds=120)["status"]
        assert status["ledger"]["tokensTrained"] == "0"
        assert status["datasets"] == before["datasets"]
        started = [item for item in swept.trials_of("one") if item["status"]["attempts"]["total"]]
        assert {item["spec"]["type"] for item in started} == {"Preflight", "Report"}  # both speak of this experiment

    def test_uninstalling_keeps_experiments(self, swept: Lab) -> None:
        """The chart leaves definitions and objects, deletion works without an operator, and it comes back as it was."""
        chart.helm(swept.cluster, "uninstall", chart.RELEASE, "--wait")
        assert swept.get("cptx/one")["status"]["best"]
        chart.install(swept.cluster)
        assert conditions(swept.wait("cptx/one", "Ready"))["Succeeded"]["status"] == "True"


def upgrade(cluster: Cluster, *changes: str) -> None:
    """As an administrator does it."""
    values = f"--values={chart.values_file(cluster)}"
    chart.helm(cluster, "upgrade", chart.RELEASE, str(chart.FOLDER), values, *changes, "--wait")
