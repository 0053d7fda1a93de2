"""`kubectl cpt run`: an experiment, or trials written by hand, on this machine."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cpt_trainer.store import Store
from kubectl_cpt import render
from kubectl_cpt.machine import answer
from kubectl_cpt.machine.attempt import Machine
from kubectl_cpt.machine.display import display_for
from kubectl_cpt.machine.lock import Lock, acquire
from kubectl_cpt.machine.memory import name_of, recall
from kubectl_cpt.machine.processes import TRAINER, Processes
from kubectl_cpt.machine.session import Session
from kubectl_cpt.machine.world import World
from kubectl_cpt.manifest import Manifests, load
from kubectl_cpt.opened import address_of, opened


@dataclass(frozen=True, slots=True)
class Options:
    """As on the command line."""

    files: Sequence[str]
    store: str
    namespace: str | None = None
    parallel: int | None = None
    processes: int | None = None
    source_root: Path | None = None
    logs: Path | None = None
    output: str = "table"
    program: Sequence[str] = TRAINER
    """What carries out a verb."""


def run(options: Options, environment: Mapping[str, str]) -> None:
    """Until all is done; the answer goes to standard output."""
    manifests = load(options.files, namespace=options.namespace)
    namespace = options.namespace or (manifests.experiments or manifests.trials)[0].namespace
    with opened(address_of(options.store, environment, options.source_root)) as store:
        lock = acquire(store, namespace)
        try:
            _run(options, manifests, store, lock, environment)
        finally:
            lock.release()


def _run(options: Options, manifests: Manifests, store: Store, lock: Lock, environment: Mapping[str, str]) -> None:
    experiment = manifests.experiment
    name = name_of(manifests)
    namespace = (experiment or manifests.trials[0]).namespace
    world = World(manifests, recall(store, namespace, name))
    scheduling = experiment.spec.scheduling if experiment else None
    machine = Machine(
        store=store,
        namespace=namespace,
        logs=options.logs or _logs(store),
        parallel=options.parallel or (scheduling.parallel_trials if scheduling else None) or 1,
        processes=options.processes,
        children=Processes(lock.descriptors, options.program),
        environment=environment,
    )
    began = time.monotonic()
    with display_for(Console(stderr=True)) as display:
        asyncio.run(Session(world, machine, lock, display, name).run())
    uri = store.address.uri
    if options.output in render.FOR_PROGRAMS:
        text = render.for_programs(answer.document_of(world, uri, machine.logs), options.output)
    else:
        text = answer.as_text(world, uri, machine.logs, time.monotonic() - began)
    sys.stdout.write(text)


def _logs(store: Store) -> Path:
    """Beside the data, where that is a folder."""
    uri = store.address.uri
    return Path("cpt-logs").absolute() if "://" in uri else Path(uri) / "logs"
