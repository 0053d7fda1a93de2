"""The command: what it says when it cannot even begin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

SETTINGS = """
artifactStore: {bucket: cpt}
trainerImage: example.test/cpt-trainer:1
lease: {namespace: cpt-system}
httpHost: 127.0.0.1
httpPort: 0
"""


def run(config: Path, **environment: str) -> tuple[int, str]:
    """Exit code and standard error of `python3 -m cpt_operator`."""
    command = [sys.executable, "-m", "cpt_operator", "--config", str(config)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stderr


def test_settings_that_are_wrong(tmp_path: Path) -> None:
    """The message names file, key and what was expected."""
    config = tmp_path / "config.yaml"
    config.write_text(SETTINGS + "worker: 3\n")
    code, said = run(config)
    assert code == 2
    assert said == f"cpt-operator: settings {config}: worker: Extra inputs are not permitted\n"


def test_a_kubeconfig_that_is_not_there(tmp_path: Path) -> None:
    """Its name is told."""
    config = tmp_path / "config.yaml"
    config.write_text(SETTINGS)
    code, said = run(config, KUBECONFIG=str(tmp_path / "nothing"))
    assert code == 2
    assert said.startswith(f"cpt-operator: KUBECONFIG names {tmp_path / 'nothing'}, which does not exist")


def test_nowhere_to_log_in(tmp_path: Path) -> None:
    """Neither in a pod nor with a kubeconfig."""
    config = tmp_path / "config.yaml"
    config.write_text(SETTINGS)
    code, said = run(config)
    assert code == 2
    assert said.startswith("cpt-operator: no way to log in: ")
    assert "set KUBECONFIG" in said


def test_it_starts_small() -> None:
    """No framework and no client of the artifact store before one is needed: 73 MiB of the 120 that it may take."""
    code = """
import sys
import cpt_operator.main
heavy = ("torch", "numpy", "boto3", "botocore", "typer", "cpt_trainer")
resident = int(open("/proc/self/statm").read().split()[1]) * 4096 // 2**20
print(resident, [name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    resident, heavy = done.stdout.split(maxsplit=1)
    assert heavy.strip() == "[]"
    assert int(resident) <= 90
