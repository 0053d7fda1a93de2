"""Three workers share the tests (`make test`), on two cores: two wait for clusters, mostly, beside one that computes.

A group stays on one worker, so that a cluster is made once; a file is a group where nothing greater binds it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

GROUPS = {"e2e": "nodes", "cluster": "control planes", "local": "control planes"}
"""By folder, the longest first. What a group makes of this machine, it makes one after the other."""


class LoadGroups(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types for it
    """Hands out whole groups, in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid.partition("::")[0].removeprefix("tests/"))


def group(path: str) -> str:
    """Of a file below this folder."""
    return GROUPS.get(path.partition("/")[0], path)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Any:
    """Instead of xdist's own."""
    return LoadGroups(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest groups begin first."""
    order = list(dict.fromkeys(GROUPS.values()))

    def turn(item: pytest.Item) -> int:
        name = group(str(item.path.relative_to(Path(__file__).parent)))
        return order.index(name) if name in order else len(order)

    items.sort(key=turn)
