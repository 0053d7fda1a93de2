"""`cluster.py` and a real API server: what is written, what is refused, and what the store knows afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from cluster.harness import Lab, Team
from cluster.test_refusals import LOOK
from cpt_operator.apiserver import ApiServer
from cpt_operator.cluster import AlreadyExists, Cluster, Conflict, Forbidden, Gone, Rejected
from cpt_operator.intake import Intake
from cpt_operator.kinds import Kind
from cpt_operator.memory import Memory
from cpt_operator.queue import Queue
from cpt_operator.records import ExperimentRecord, JobRecord, TrialRecord, record_of
from cpt_operator.store import Store
from make import make_experiment

STATUS: dict[str, Any] = {"observedGeneration": 1, "stage": "preflight", "progress": 3}


@dataclass
class Rig:
    """The operator's hands; as an administrator, so that the audit of its rights does not see them."""

    team: Team
    cluster: Cluster
    store: Store

    def manifest(self, name: str, **spec: Any) -> dict[str, Any]:
        """Of a trial."""
        metadata = {"namespace": self.team.namespace, "name": name}
        return {"apiVersion": "cpt.dev/v1alpha1", "kind": "CPTTrial", "metadata": metadata, "spec": LOOK | spec}

    async def trial(self, name: str, **spec: Any) -> TrialRecord:
        """Made by us."""
        return cast("TrialRecord", await self.cluster.create(Kind.TRIAL, self.manifest(name, **spec)))

    async def experiment(self, name: str) -> ExperimentRecord:
        """Made by a person."""
        return cast("ExperimentRecord", record_of(Kind.EXPERIMENT, await self.team.apply(name, make_experiment())))

    async def run_of(self, name: str) -> Any:
        """Of a trial, as it is now."""
        body = await self.team.get(Kind.TRIAL, name)
        return body and body["spec"].get("run")


@pytest.fixture
async def rig(lab: Lab, team: Team) -> AsyncIterator[Rig]:
    """Of the test's own namespace."""
    async with _rig(team, lab.plane.kubeconfig) as rig:
        yield rig


@asynccontextmanager
async def _rig(team: Team, kubeconfig: Path) -> AsyncIterator[Rig]:
    api = await ApiServer.login(str(kubeconfig))
    store = Store()
    intake = Intake(store, Queue(lambda: 0.0))
    yield Rig(team, Cluster(api, intake, Memory(), lambda: datetime.now(UTC)), store)
    await api.close()


class TestCreate:
    """POST with names that anybody can foresee."""

    async def test_a_second_time(self, rig: Rig) -> None:
        """It tells what is there, and the store has it."""
        made = await rig.trial("a")
        again = await rig.cluster.create(Kind.TRIAL, rig.manifest("a"))
        assert isinstance(again, AlreadyExists)
        assert again.record.uid == made.uid
        assert rig.store.get(made.key) == again.record

    async def test_a_job(self, rig: Rig) -> None:
        """Of another API group; the same."""
        replica = {"template": {"spec": {"containers": [{"name": "pytorch", "image": "x"}]}}}
        metadata = {"namespace": rig.team.namespace, "name": "a-1", "labels": {"cpt.dev/trial": "a"}}
        spec = {"pytorchReplicaSpecs": {"Master": replica}}
        body = {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": metadata, "spec": spec}
        made = cast("JobRecord", await rig.cluster.create(Kind.JOB, body))
        again = await rig.cluster.create(Kind.JOB, body)
        assert isinstance(again, AlreadyExists)
        await rig.cluster.delete(made)
        assert rig.store.get(made.key) is None

    async def test_an_unknown_field(self, rig: Rig) -> None:
        """A schema that is older than the operator is an error, not a field that vanishes."""
        with pytest.raises(Rejected, match="unknown field"):
            await rig.trial("a", invented=1)

    async def test_a_namespace_that_is_going(self, rig: Rig) -> None:
        """The server's words."""
        await rig.team.api.request("delete", f"/api/v1/namespaces/{rig.team.namespace}")
        with pytest.raises((Forbidden, Gone)):
            await rig.trial("a")

    async def test_a_namespace_that_is_not_ours_to_write_in(self, rig: Rig) -> None:
        """No such namespace."""
        manifest = rig.manifest("a")
        manifest["metadata"]["namespace"] = "nowhere"
        with pytest.raises(Gone):
            await rig.cluster.create(Kind.TRIAL, manifest)


class TestStatus:
    """Server-side apply, if the object is what the record says."""

    async def test_what_is_left_out_is_removed(self, rig: Rig) -> None:
        """And the store has what the server answered."""
        record = await rig.experiment("x")
        record = cast("ExperimentRecord", await rig.cluster.apply_status(record, STATUS))
        await rig.cluster.apply_status(record, {"observedGeneration": 1})
        stored = rig.store.experiment(rig.team.namespace, "x")
        assert stored is not None
        assert stored.status == {"observedGeneration": 1} == await rig.team.status("x")

    async def test_an_object_that_changed(self, rig: Rig) -> None:
        """Is not written; the store knows it as it is now, even if no watch works."""
        record = await rig.experiment("x")
        await rig.team.patch(Kind.EXPERIMENT, "x", {"op": "add", "path": "/spec/suspend", "value": True})
        with pytest.raises(Conflict):
            await rig.cluster.apply_status(record, STATUS)
        stored = rig.store.experiment(rig.team.namespace, "x")
        assert stored is not None
        assert stored.spec["suspend"] is True
        assert await rig.team.status("x") == {"observedGeneration": -1}

    async def test_what_changed_is_looked_at_under_the_charts_rights(self, lab: Lab, team: Team) -> None:
        """An operator loses this race now and then only: here its hands do, so that the audit sees what they need."""
        async with _rig(team, lab.plane.kubeconfig_for(lab.token, "racing")) as rig:
            record = await rig.experiment("x")
            await team.patch(Kind.EXPERIMENT, "x", {"op": "add", "path": "/spec/suspend", "value": True})
            with pytest.raises(Conflict):
                await rig.cluster.apply_status(record, STATUS)

    async def test_a_successor_of_that_name(self, rig: Rig) -> None:
        """Gets nothing of its predecessor's."""
        record = await rig.experiment("x")
        await rig.team.delete(Kind.EXPERIMENT, "x")
        await rig.experiment("x")
        with pytest.raises(Conflict):
            await rig.cluster.apply_status(record, STATUS)
        assert await rig.team.status("x") == {"observedGeneration": -1}

    async def test_an_object_that_is_gone(self, rig: Rig) -> None:
        """It does not come back."""
        record = await rig.experiment("x")
        await rig.team.delete(Kind.EXPERIMENT, "x")
        with pytest.raises(Gone):
            await rig.cluster.apply_status(record, STATUS)
        assert await rig.team.get(Kind.EXPERIMENT, "x") is None

    async def test_the_same_again_is_no_write(self, rig: Rig) -> None:
        """The server keeps its version."""
        record = await rig.cluster.apply_status(await rig.experiment("x"), STATUS)
        again = await rig.cluster.apply_status(cast("ExperimentRecord", record), STATUS)
        assert again.resource_version == record.resource_version


class TestRun:
    """The block of a trial that follows its experiment."""

    async def test_what_the_post_wrote_can_be_removed(self, rig: Rig) -> None:
        """Server-side apply would leave it for ever."""
        record = await rig.trial("a", run={"maxRetries": 2, "resources": {"memory": "8Gi", "cpu": "2"}})
        await rig.cluster.apply_run(record, {"resources": {"cpu": "2"}})
        assert await rig.run_of("a") == {"resources": {"cpu": "2"}}

    async def test_a_trial_without_one_gets_one(self, rig: Rig) -> None:
        """It is optional."""
        await rig.cluster.apply_run(await rig.trial("a"), {"suspend": True})
        assert await rig.run_of("a") == {"suspend": True}

    async def test_cancel_is_the_users(self, rig: Rig) -> None:
        """It stays, whatever the experiment wants."""
        await rig.trial("a", run={"maxRetries": 2})
        body = await rig.team.patch(Kind.TRIAL, "a", {"op": "add", "path": "/spec/run/cancel", "value": True})
        await rig.cluster.apply_run(cast("TrialRecord", record_of(Kind.TRIAL, body)), {"suspend": True})
        assert await rig.run_of("a") == {"suspend": True, "cancel": True}

    async def test_a_cancel_that_was_not_seen_is_not_overwritten(self, rig: Rig) -> None:
        """The version is another by then."""
        record = await rig.trial("a", run={"maxRetries": 2})
        await rig.team.patch(Kind.TRIAL, "a", {"op": "add", "path": "/spec/run/cancel", "value": True})
        with pytest.raises(Conflict):
            await rig.cluster.apply_run(record, {"suspend": True})
        assert await rig.run_of("a") == {"maxRetries": 2, "cancel": True}

    async def test_a_trial_that_is_gone(self, rig: Rig) -> None:
        """It does not come back."""
        record = await rig.trial("a")
        await rig.team.delete(Kind.TRIAL, "a")
        with pytest.raises(Gone):
            await rig.cluster.apply_run(record, {"suspend": True})
        assert await rig.run_of("a") is None


class TestDelete:
    """Only what the record speaks of."""

    async def test_gone_already(self, rig: Rig) -> None:
        """Fine, and the store knows."""
        record = await rig.trial("a")
        await rig.team.delete(Kind.TRIAL, "a")
        await rig.cluster.delete(record)
        assert rig.store.get(record.key) is None

    async def test_a_successor_stays(self, rig: Rig) -> None:
        """Another uid; the store learns of it."""
        record = await rig.trial("a")
        await rig.team.delete(Kind.TRIAL, "a")
        new = await rig.team.create(Kind.TRIAL, "a", LOOK)
        with pytest.raises(Conflict):
            await rig.cluster.delete(record)
        stored = rig.store.get(record.key)
        assert stored is not None
        assert stored.uid == new["metadata"]["uid"]

    async def test_an_object_that_changed_stays(self, rig: Rig) -> None:
        """Whoever decided has not seen it."""
        record = await rig.trial("a")
        await rig.team.patch(Kind.TRIAL, "a", {"op": "add", "path": "/spec/run", "value": {"maxRetries": 1}})
        with pytest.raises(Conflict):
            await rig.cluster.delete(record)
        assert await rig.run_of("a") == {"maxRetries": 1}

    async def test_what_a_finalizer_keeps(self, rig: Rig) -> None:
        """Is known as going."""
        record = await rig.trial("a")
        body = await rig.team.patch(
            Kind.TRIAL, "a", {"op": "add", "path": "/metadata/finalizers", "value": ["example.test/x"]}
        )
        await rig.cluster.delete(record_of(Kind.TRIAL, body))
        stored = rig.store.get(record.key)
        assert stored is not None
        assert stored.deleting
        await rig.team.patch(Kind.TRIAL, "a", {"op": "remove", "path": "/metadata/finalizers"})


class TestEvents:
    """core/v1."""

    async def test_one_that_was_recorded_is_not_repeated(self, rig: Rig) -> None:
        """For ten minutes; another message is another event."""
        record = await rig.trial("a")
        for message in ("no such image", "no such image", "still no such image"):
            await rig.cluster.event(record, "Warning", "ImagePullFailed", message)
        found = await rig.cluster.list_events(rig.team.namespace, record.uid, "ImagePullFailed")
        assert sorted(event.message for event in found) == ["no such image", "still no such image"]

    async def test_what_cannot_be_recorded_stops_nothing(self, rig: Rig) -> None:
        """It stands in the log."""
        record = await rig.trial("a")
        await rig.team.api.request("delete", f"/api/v1/namespaces/{rig.team.namespace}")
        await rig.cluster.event(record, "Warning", "ImagePullFailed", "no such image")
