"""LISTs beside the watches, and how kopf is kept from doing more than watch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import kopf
import pytest

from cpt_operator.apiserver import ApiServer, ApiUnavailable, Expired
from cpt_operator.intake import Intake
from cpt_operator.kinds import Kind
from cpt_operator.queue import Queue
from cpt_operator.store import Store
from cpt_operator.watch import Lists, WatchDeadError, kopf_registry, kopf_settings


def experiment(name: str, version: int) -> dict[str, Any]:
    metadata = {"namespace": "team", "name": name, "uid": name, "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": {}}


class Listing:
    """An API server that lists what a test gives it."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.errors: list[Exception] = []
        self.version = 1
        self.queries: list[tuple[str, Mapping[str, str]]] = []

    async def pages(self, path: str, *, query: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        """Each item on a page of its own."""
        self.queries.append((path, query))
        if self.errors:
            raise self.errors.pop(0)
        self.version += 1
        for items in [self.items[i : i + 1] for i in range(len(self.items))] or [[]]:
            yield {"items": items, "metadata": {"resourceVersion": str(self.version)}}


class Rig:
    """Lists over a store, with a clock that only sleeping moves."""

    def __init__(self, *kinds: Kind, namespaces: tuple[str, ...] = ()) -> None:
        self.api = Listing()
        self.store = Store()
        self.intake = Intake(self.store, Queue(lambda: 0.0))
        self.slept: list[float] = []
        self.lists = Lists(
            cast("ApiServer", self.api), self.intake, kinds or (Kind.EXPERIMENT,), namespaces, 600, sleep=self.sleep
        )

    async def sleep(self, seconds: float) -> None:
        """It takes no time."""
        self.slept.append(seconds)

    def names(self) -> set[str]:
        """In the store."""
        return {record.name for record in self.store.experiments()}


async def test_the_first_list_fills_the_store() -> None:
    """All pages of it, at once."""
    rig = Rig()
    rig.api.items = [experiment("a", 1), experiment("b", 1)]
    await rig.lists.first()
    assert rig.names() == {"a", "b"}
    assert sum(rig.slept) == 0


async def test_the_first_list_is_tried_until_it_is_complete() -> None:
    """No work before."""
    rig = Rig()
    rig.api.items = [experiment("a", 1)]
    rig.api.errors = [ApiUnavailable("away"), Expired("too slow"), ApiUnavailable("away")]
    await rig.lists.first()
    assert rig.names() == {"a"}


async def test_where_and_what_is_listed() -> None:
    """Only our jobs and pods, and only in the namespaces that were given."""
    rig = Rig(Kind.EXPERIMENT, Kind.POD, namespaces=("team-a", "team-b"))
    await rig.lists.first()
    ours = {"labelSelector": "cpt.dev/trial"}
    experiments = "/apis/cpt.dev/v1alpha1/namespaces/{}/cptexperiments"
    assert rig.api.queries == [
        (experiments.format("team-a"), {}),
        (experiments.format("team-b"), {}),
        ("/api/v1/namespaces/team-a/pods", ours),
        ("/api/v1/namespaces/team-b/pods", ours),
    ]


async def test_an_object_that_is_not_understood_stops_no_other() -> None:
    """It is named in the log and left out."""
    rig = Rig()
    rig.api.items = [{"metadata": {"name": "bad"}}, {"metadata": None}, experiment("good", 1)]
    await rig.lists.first()
    assert rig.names() == {"good"}


async def test_a_watch_that_misses_twice_in_a_row_is_dead() -> None:
    """The process ends, and begins with a new one."""
    rig = Rig()
    versions = iter(range(10, 100))

    async def changes(seconds: float) -> None:
        if seconds > 100:  # something changes between the LISTs, and no watch brings it
            rig.api.items = [experiment("a", next(versions))]

    rig.lists = Lists(cast("ApiServer", rig.api), rig.intake, [Kind.EXPERIMENT], (), 600, sleep=changes)
    await rig.lists.first()
    with pytest.raises(WatchDeadError, match="no watch had brought"):
        await rig.lists.keep()
    assert len(rig.api.queries) == 4  # at the start, 15 s later, and twice after 10 min


async def test_what_the_watches_bring_meanwhile_is_no_drift() -> None:
    """A LIST may be newer than what a watch has delivered: it gets a moment."""
    rig = Rig()
    lists = 0

    async def delivered(seconds: float) -> None:
        nonlocal lists
        lists += seconds > 100
        if lists > 5:
            raise TimeoutError
        for item in rig.api.items:  # the watch brings it while the LIST waits to be compared
            from cpt_operator.records import record_of

            rig.intake.seen(record_of(Kind.EXPERIMENT, item))
        if seconds > 100:
            rig.api.items = [experiment("a", 10 + lists)]

    rig.lists = Lists(cast("ApiServer", rig.api), rig.intake, [Kind.EXPERIMENT], (), 600, sleep=delivered)
    await rig.lists.first()
    with pytest.raises(TimeoutError):
        await rig.lists.keep()
    assert rig.store.statistics().misses == 0


class TestKopf:
    """It watches, and does nothing else."""

    def test_it_asks_for_ours_only(self) -> None:
        """The API server selects jobs and pods."""
        settings = kopf_settings([Kind.EXPERIMENT, Kind.POD])
        assert [str(value) for value in settings.watching.label_selectors.values()] == ["cpt.dev/trial"]

    def test_it_writes_nothing(self) -> None:
        """No events, no annotations, no finalizer that anybody could have put there."""
        settings = kopf_settings([])
        assert not settings.posting.enabled
        assert settings.scanning.disabled
        body = kopf.Body({"metadata": {"annotations": {"kopf.zalando.org/last-handled-configuration": "{broken"}}})
        assert settings.persistence.diffbase_storage.fetch(body=body) is None
        assert settings.persistence.finalizer != kopf_settings([]).persistence.finalizer

    def test_it_outlasts_ten_minutes(self) -> None:
        """Of an API server that is away; then the process ends."""
        backoffs = cast("list[float]", kopf_settings([]).networking.error_backoffs)
        assert 600 <= sum(backoffs) < 660
        assert max(backoffs) <= 33

    def test_handlers_never_raise(self) -> None:
        """Whatever an object looks like."""
        rig = Rig()
        registry = kopf_registry(cast("ApiServer", rig.api), rig.intake, [Kind.EXPERIMENT])
        (handler,) = registry._watching.get_all_handlers()
        watched: Any = handler.fn
        for body in ({}, {"metadata": None}, {"metadata": {"name": 3}}, experiment("a", 1)):
            coroutine = watched(event={"type": "MODIFIED", "object": body})
            with pytest.raises(StopIteration):
                coroutine.send(None)  # it never awaits
        assert rig.names() == {"a"}
