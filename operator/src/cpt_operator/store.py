"""What a reconcile may read: a record of every watched object, kept up to date by the watches.

A record is written by whoever saw it last: the watch, the periodic LIST, or `cluster.py` with what the API server
answered to our own write ("write-through": the next turn sees the child that this turn made, though the watch lags).
`resourceVersion` settles their order: an older version never replaces a newer one, and a removal leaves a tombstone
until the next LIST, so that no late echo brings an object back.

    LIST as of version 20: a(7) c(9)         store: a(7) b(5) d(30)
    -> b is a ghost (its deletion was never seen), c was missed, d is newer than the LIST and stays

Price: about 3 KB an object plus the spec and status of our own kinds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

from cpt_operator.kinds import Key, Kind
from cpt_operator.records import ExperimentRecord, JobRecord, PodRecord, Record, TrialRecord, WorkloadRecord

R = TypeVar("R", ExperimentRecord, TrialRecord, JobRecord, PodRecord, WorkloadRecord)


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """Sizes by kind, and what the LISTs found wrong so far."""

    objects: Mapping[Kind, int]
    ghosts: int
    """Stored objects that no longer existed: their end was never seen."""
    misses: int
    """Listed versions that no watch had brought."""


@dataclass(frozen=True, slots=True)
class Drift:
    """What one LIST found to differ; whoever depends on these is to be looked at again."""

    ghosts: tuple[Record, ...]
    misses: tuple[Record, ...]

    @property
    def records(self) -> tuple[Record, ...]:
        """All of them."""
        return self.ghosts + self.misses


class Store:
    """Records by key, with the indexes that reconcilers need. One event loop; nothing here awaits."""

    def __init__(self) -> None:
        self._records: dict[Kind, dict[Key, Record]] = {kind: {} for kind in Kind}
        # by uid of the controlling owner; empty entries are dropped
        self._children: defaultdict[str, dict[Key, Record]] = defaultdict(dict)
        # by uid of the controlling owner: its children by name, where that was asked for since one of them changed
        self._ordered: dict[str, tuple[Record, ...]] = {}
        # by uid of the controlling owner: a number that no other state of its children had
        self._revisions: dict[str, int] = {}
        self._changes = count(1)
        # trials by (namespace, digest); empty entries are dropped
        self._digests: defaultdict[tuple[str, str], dict[Key, TrialRecord]] = defaultdict(dict)
        # removed keys with the version of their end; forgotten at the next LIST that is newer
        self._tombstones: dict[Key, int] = {}
        self._ghosts = 0
        self._misses = 0

    # --- reading ---------------------------------------------------------------------------------------------------

    def get(self, key: Key) -> Record | None:
        """The record of that key, if the object exists."""
        return self._records[key.kind].get(key)

    def experiment(self, namespace: str, name: str) -> ExperimentRecord | None:
        """The experiment of that name, if it exists."""
        return self._one(ExperimentRecord, namespace, name)

    def trial(self, namespace: str, name: str) -> TrialRecord | None:
        """The trial of that name, if it exists."""
        return self._one(TrialRecord, namespace, name)

    def job(self, namespace: str, name: str) -> JobRecord | None:
        """The job of that name, if it exists and carries our label."""
        return self._one(JobRecord, namespace, name)

    def experiments(self, namespace: str | None = None) -> list[ExperimentRecord]:
        """All, or those of a namespace. Walks everything: for metrics and rare events."""
        return self._all(ExperimentRecord, namespace)

    def trials(self, namespace: str | None = None) -> list[TrialRecord]:
        """All, or those of a namespace. Walks everything: for metrics and rare events."""
        return self._all(TrialRecord, namespace)

    def trials_of(self, experiment_uid: str) -> list[TrialRecord]:
        """The trials that an experiment controls, by name."""
        return self._owned(TrialRecord, experiment_uid)

    def revision_of(self, uid: str) -> int:
        """Of the children that an object controls: the same number means that nothing about them has changed."""
        return self._revisions.get(uid, 0)

    def jobs_of(self, trial_uid: str) -> list[JobRecord]:
        """The jobs that a trial controls, by name."""
        return self._owned(JobRecord, trial_uid)

    def pods_of(self, job_uid: str) -> list[PodRecord]:
        """The pods that a job controls, by name."""
        return self._owned(PodRecord, job_uid)

    def workload_of(self, job_uid: str) -> WorkloadRecord | None:
        """A job's place in Kueue's queue; the newest, should there be several."""
        return max(self._owned(WorkloadRecord, job_uid), key=lambda record: record.created, default=None)

    def trials_with_digest(self, namespace: str, digest: str) -> list[TrialRecord]:
        """The trials of a namespace with that digest, oldest first."""
        found = self._digests.get((namespace, digest), {}).values()
        return sorted(found, key=lambda trial: (trial.created, trial.name))

    def statistics(self) -> StoreStatistics:
        """For metrics and tests."""
        return StoreStatistics(
            {kind: len(of_kind) for kind, of_kind in self._records.items()}, self._ghosts, self._misses
        )

    # --- writing ---------------------------------------------------------------------------------------------------

    def put(self, record: Record) -> bool:
        """Take over what was seen; False when the same or a newer version is known."""
        known = self.get(record.key)
        newest = known.resource_version if known else self._tombstones.get(record.key, 0)
        if record.resource_version <= newest:
            return False
        if known is not None:
            self._unlink(known)
        self._link(record)
        return True

    def remove(self, record: Record) -> bool:
        """`record` ended at its resourceVersion; False when that was known, or a newer object has its name."""
        known = self.get(record.key)
        if known is not None and known.resource_version > record.resource_version:
            return False
        self._tombstones[record.key] = record.resource_version
        if known is None:
            return False
        self._unlink(known)
        return True

    def replace(self, kind: Kind, namespace: str, listed: Iterable[Record], resource_version: int) -> Drift:
        """Make the store agree with a complete LIST of `kind` (in one namespace, or "" for all) as of that version."""
        keys = set()
        misses = []
        for record in listed:
            keys.add(record.key)
            if self.put(record):
                misses.append(record)
        ghosts = [
            known
            for key, known in self._records[kind].items()
            if key not in keys and namespace in ("", key.namespace) and known.resource_version <= resource_version
        ]
        for ghost in ghosts:
            self._unlink(ghost)
        self._tombstones = {k: v for k, v in self._tombstones.items() if k.kind is not kind or v > resource_version}
        self._ghosts += len(ghosts)
        self._misses += len(misses)
        return Drift(tuple(ghosts), tuple(misses))

    # --- indexes ---------------------------------------------------------------------------------------------------

    def _link(self, record: Record) -> None:
        self._records[record.KIND][record.key] = record
        if record.owner_uid is not None:
            self._children[record.owner_uid][record.key] = record
            self._has_changed(record.owner_uid)
        if isinstance(record, TrialRecord) and record.digest is not None:
            self._digests[record.namespace, record.digest][record.key] = record

    def _unlink(self, record: Record) -> None:
        del self._records[record.KIND][record.key]
        if record.owner_uid is not None:
            self._has_changed(record.owner_uid)
            siblings = self._children[record.owner_uid]
            del siblings[record.key]
            if not siblings:
                del self._children[record.owner_uid], self._revisions[record.owner_uid]
        if isinstance(record, TrialRecord) and record.digest is not None:
            equals = self._digests[record.namespace, record.digest]
            del equals[record.key]
            if not equals:
                del self._digests[record.namespace, record.digest]

    def _has_changed(self, owner_uid: str) -> None:
        self._ordered.pop(owner_uid, None)
        self._revisions[owner_uid] = next(self._changes)

    def _one(self, type_: type[R], namespace: str, name: str) -> R | None:
        record = self.get(Key(type_.KIND, namespace, name))
        return record if isinstance(record, type_) else None

    def _all(self, type_: type[R], namespace: str | None) -> list[R]:
        found = self._records[type_.KIND].values()
        return [r for r in found if isinstance(r, type_) and namespace in (None, r.namespace)]

    def _owned(self, type_: type[R], uid: str) -> list[R]:
        ordered = self._ordered.get(uid, ())
        if not ordered and (found := self._children.get(uid)):
            ordered = self._ordered[uid] = tuple(sorted(found.values(), key=lambda record: record.name))
        return [record for record in ordered if isinstance(record, type_)]
