"""Training that is killed, evicted, terminated or loses its node ends with the losses of the undisturbed run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cpt_local import node, s3, up
from e2e.lab import Lab, Manifest, conditions, preparation, training

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

STEPS = 800
"""Long enough to be disturbed in the middle."""


@pytest.fixture(scope="module")
def calm(lab_factory: Callable[[str], Lab]) -> Lab:
    """A namespace with the finished, undisturbed training `calm`."""
    lab = lab_factory("faults")
    lab.apply(*preparation(lab), training("calm", STEPS, salt="calm"))
    lab.wait("cptt/calm", "Succeeded", seconds=300)
    return lab


def processes_of(trial: str) -> Iterator[int]:
    """Processes whose environment holds that trial, the oldest first."""
    for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda folder: int(folder.name)):
        try:
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if b"CPT_TRIAL=" in environment and f'"name":"{trial}"'.encode() in environment:
            yield int(folder.name)


def begin(lab: Lab, name: str) -> None:
    """Start a training, and wait until it makes steps."""
    lab.apply(training(name, STEPS, salt=name))
    lab.wait_reason(f"cptt/{name}", "Running", seconds=90)
    pod = f"pod/{name}-1-master-0"
    with lab.watch("logs", "--follow", pod) as lines:
        assert any('"event": "step"' in line for line in lines), lab.kubectl("logs", pod)


def finish(lab: Lab, name: str) -> Manifest:
    """Its end, after which it must have made the very steps of the undisturbed run."""
    attempts: Manifest = lab.wait(f"cptt/{name}", "Succeeded", seconds=300)["status"]["attempts"]
    assert lab.losses(name) == lab.losses("calm")
    return attempts


class TestProcesses:
    """Design 3: "kill -9 at a random step and resume: bitwise at the same world size"."""

    def test_kill_9(self, calm: Lab) -> None:
        """A killed process is a counted retry, named so."""
        begin(calm, "killed")
        os.kill(next(processes_of("killed")), signal.SIGKILL)
        first = finish(calm, "killed")["last"][0]
        assert (first["cause"], first["exitCode"]) == ("Killed", 137)
        assert any(event.startswith("Killed: attempt 1") for event in calm.events("killed"))

    def test_termination_with_grace(self, calm: Lab) -> None:
        """SIGTERM commits the last step; the next attempt goes on from there, and nothing is counted."""
        begin(calm, "terminated")
        os.kill(next(processes_of("terminated")), signal.SIGTERM)
        attempts = finish(calm, "terminated")
        first = attempts["last"][0]
        assert (first["cause"], first["exitCode"]) == ("Terminated", 143)
        assert first["committedStep"] > 0
        assert attempts["fruitless"] == 0

    def test_deleted_pod(self, calm: Lab) -> None:
        """A pod that somebody deletes is a disruption: free, from its last checkpoint."""
        begin(calm, "evicted")
        calm.kubectl("delete", "pod", "evicted-1-master-0", "--wait=false")
        attempts = finish(calm, "evicted")
        assert attempts["last"][0]["cause"] in ("Terminated", "PodLost")
        assert attempts["fruitless"] == 0

    def test_suspend_and_resume(self, calm: Lab) -> None:
        """Paused at a checkpoint, its pod gone; resumed, it ends as if nothing had been."""
        begin(calm, "paused")
        calm.kubectl("patch", "cptt/paused", "--type=merge", '-p={"spec":{"run":{"suspend":true}}}')
        calm.wait_reason("cptt/paused", "Suspended")
        calm.kubectl("wait", "pod", "-lcpt.dev/trial=paused", "--for=delete", "--timeout=60s")
        calm.kubectl("patch", "cptt/paused", "--type=merge", '-p={"spec":{"run":{"suspend":false}}}')
        attempts = finish(calm, "paused")
        assert attempts["last"][0]["cause"] == "Suspended"
        assert attempts["last"][0]["committedStep"] > 0

    def test_cancel(self, calm: Lab) -> None:
        """`run.cancel` ends it for good."""
        begin(calm, "cancelled")
        calm.kubectl("patch", "cptt/cancelled", "--type=merge", '-p={"spec":{"run":{"cancel":true}}}')
        calm.wait_reason("cptt/cancelled", "Cancelled")
        assert conditions(calm.get("cptt/cancelled"))["Succeeded"]["status"] == "False"


class TestOutages:
    """Nothing fails that only has to wait."""

    def test_store_stopped_for_a_minute(self, calm: Lab) -> None:
        """Training rides out an outage of S3 in the same attempt."""
        begin(calm, "patient")
        s3.stop(calm.cluster)
        time.sleep(60)  # the length of the outage is what is tested
        s3.start(calm.cluster)
        assert finish(calm, "patient")["total"] == 1

    def test_lost_node(self, calm: Lab) -> None:
        """The next attempt exists at most two minutes after the node is gone, on another node."""
        lab = calm
        lab.kubectl("cordon", "node-1")
        begin(lab, "stranded")
        lab.kubectl("uncordon", "node-1")
        try:
            node.kill_node(lab.cluster, "node-2")
            lab.wait_until("cptt/stranded", lambda trial: trial["status"]["attempts"]["total"] == 2, seconds=120)
            first, second = finish(lab, "stranded")["last"]
            assert (first["cause"], first["node"], second["node"]) == ("NodeLost", "node-2", "node-1")
        finally:
            up.restart_node(lab.cluster, "node-2")
