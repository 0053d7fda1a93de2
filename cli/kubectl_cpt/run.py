"""`kubectl cpt run`: an experiment, or trials written by hand, on this machine."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cpt_trainer.errors import TrainerExit
from cpt_trainer.store import Address, Store, open_address
from kubectl_cpt import render
from kubectl_cpt.errors import CliError
from kubectl_cpt.machine import answer
from kubectl_cpt.machine.attempt import TRAINER, Machine
from kubectl_cpt.machine.display import display_for
from kubectl_cpt.machine.lock import Lock, acquire
from kubectl_cpt.machine.memory import name_of, recall
from kubectl_cpt.machine.session import Session
from kubectl_cpt.machine.world import World
from kubectl_cpt.manifest import Manifests, load

_STORE_SECONDS = 60.0
"""A store that does not answer for so long ends the run; trials ride out longer outages themselves."""


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
    address = address_of(options.store, environment, options.source_root)
    store = open_address(address, _STORE_SECONDS)
    namespace = options.namespace or (manifests.experiments or manifests.trials)[0].namespace
    try:
        lock = acquire(store, namespace)
        try:
            _run(options, manifests, store, lock, environment)
        finally:
            lock.release()
    except TrainerExit as error:
        raise CliError(f"the store: {error}") from error


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
        inherited=lock.descriptors,
        environment=environment,
        program=options.program,
    )
    began = time.monotonic()
    with display_for(Console(stderr=True)) as display:
        asyncio.run(Session(world, machine, lock, display, name).run())
    uri = store.address.uri
    match options.output:
        case "json":
            text = render.as_json(answer.document_of(world, uri, machine.logs))
        case "yaml":
            text = render.as_yaml(answer.document_of(world, uri, machine.logs))
        case _:
            text = answer.as_text(world, uri, machine.logs, time.monotonic() - began)
    sys.stdout.write(text)


def address_of(store: str, environment: Mapping[str, str], source_root: Path | None = None) -> Address:
    """Of --store, with all that the environment says about S3."""
    if source_root and not source_root.is_dir():
        raise CliError(f"--source-root {source_root}: no such folder")
    is_s3 = "://" in store
    return Address(
        uri=store.rstrip("/") if is_s3 else str(Path(store).absolute()),
        endpoint=environment.get("AWS_ENDPOINT_URL_S3"),
        path_style=environment.get("CPT_STORE_PATH_STYLE", "true") != "false",
        sources=str(source_root.absolute()) if source_root else environment.get("CPT_SOURCES"),
    )


def _logs(store: Store) -> Path:
    """Beside the data, where that is a folder."""
    uri = store.address.uri
    return Path("cpt-logs").absolute() if "://" in uri else Path(uri) / "logs"
