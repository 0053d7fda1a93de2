"""Fixtures of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An empty store, and one experiment in the manifest."""
    made = Bench(tmp_path)
    made.write(made.experiment())
    return made
