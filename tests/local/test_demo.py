"""`make demo` where no cluster can be made."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cpt_local.main import main

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples/demo"))

import on_cluster  # noqa: E402 - an example is no package
import on_machine  # noqa: E402
import run as demo  # noqa: E402


def test_an_unsuitable_machine_has_its_own_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever is not root is told so, and told what else there is."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["up", "--name", "never-made"]) == 3
    assert "this is user 1000: nodes need root" in capsys.readouterr().err


@pytest.mark.parametrize(("made", "code", "called"), [(3, 0, ["machine"]), (1, 1, []), (0, 5, ["cluster"])])
def test_which_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, made: int, code: int, called: list[str]) -> None:
    """Without a cluster only where none can be made: one that fails for another reason is a failure."""
    calls: list[str] = []

    def answering(way: str, code: int) -> Callable[..., int]:
        def run(*_: object) -> int:
            calls.append(way)
            return code

        return run

    monkeypatch.setattr(demo, "python", lambda *words: made if "cpt_local" in words else 0)
    monkeypatch.setattr(on_machine, "run", answering("machine", 0))
    monkeypatch.setattr(on_cluster, "run", answering("cluster", 5))
    assert demo.run(demo.parsed(["--out", str(tmp_path)])) == code
    assert calls == called


@pytest.mark.processes
def test_command() -> None:
    """`kubectl cpt run` understands how the demo calls it."""
    command = [*on_machine.command(ROOT / "nowhere"), "--output=json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "nowhere: no such folder" in done.stderr.replace("\n", " ")
