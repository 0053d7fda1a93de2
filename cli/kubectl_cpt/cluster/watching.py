"""Experiments as they change, by kubectl's watches: one thread for each, as long as the command lives."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from cpt_operator.kinds import EXPERIMENT_LABEL
from kubectl_cpt.cluster import objects
from kubectl_cpt.cluster.kubectl import EXPERIMENTS, TRIALS, Kubectl, Object
from kubectl_cpt.cluster.objects import Experiment, Trial
from kubectl_cpt.errors import TimedOut

_TOGETHER_SECONDS = 0.5
"""Changes that come so close to each other are shown at once."""

Changes = queue.Queue[Object | Exception]


@dataclass(frozen=True, slots=True)
class _Watch:
    """A watch, and where its changes go."""

    kubectl: Kubectl
    changes: Changes
    kind: str
    name: str = ""
    selector: str = ""

    def start(self) -> None:
        """Nobody waits for the thread: it ends with the process."""
        threading.Thread(target=self._forward, daemon=True).start()

    def _forward(self) -> None:
        """The API server ends a watch from time to time; then it begins anew."""
        try:
            while True:
                for change in self.kubectl.watch(self.kind, self.name, self.selector):
                    self.changes.put(change)
        except Exception as error:  # noqa: BLE001 - whoever reads the changes raises it
            self.changes.put(error)


def states(kubectl: Kubectl, name: str) -> Iterator[tuple[Experiment, list[Trial]]]:
    """The experiment with its trials in the order of the plan, after every change of any of them."""
    changes: Changes = queue.Queue()
    _Watch(kubectl, changes, EXPERIMENTS, name=name).start()
    _Watch(kubectl, changes, TRIALS, selector=f"{EXPERIMENT_LABEL}={name}").start()
    experiment: Experiment | None = None
    trials: dict[str, Trial] = {}
    while True:
        for change in [_next(changes, None), *_at_once(changes)]:
            if change["kind"] == "CPTExperiment":
                experiment = Experiment(change)
            else:
                trials[change["metadata"]["name"]] = Trial(change)
        if experiment:
            yield experiment, objects.in_order(list(trials.values()))


def experiments(kubectl: Kubectl, name: str, timeout_seconds: float | None) -> Iterator[Experiment]:
    """The experiment after every change. TimedOut when the time is over; None waits for ever."""
    changes: Changes = queue.Queue()
    _Watch(kubectl, changes, EXPERIMENTS, name=name).start()
    end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while True:
        try:
            yield Experiment(_next(changes, end))
        except queue.Empty:
            raise TimedOut(f"{name} has not ended within --timeout; it goes on") from None


def _at_once(changes: Changes) -> Iterator[Object]:
    """What else changes within a moment."""
    end = time.monotonic() + _TOGETHER_SECONDS
    while True:
        try:
            yield _next(changes, end)
        except queue.Empty:
            return


def _next(changes: Changes, end: float | None) -> Object:
    change = changes.get(timeout=None if end is None else max(0.0, end - time.monotonic()))
    if isinstance(change, Exception):
        raise change
    return change
