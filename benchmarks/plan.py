"""Planning an experiment of 5,564 trials, and what hangs on it: a turn with nothing new, and `kubectl cpt plan`.

    make bench NAME=plan

190 datasets at 4 rates over 3 rungs, screened, with two durations, where no rate drops out. Measured is the plan that
ends it, the longest, by an operator that was started anew. There is no peer that plans; what is compared is the least
that anybody could do who names trials by what they are: the finished documents of the same trials, as canonical JSON
and hashed. Both must end with the same digests.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.outcome import ROOT, Outcome, measured, spread

from cpt_api import PROTOCOL
from cpt_api.model import canonical_json, sha256
from cpt_operator import collector
from cpt_operator.experiments import reconcile_experiment
from cpt_operator.kinds import Key, Kind
from cpt_operator.plan import Earlier, plan
from crowd import crowded, crowded_experiment, nothing_drops
from planned import World
from world import NAMESPACE

PEER = ()
"""Ours without the planner."""
DATASETS = 190
ROUNDS = 7
GOAL_SECONDS = 2
STUDY = ROOT / "examples/study/experiment.yaml"


def run(_folder: Path, _: Path) -> Outcome:
    """The plan, the floor, then what hangs on it."""
    collector.relax()
    world = World(crowded_experiment(DATASETS), answer=nothing_drops)
    made = world.run()
    known = Earlier()
    plan(world.spec, world.context, world.outcomes, known)
    documents = [
        {"protocol": PROTOCOL, "type": trial.spec.type.value, "work": trial.spec.work.identity()}
        for trial in made.trials
    ]
    if [sha256(canonical_json(document)) for document in documents] != [trial.digest for trial in made.trials]:
        sys.exit("the hashed documents are others than the plan's: the comparison is void")
    ours = _seconds(lambda: plan(world.spec, world.context, world.outcomes))
    again = _seconds(lambda: plan(world.spec, world.context, world.outcomes, known))
    floor = _seconds(lambda: [sha256(canonical_json(document)) for document in documents])
    print(f"plan of {len(made.trials)} trials: {spread(ours)} s; the one after it: {spread(again)} s")
    print(f"a turn of {_turns()} s in the middle of it with nothing new (goal ≤ 0.02)")
    print(f"kubectl cpt plan of {STUDY.relative_to(ROOT)}: {_command()} (goal ≤ 1 s, ≤ 100 MB)")
    best, least = min(ours), min(floor)
    return Outcome(f"{best:.2f} s", f"{least:.2f} s", least / best, f"≤ {GOAL_SECONDS} s")


def _seconds(work: Callable[[], object]) -> list[float]:
    """Of each round."""
    found = []
    for _ in range(ROUNDS):
        gc.collect()
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return found


def _turns() -> str:
    runtime, key = crowded(DATASETS).operators[0].runtime, Key(Kind.EXPERIMENT, NAMESPACE, "sweep")

    async def turns() -> list[float]:
        await reconcile_experiment(runtime, key)  # reads every result
        found = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            await reconcile_experiment(runtime, key)
            found.append(time.perf_counter() - began)
        return found

    return spread(asyncio.run(turns()))


def _command() -> str:
    """Seconds and peak memory, as a small process between us and the command sees them."""
    command = [sys.executable, "-m", "kubectl_cpt.main", "plan", "-f", str(STUDY), "-o", "json"]
    runs = [measured([sys.executable, "-c", _OBSERVER, *command], {}).answer for _ in range(ROUNDS)]
    return f"{spread([run['seconds'] for run in runs])} s, {max(run['bytes'] for run in runs) / 1e6:.0f} MB"


_OBSERVER = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
seconds, peak = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"seconds": seconds, "bytes": peak * 1024}))
"""
