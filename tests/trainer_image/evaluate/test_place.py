"""Real processes that answer together: a model on each, and one model over all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cpt_trainer.evaluate.place import Placement
from cpt_trainer.evaluate.shards import FOLDER
from tiny_model import tiny_llama

pytestmark = pytest.mark.processes

TESTS = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model."""
    return tiny_llama(tmp_path_factory.mktemp("model"), tie_word_embeddings=False)


def asked(model: Path, work: Path, processes: int, placement: Placement, precision: str = "Float32") -> list[Any]:
    """What each rank has in the end."""
    answers = work / "answers"
    answers.mkdir(parents=True)
    script = Path(__file__).with_name("ask.py")
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={processes}",
        script,
    ]
    arguments: list[str | Path] = [model, work / "store", placement.value, precision, answers]
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run([*command, *arguments], check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((answers / f"{rank}.json").read_text()) for rank in range(processes)]


def test_whole(folder: Path, tmp_path: Path) -> None:
    """Two ranks with a model each: both have all answers, those of one rank to the last bit."""
    [alone] = asked(folder, tmp_path / "one", 1, Placement.WHOLE)
    first, second = asked(folder, tmp_path / "two", 2, Placement.WHOLE)
    assert first == second == alone
    assert _names(tmp_path / "one") == _names(tmp_path / "two")


@pytest.mark.parametrize("precision", ["Float32", "BFloat16"])
def test_sharded(folder: Path, tmp_path: Path, precision: str) -> None:
    """A model cut over two ranks says to the last bit what the whole one says."""
    [alone] = asked(folder, tmp_path / "one", 1, Placement.WHOLE, precision)
    first, second = asked(folder, tmp_path / "two", 2, Placement.SHARDED, precision)
    assert first == second == alone


def _names(work: Path) -> list[str]:
    return sorted(str(path.relative_to(work)) for path in (work / "store" / FOLDER).rglob("*.json"))
