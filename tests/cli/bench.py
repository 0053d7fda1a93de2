"""A machine on which trials take milliseconds: real processes, a stand-in for the trainer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from make import make_experiment

TRAINS = 4
"""(1 dataset + 1 control) x (trunk + cooled branch)."""
TOKENS = 2 * 10240
ALL = 1 + 3 + 1 + TRAINS + 1 + 1
"""Preflight, Prepares, the base's Evaluate, Trains, the decision, the report."""

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Run:
    """How a run ended."""

    code: int
    answer: dict[str, Any]
    said: str


@dataclass(frozen=True)
class Bench:
    """Manifests, a store, and `kubectl cpt run` with tests/cli/trainer.py as its trainer."""

    folder: Path

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def experiment(self, **changes: Any) -> dict[str, Any]:
        """One dataset at one rate, with a control: ALL trials."""
        small = {
            "recipe": {"learningRateSweep": {"learningRates": ["1e-4"], "rungs": ["10240"]}},
            "datasets": [{"name": "python", "uri": "s3://cpt/sources/python.jsonl"}],
            "training": {"sequenceLength": 64, "globalBatchSize": 8, "replicates": 1},
        }
        return self.document("CPTExperiment", "sweep", make_experiment(**small | changes).to_dict())

    def document(self, kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        return {"apiVersion": "cpt.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}

    def write(self, *documents: dict[str, Any]) -> None:
        """As the manifest of the next run."""
        self.manifest.write_text("\n---\n".join(json.dumps(document) for document in documents))

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.yaml"

    def faults(self, **codes: Sequence[int]) -> None:
        """By type or name of a trial: exit codes of its first attempts; 0 waits for SIGTERM."""
        (self.folder / "faults.json").write_text(json.dumps(codes))

    def start(self, parallel: int = 2, store: str = "") -> subprocess.Popen[str]:
        faults = self.folder / "faults.json"
        paths = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)} | (
            {"FAULTS": str(faults)} if faults.exists() else {}
        )
        return subprocess.Popen(
            [sys.executable, str(HERE / "runner.py"), str(self.manifest), store or str(self.store), str(parallel)],
            env=environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, parallel: int = 2, store: str = "") -> Run:
        return self.ended(self.start(parallel, store))

    def ended(self, process: subprocess.Popen[str]) -> Run:
        out, err = process.communicate()
        return Run(process.returncode, json.loads(out) if out else {}, err)

    def attempts(self) -> list[str]:
        """The verb of every attempt that was ever made, sorted."""
        return sorted(path.read_text().split()[0] for path in self.store.glob("data/*/*/attempts/*"))

    def processes(self) -> list[int]:
        """The process of every attempt that was ever made."""
        return [int(path.read_text().split()[1]) for path in self.store.glob("data/*/*/attempts/*")]
