"""Expanding an experiment: seconds until its 200 trials exist, and writes per trial, on a real API server.

    make bench NAME=expand

The operator runs as it does in a pod, under the chart's rights. The clock starts when it has read what Preflight found
and ends when the last trial is there. The peer is what people do without an operator: the same 200 manifests, rendered
beforehand, given to `kubectl apply --server-side` in one file. It has no planning to do, keeps no status, and shares
nothing; it says what the API server can take from one client. Both must end with the same specs. Above the line:
what the operator takes of memory then, and how soon it goes on when it is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.outcome import Outcome

from cluster.conftest import install, pytorchjob_crd
from cluster.controlplane import ControlPlane, control_plane
from cluster.harness import Lab, OperatorProcess, Team, kubelet
from cluster.seaweed import seaweed
from cpt_api.result import Result
from cpt_api.trial import TrialDocument, TrialType
from cpt_local import programs
from cpt_operator.kinds import Kind
from cpt_operator.standing import reason_of
from make import make_experiment, make_result

PEER = ()
"""kubectl comes with the control plane."""
DATASETS = 20
RATES = ("1e-5", "3e-5", "1e-4", "3e-4")
TRIALS = 200
"""So many come of them: what is prepared, the control with its replicates, and a trunk and a branch for each rate."""
GOAL_SECONDS = 20
PATIENCE_SECONDS = 300


def run(folder: Path, _: Path) -> Outcome:
    """A control plane, the operator, then kubectl."""
    shutil.rmtree(folder)
    folder.mkdir()
    binaries = programs.folder("kubernetes")
    os.environ["PATH"] = f"{programs.folder('helm')}:{os.environ['PATH']}"
    with control_plane(binaries, folder) as plane, seaweed(folder) as store:
        lab = Lab(plane, store, folder, asyncio.run(install(plane, pytorchjob_crd())))
        ours, manifests = asyncio.run(_expand(lab))
        theirs = asyncio.run(_apply(lab, binaries / "kubectl", manifests))
    return Outcome(f"{ours:.1f} s", f"{theirs:.1f} s", theirs / ours, f"≤ {GOAL_SECONDS} s")


async def _expand(lab: Lab) -> tuple[float, list[dict[str, Any]]]:
    """Seconds, and the trials' manifests."""
    datasets = [{"name": f"d{number}", "uri": f"s3://cpt/sources/d{number}"} for number in range(DATASETS)]
    sweep = {"learningRateSweep": {"learningRates": list(RATES), "rungs": ["10240"]}}
    changes = {"datasets": datasets, "recipe": sweep, "scheduling": {"parallelTrials": 8}}
    async with Team(lab, "expand") as team:
        with lab.operator(team.namespace) as operator:
            async with kubelet(team, _all_but_training):
                await team.apply("sweep", make_experiment(**changes))

                async def planned() -> bool:
                    return int((await team.status()).get("trials", {}).get("total", 0)) >= TRIALS

                async def begun() -> bool:
                    return len(await team.trials()) > 1

                async def made() -> bool:
                    return len(await team.trials()) >= TRIALS

                async def told() -> bool:
                    return await planned() and all(reason_of(trial.status) for trial in await team.trials())

                await team.until(begun, PATIENCE_SECONDS)
                began = time.monotonic()
                await team.until(made, PATIENCE_SECONDS)
                seconds = time.monotonic() - began
                await team.until(told, PATIENCE_SECONDS)
            memory = operator.metric("process_resident_memory_bytes") / 2**20
            first = _first_turn(operator)
        writes = Counter(r.resource for r in team.requests() if r.is_write and r.name != "sweep" and r.code < 300)
        bodies = await team.bodies(Kind.TRIAL)
    print(f"ours: {len(bodies)} trials in {seconds:.1f} s; writes about trials, until each said what it waits for: "
          f"{writes.total() / len(bodies):.2f} per trial ({dict(writes)})")  # fmt: skip
    print(f"ours: {memory:.0f} MiB with them all; started again: {first:.1f} s from the process to its first turn")
    return seconds, [_manifest(body) for body in bodies]


def _first_turn(operator: OperatorProcess) -> float:
    """Seconds from the start of the process, lease, lists and all, until something was reconciled."""
    operator.terminate()
    began = time.monotonic()
    operator.start()
    while time.monotonic() - began < PATIENCE_SECONDS:
        with contextlib.suppress(OSError):  # it does not answer yet
            if operator.metric("controller_runtime_reconcile_total", result="success"):
                return time.monotonic() - began
        time.sleep(0.02)
    sys.exit("the operator was started again and reconciles nothing")


def _all_but_training(document: TrialDocument) -> Result | None:
    """Trials end at once, but for those that would lead to further ones."""
    return None if document.spec.type is TrialType.TRAIN else make_result(document.spec, attempt=document.attempt)


def _manifest(body: dict[str, Any]) -> dict[str, Any]:
    """As somebody would have rendered it."""
    metadata = {key: body["metadata"][key] for key in ("name", "labels", "annotations") if key in body["metadata"]}
    return {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata, "spec": body["spec"]}


async def _apply(lab: Lab, kubectl: Path, manifests: list[dict[str, Any]]) -> float:
    """Seconds."""
    file = lab.folder / "trials.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))
    async with Team(lab, "by-hand") as team:
        seconds = await asyncio.to_thread(_kubectl, lab.plane, kubectl, team.namespace, file)
        bodies = await team.bodies(Kind.TRIAL)
    if {_identity(body) for body in bodies} != {_identity(body) for body in manifests}:
        sys.exit("kubectl made other trials than the operator: the comparison is void")
    print(f"peer: {len(bodies)} trials in {seconds:.1f} s, 1 write per trial, with the same specs")
    return seconds


def _kubectl(plane: ControlPlane, kubectl: Path, namespace: str, file: Path) -> float:
    began = time.monotonic()
    command = [kubectl, "--kubeconfig", plane.kubeconfig, "-n", namespace, "apply", "--server-side", "-f", file]
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def _identity(body: dict[str, Any]) -> str:
    return json.dumps([body["metadata"]["name"], body["spec"]], sort_keys=True)
