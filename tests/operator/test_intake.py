"""Who looks again when something was seen."""

from __future__ import annotations

from typing import Any

import pytest

from cpt_operator.intake import Intake
from cpt_operator.kinds import Key, Kind
from cpt_operator.queue import Queue
from cpt_operator.records import Record, record_of
from cpt_operator.store import Store

OWNER = {"kind": "CPTExperiment", "name": "sweep", "uid": "uid-sweep", "controller": True}


def thing(kind: Kind, name: str, version: int = 1, **parts: Any) -> Record:
    """An object as the API server shows it."""
    metadata = {"namespace": "team", "name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}
    return record_of(kind, {"metadata": metadata | parts.pop("metadata", {}), **parts})


def trial(name: str, reason: str = "", version: int = 1, succeeded: str = "Unknown", **parts: Any) -> Record:
    """A trial with that reason; of experiment `sweep` unless it says otherwise."""
    conditions = [{"type": "Succeeded", "status": succeeded, "reason": reason}] if reason else []
    status = {"conditions": conditions} | parts.pop("status", {})
    owned = {"ownerReferences": [OWNER]}
    return thing(Kind.TRIAL, name, version, metadata=parts.pop("metadata", owned), status=status, **parts)


class Seen:
    """An intake, and who was woken since the last question."""

    def __init__(self, *records: Record) -> None:
        self.store = Store()
        self.queue = Queue(lambda: 0.0, minimum_interval_seconds=0)
        self.intake = Intake(self.store, self.queue)
        for record in records:
            self.intake.seen(record)
        self.woken()

    def woken(self) -> set[str]:
        """Names of their keys."""
        keys = set()
        while (key := self.queue.take()) is not None:
            keys.add(str(key).replace("/team/", " "))
            self.queue.done(key)
        return keys


def test_an_experiment_wakes_itself() -> None:
    """And nobody else."""
    seen = Seen(trial("a"))
    seen.intake.seen(thing(Kind.EXPERIMENT, "sweep"))
    assert seen.woken() == {"cptexperiments sweep"}


def test_a_trial_wakes_its_experiment() -> None:
    """Which plans by what its trials say."""
    seen = Seen()
    seen.intake.seen(trial("a", "Running"))
    assert seen.woken() == {"cpttrials a", "cptexperiments sweep"}


def test_a_hand_written_trial_has_no_experiment() -> None:
    """It wakes itself."""
    seen = Seen()
    seen.intake.seen(trial("a", metadata={}))
    assert seen.woken() == {"cpttrials a"}


@pytest.mark.parametrize("kind", [Kind.JOB, Kind.POD])
def test_a_job_or_pod_wakes_its_trial(kind: Kind) -> None:
    """By the label."""
    seen = Seen()
    seen.intake.seen(thing(kind, "a-1", metadata={"labels": {"cpt.dev/trial": "a"}}))
    assert seen.woken() == {"cpttrials a"}


def test_a_workload_wakes_the_trial_of_its_job() -> None:
    """It has no label of ours. Where the job is not known, the job's coming wakes the trial."""
    job = {"kind": "PyTorchJob", "name": "a-1", "uid": "uid-a-1", "controller": True}
    workload = {"ownerReferences": [job]}
    seen = Seen(thing(Kind.JOB, "a-1", metadata={"labels": {"cpt.dev/trial": "a"}}))
    seen.intake.seen(thing(Kind.WORKLOAD, "pytorchjob-a-1", metadata=workload))
    assert seen.woken() == {"cpttrials a"}
    assert (found := seen.store.workload_of("uid-a-1"))
    assert found.name == "pytorchjob-a-1"
    stranger = Seen()
    stranger.intake.seen(thing(Kind.WORKLOAD, "pytorchjob-a-1", metadata=workload))
    assert stranger.woken() == set()


def test_an_echo_wakes_nobody() -> None:
    """What is known is known; so is what is older."""
    seen = Seen(trial("a", "Running", version=5))
    seen.intake.seen(trial("a", "Running", version=5))
    seen.intake.seen(trial("a", "Queued", version=4))
    assert seen.woken() == set()


def test_who_writes_a_status_is_not_woken_by_it() -> None:
    """Its experiment is."""
    seen = Seen(trial("a"))
    seen.intake.written(trial("a", "Running", version=2))
    assert seen.woken() == {"cptexperiments sweep"}


class TestEnd:
    """A trial that has ended wakes who waits for it."""

    WAITING = "WaitingForInput"

    def test_by_digest(self) -> None:
        """Only those whose spec names it."""
        digest = {"digest": "d" * 64}
        reads = {"train": {"phases": [{"mixture": [{"dataset": digest}]}]}}
        seen = Seen(
            trial("a", status=digest),
            trial("reader", self.WAITING, spec=reads),
            trial("stranger", self.WAITING, spec={"train": {}}),
            trial("runs", "Running", spec=reads),
        )
        seen.intake.seen(trial("a", "Completed", 2, "True", status=digest))
        assert "cpttrials reader" in seen.woken()
        seen.intake.gone(trial("a", "Completed", 3, "True", status=digest))
        assert seen.woken() == {"cpttrials a", "cptexperiments sweep", "cpttrials reader"}

    def test_before_anybody_wrote_that_it_waits(self) -> None:
        """The turn that finds an input missing may still be writing so when the input arrives."""
        seen = Seen(trial("base"), trial("next", spec={"evaluate": {"model": {"trial": {"trialName": "base"}}}}))
        seen.intake.seen(trial("base", "Completed", 2, "True"))
        assert "cpttrials next" in seen.woken()

    def test_by_name(self) -> None:
        """As hand-written trials do."""
        seen = Seen(
            trial("base"), trial("next", self.WAITING, spec={"evaluate": {"model": {"trial": {"trialName": "base"}}}})
        )
        seen.intake.seen(trial("base", "Completed", 2, "True"))
        assert "cpttrials next" in seen.woken()

    def test_an_equal_one(self) -> None:
        """Whose turn it is now."""
        same = {"annotations": {"cpt.dev/digest": "e" * 64}}
        seen = Seen(trial("a", metadata=same), trial("twin", "WaitingForEqualTrial", metadata=same))
        seen.intake.seen(trial("a", "DataError", 2, "False", metadata=same))
        assert seen.woken() == {"cpttrials a", "cpttrials twin"}

    def test_an_experiment_that_waits_for_its_model(self) -> None:
        """And no other."""
        seen = Seen(
            thing(Kind.EXPERIMENT, "sweep", spec={"model": {"trialName": "base"}}),
            thing(Kind.EXPERIMENT, "sizes", spec={"recipe": {"scaling": {"models": [{"trialName": "base"}]}}}),
            thing(Kind.EXPERIMENT, "lines", spec={"references": [{"trialName": "base"}]}),
            thing(Kind.EXPERIMENT, "other", spec={"model": {"uri": "s3://cpt/base"}}),
            trial("base", metadata={}),
        )
        seen.intake.seen(trial("base", "Completed", 2, "True", metadata={}))
        woken = {f"cptexperiments {name}" for name in ("sweep", "sizes", "lines")}
        assert seen.woken() == {"cpttrials base", *woken}


def test_a_list_wakes_for_what_it_corrects() -> None:
    """Ghosts and misses; what the watch had brought is left alone."""
    seen = Seen(trial("ghost", version=3, metadata={}), trial("known", version=4, metadata={}))
    drift = seen.intake.listed(
        Kind.TRIAL, "", [trial("known", version=4, metadata={}), trial("new", version=6, metadata={})], 9
    )
    assert ([r.name for r in drift.ghosts], [r.name for r in drift.misses]) == (["ghost"], ["new"])
    assert seen.woken() == {"cpttrials ghost", "cpttrials new"}
    assert seen.store.get(Key(Kind.TRIAL, "team", "ghost")) is None
