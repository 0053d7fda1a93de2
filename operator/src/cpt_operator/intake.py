"""What was seen of the cluster goes through here: into the store, and whoever depends on it is put into the queue.

    changed               looks again
    experiment            itself
    trial                 itself, and its experiment
    trial that has ended  also the trials that wait for it, and the experiments whose `model.trialName` it is
    job, pod              its trial
    Kueue's Workload      the trial of its job

Watches, LISTs and the answers to our own writes all come this way. What is known already (the echo of our own write)
wakes nobody; and a status that a turn has just written does not wake the same object again. Nothing here awaits.
Price: one pass over the namespace's trials per trial that ends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from cpt_api.conditions import Reason
from cpt_operator.kinds import TRIAL_LABEL, Key, Kind
from cpt_operator.queue import Queue
from cpt_operator.records import ExperimentRecord, JobRecord, PodRecord, Record, TrialRecord, WorkloadRecord
from cpt_operator.standing import has_ended
from cpt_operator.store import Drift, Store

_WAITS_FOR_TRIALS = frozenset({"", Reason.WAITING_FOR_INPUT, Reason.WAITING_FOR_EQUAL_TRIAL, Reason.INPUT_FAILED})
"""The turn of a trial without a reason may be writing at this very moment that it waits."""


class Intake:
    """One per process."""

    def __init__(self, store: Store, queue: Queue) -> None:
        self._store = store
        self._queue = queue

    def seen(self, record: Record) -> None:
        """The object is like this now, or was a moment ago."""
        if self._store.put(record):
            self._wake([record], gone=[])

    def written(self, record: Record) -> None:
        """As `seen`, but by the turn that looks at this object: the object itself need not be looked at again."""
        if self._store.put(record):
            self._wake([record], gone=[], but=record.key)

    def gone(self, record: Record) -> None:
        """The object has ended; `record` is its last version."""
        if self._store.remove(record):
            self._wake([], gone=[record])

    def listed(self, kind: Kind, namespace: str, records: Iterable[Record], resource_version: int) -> Drift:
        """A complete LIST of `kind` (in one namespace, or "" for all) as of that version."""
        drift = self._store.replace(kind, namespace, records, resource_version)
        self._wake(drift.misses, gone=drift.ghosts)
        return drift

    def _wake(self, changed: Iterable[Record], gone: Iterable[Record], but: Key | None = None) -> None:
        ended: defaultdict[str, set[str]] = defaultdict(set)
        for record in (*changed, *gone):
            for key in _directly(self._store, record):
                if key != but:
                    self._queue.add(key)
        for trial in (*(r for r in changed if isinstance(r, TrialRecord) and has_ended(r.status)), *gone):
            if isinstance(trial, TrialRecord):
                ended[trial.namespace] |= {trial.name, trial.digest or trial.name}
        for namespace, names in ended.items():
            for key in _waiting(self._store, namespace, names):
                self._queue.add(key)


def _directly(store: Store, record: Record) -> Iterator[Key]:
    match record:
        case ExperimentRecord():
            yield record.key
        case TrialRecord():
            yield record.key
            if record.owner_name and record.owner_kind == Kind.EXPERIMENT.kind:
                yield Key(Kind.EXPERIMENT, record.namespace, record.owner_name)
        case JobRecord() | PodRecord():
            yield Key(Kind.TRIAL, record.namespace, record.labels.get(TRIAL_LABEL) or record.owner_name or "")
        case WorkloadRecord():  # without a label of ours; a job that is not known yet wakes its trial when it comes
            job = store.job(record.namespace, record.owner_name or "")
            if job is not None:
                yield from _directly(store, job)


def _waiting(store: Store, namespace: str, ended: AbstractSet[str]) -> Iterator[Key]:
    """Who waits for trials of these names and digests."""
    for trial in store.trials(namespace):
        waits = trial.standing.reason in _WAITS_FOR_TRIALS
        if waits and (trial.digest in ended or _mentions(trial.spec, ended)):
            yield trial.key
    for experiment in store.experiments(namespace):
        spec = experiment.spec
        models = [spec.get("model"), (spec.get("recipe") or {}).get("scaling"), spec.get("references")]
        if any(_mentions(model, ended) for model in models):
            yield experiment.key


def _mentions(value: Any, names: AbstractSet[str]) -> bool:
    """Whether one of `names` stands anywhere in an unparsed spec: cheaper than parsing it, and never too little."""
    if isinstance(value, str):
        return value in names
    if isinstance(value, Mapping):
        return any(_mentions(item, names) for item in value.values())
    return isinstance(value, list) and any(_mentions(item, names) for item in value)
