"""Two workers share the tests (`make test`): what waits for a cluster runs beside what computes.

A group stays on one worker, so that a cluster is made once; a file is a group where nothing greater binds it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

GROUPS = {"e2e": "nodes", "local": "nodes", "cluster": "control plane"}
"""By folder: one after the other those that make nodes of this machine."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest groups begin first."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    order = list(dict.fromkeys(GROUPS.values()))
    items.sort(key=lambda item: order.index(_group(item)) if _group(item) in order else len(order))


def _group(item: pytest.Item) -> str:
    path = item.path.relative_to(Path(__file__).parent)
    return GROUPS.get(path.parts[0], str(path))
