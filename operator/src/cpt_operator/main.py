"""The operator's process: `python3 -m cpt_operator --config FILE`.

    settings, login          a mistake in them ends the process with a message
    our kinds are served     the CRDs may come a moment after us
    the Lease is ours        until then it stands by
    every kind was listed    no work before that
    workers
    kopf's watches           last: kopf ends whatever was begun after itself

and down in the other order: turns that have begun are finished, the watches end, the Lease is given back. What makes
it impossible to go on (a lost Lease, a dead watch, PyTorchJob or Kueue installed or removed) ends the process.
Kubernetes starts it anew, which takes two seconds and is the one way back that is tested all the time.

Exit codes: 0 stopped by a signal, 1 it could not go on, 2 settings or login.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import kopf
import structlog

from cpt_operator import collector
from cpt_operator.apiserver import ApiError, ApiServer, LoginError
from cpt_operator.artifacts import Artifacts
from cpt_operator.cluster import Cluster
from cpt_operator.experiments import reconcile_experiment
from cpt_operator.health import Health
from cpt_operator.intake import Intake
from cpt_operator.kinds import Kind
from cpt_operator.lease import Lease, LeaseLostError
from cpt_operator.logs import configure
from cpt_operator.memory import Memory
from cpt_operator.metrics import Metrics
from cpt_operator.queue import Queue
from cpt_operator.recorder import Recorder
from cpt_operator.runtime import Runtime
from cpt_operator.settings import Settings, SettingsError
from cpt_operator.store import Store
from cpt_operator.trials import reconcile_trial
from cpt_operator.watch import Lists, WatchDeadError, kopf_registry, kopf_settings
from cpt_operator.workers import Workers

log = structlog.get_logger()

_DRAIN_SECONDS = 20
"""For turns that have begun; a pod has 30 s to end."""
_KINDS_SECONDS = 2
_BACKEND_SECONDS = 5
_MAY_BE_MISSING = (Kind.JOB, Kind.WORKLOAD)
_RECONCILERS = {Kind.EXPERIMENT: reconcile_experiment, Kind.TRIAL: reconcile_trial}


class StoppedError(Exception):
    """A signal asked for it."""


class KindsChangedError(Exception):
    """A kind that may be missing was installed or removed: the watches must be begun anew."""


class Operator:
    """The parts of one process, and the order in which they begin and end."""

    def __init__(self, settings: Settings, api: ApiServer, recorder: Recorder, identity: str) -> None:
        self._settings = settings
        self._api = api
        self._recorder = recorder
        self._store = Store()
        self._queue = Queue(time.monotonic, observe_wait=recorder.waited)
        self._intake = Intake(self._store, self._queue)
        self._lease = Lease(api, settings.lease, identity)
        self._stop = asyncio.Event()
        self.health = Health(Metrics(self._store, self._queue, recorder, _now).text)

    def stop(self) -> None:
        """End in order, as soon as possible."""
        self._stop.set()

    async def run(self) -> None:
        """Until it cannot go on. Raises the reason, in groups; StoppedError among them is a good one."""
        self._recorder.leads(self._settings.lease.name, is_leader=False)
        async with asyncio.TaskGroup() as standing_by:
            stopped = standing_by.create_task(self._stopped())
            await self._until_served()
            self.health.waits_for(None)
            await self._lease.acquire()
            stopped.cancel()
        self._recorder.leads(self._settings.lease.name, is_leader=True)
        try:
            async with asyncio.TaskGroup() as leading:
                renewals = leading.create_task(self._lease.keep())
                try:
                    await self._lead()
                finally:
                    renewals.cancel()
        finally:
            await self._lease.release()

    async def _lead(self) -> None:
        """List, then work and watch; ends by an exception only."""
        self.health.waits_for("the first LIST is not complete")
        served = await self._served()
        kinds = [kind for kind in Kind if kind not in _MAY_BE_MISSING or kind in served]
        lists = Lists(self._api, self._intake, kinds, self._settings.watch_namespaces, self._settings.relist_seconds)
        artifacts = Artifacts(self._settings.artifact_store, observe=self._recorder.s3_request)
        workers = Workers(self._runtime(artifacts, backend_served=Kind.JOB in served), _RECONCILERS, self._recorder)
        try:
            async with asyncio.TaskGroup() as working:
                working.create_task(self._stopped(workers))
                working.create_task(self._kinds_changed(served))
                await lists.first()
                self.health.waits_for(None)
                workers.start(working, self._settings.workers)
                working.create_task(lists.keep())
                working.create_task(self._watch(kinds))
        finally:
            await artifacts.close()

    def _runtime(self, artifacts: Artifacts, *, backend_served: bool) -> Runtime:
        memory = Memory()
        return Runtime(
            settings=self._settings,
            store=self._store,
            cluster=Cluster(self._api, self._intake, memory, _now),
            artifacts=artifacts,
            queue=self._queue,
            memory=memory,
            now=_now,
            backend_served=backend_served,
        )

    async def _watch(self, kinds: Sequence[Kind]) -> None:
        namespaces, older = self._settings.watch_namespaces, asyncio.all_tasks()
        tasks = await kopf.spawn_tasks(
            registry=kopf_registry(self._api, self._intake, kinds),
            settings=kopf_settings(kinds),
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
        )
        self.listen()  # kopf has set handlers of its own
        await kopf.run_tasks(tasks, ignored=older)
        raise WatchDeadError("kopf has ended")

    def listen(self) -> None:
        """End in order on SIGTERM and SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)

    async def _stopped(self, workers: Workers | None = None) -> None:
        await self._stop.wait()
        if workers is not None:
            await workers.drain(_DRAIN_SECONDS)
        raise StoppedError("a signal asked for it")

    async def _until_served(self) -> None:
        for kind in (Kind.EXPERIMENT, Kind.TRIAL):
            self.health.waits_for(f"{kind.plural}.{kind.group} are not served: install the CRDs")
            while not await self._is_served(kind):
                await asyncio.sleep(_KINDS_SECONDS)

    async def _kinds_changed(self, served: frozenset[Kind]) -> None:
        while not (changed := served ^ await self._served()):
            await asyncio.sleep(_BACKEND_SECONDS)
        names = ", ".join(f"{kind.kind} {'was removed' if kind in served else 'is served now'}" for kind in changed)
        raise KindsChangedError(names)

    async def _served(self) -> frozenset[Kind]:
        """Of the kinds that may be missing. Without the right to see Workloads there are none."""
        asked = [kind for kind in _MAY_BE_MISSING if kind is not Kind.WORKLOAD or self._settings.kueue.enabled]
        return frozenset([kind for kind in asked if await self._is_served(kind)])

    async def _is_served(self, kind: Kind) -> bool:
        """As soon as the API server answers."""
        while True:
            try:
                return await self._api.serves(kind.root, kind.plural)
            except ApiError as error:
                log.warning("API server asked in vain", kind=kind.plural, error=str(error))
                await asyncio.sleep(_KINDS_SECONDS)


def _now() -> datetime:
    return datetime.now(UTC)


async def run(settings: Settings, kubeconfig: str | None, identity: str) -> int:
    """The exit code."""
    recorder = Recorder()
    api = await ApiServer.login(kubeconfig, observe=recorder.api_request)
    code = 0
    try:
        operator = Operator(settings, api, recorder, identity)
        operator.listen()
        async with operator.health.serving(settings.http_host, settings.http_port) as port:
            log.info("operator begins", identity=identity, port=port)
            await operator.run()
    except* StoppedError as reason:
        log.info("operator ends", reason=_first(reason))
    except* (LeaseLostError, WatchDeadError, KindsChangedError) as reason:
        log.warning("operator ends", reason=_first(reason))
        code = 1
    finally:
        await api.close()
    return code


def _first(group: BaseExceptionGroup[BaseException]) -> str:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else str(error)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="cpt-operator", description="The control plane of CPTExperiments.")
    parser.add_argument("--config", type=Path, required=True, help="the settings' YAML file")
    options = parser.parse_args(arguments)
    configure()
    collector.relax()
    identity = os.environ.get("HOSTNAME") or socket.gethostname()  # of a pod its name, which a restart keeps
    kubeconfig = os.environ.get("KUBECONFIG")
    try:
        settings = Settings.load(options.config)
        if kubeconfig and not Path(kubeconfig).exists():
            raise LoginError(f"KUBECONFIG names {kubeconfig}, which does not exist: name one file that does")
        return asyncio.run(run(settings, kubeconfig, identity))
    except (SettingsError, LoginError) as error:
        sys.stderr.write(f"cpt-operator: {error}\n")
        return 2
