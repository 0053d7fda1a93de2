"""`kubectl cpt verify` on a cluster: real tables in a folder, the real trainer, kubectl as a script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cpt_api.layout import result_key
from cpt_api.model import canonical_json
from cpt_operator.children import TITLE_ANNOTATION
from cpt_trainer import decide
from cpt_trainer.store import FolderStore
from cpt_trainer.trial import Trial
from kubectl_cpt.errors import Exit
from make import make_digest
from trainer_image.decide.test_verb import NAMESPACE, make_trial, plant_all

pytestmark = pytest.mark.processes

SUCCEEDED = {"type": "Succeeded", "status": "True", "reason": "Succeeded"}
TITLE = "python: decision at rung 1"


@dataclass(frozen=True)
class Bench:
    """A decision in a folder's store, and a kubectl that knows its experiment."""

    folder: Path
    trial: Trial

    def kubectl(self, *trials: dict[str, Any], **status: Any) -> None:
        """What it answers to questions about the experiment, about all trials, and about each by its name."""
        experiment = {"metadata": {"name": "sweep", "namespace": NAMESPACE}, "spec": {}, "status": status}
        answers = {"cptexperiments.cpt.dev_sweep": experiment, "cpttrials.cpt.dev": {"items": list(trials)}}
        answers |= {f"cpttrials.cpt.dev_{trial['metadata']['name']}": trial for trial in trials}
        for name, answer in answers.items():
            (self.folder / f"{name}.json").write_text(json.dumps(answer))
        script = self.folder / "kubectl"
        script.write_text(
            '#!/bin/sh\ncase "$3" in -*) what="$2";; *) what="$2_$3";; esac\n'
            f'cat "{self.folder}/$what.json" && exit; echo "Error from server (NotFound): $what" >&2; exit 1\n'
        )
        script.chmod(0o755)

    def body(self, name: str = "dec", **changes: Any) -> dict[str, Any]:
        """The trial as the API server has it."""
        spec = json.loads(json.dumps(self.trial.spec.to_dict()))
        metadata: dict[str, Any] = {"name": name, "namespace": NAMESPACE, "annotations": {TITLE_ANNOTATION: TITLE}}
        metadata["ownerReferences"] = [{"name": "sweep", "controller": True}]
        status = {"digest": self.trial.digest, "conditions": [SUCCEEDED]}
        return {"metadata": metadata, "spec": spec, "status": status} | changes

    def cpt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "kubectl_cpt.main", "verify", *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=os.environ | {"PATH": f"{self.folder}:{os.environ['PATH']}"},
        )


@pytest.fixture
def here(tmp_path: Path) -> Bench:
    """All is well."""
    store = FolderStore(tmp_path / "store")
    plant_all(store)
    bench = Bench(tmp_path, make_trial(store))
    decide.run(bench.trial)
    bench.kubectl(bench.body(), reportUri=f"{tmp_path}/store/data/{NAMESPACE}/{make_digest('page')}/report.html")
    return bench


def test_equal(here: Bench) -> None:
    """The store is where the report lies; a line for each decision."""
    done = here.cpt("sweep")
    assert done.returncode == Exit.SUCCESS, done.stderr
    heading, line = done.stdout.splitlines()
    assert heading.split() == ["DECISION", "QUESTION", "METHOD", "ANSWER"]
    assert line.startswith(TITLE)
    assert line.endswith("equal")


def test_differs(here: Bench) -> None:
    """Where, with both values, and an exit code of its own."""
    key = result_key(NAMESPACE, here.trial.digest)
    document = json.loads(here.trial.store.get(key))
    document["decision"]["sentence"] = "all is well"
    here.trial.store.put(key, canonical_json(document))
    done = here.cpt("sweep/dec", "--store", "store")
    assert done.returncode == Exit.NOT_CONFIRMED
    assert f"{TITLE}: sentence: stored all is well, recomputed " in done.stdout
    assert "of 1 decisions 1 differ from their tables" in done.stderr
    (decision,) = json.loads(here.cpt("sweep", "-o", "json").stdout)["decisions"]
    assert (decision["answer"], decision["trial"], decision["question"]) == ("differs", "dec", "LearningRate")


def test_gone(here: Bench) -> None:
    """Tables that are gone confirm nothing."""
    here.trial.store.delete(result_key(NAMESPACE, make_digest("base")))
    done = here.cpt("sweep")
    assert done.returncode == Exit.NOT_CONFIRMED
    assert "DataError: the Evaluate trial" in done.stdout
    assert "1 could not be taken anew" in done.stderr


def test_written_by_hand(here: Bench) -> None:
    """Where a person wrote the name of a trial its digest is taken, and the whole must have the decision's digest."""
    decision, base = here.body(), here.body("base", status={"digest": make_digest("base"), "conditions": [SUCCEEDED]})
    base["spec"] = {"type": "Evaluate"}
    decision["spec"]["decide"]["baseline"] = {"trialName": "base"}
    here.kubectl(decision, base)
    done = here.cpt("dec", "--store", "store")
    assert done.returncode == Exit.SUCCESS, done.stderr + done.stdout
    base["status"]["digest"] = make_digest("another")
    here.kubectl(decision, base)
    done = here.cpt("dec", "--store", "store")
    assert done.returncode == Exit.NOT_CONFIRMED
    assert "its spec has" in done.stdout


def test_what_to_do(here: Bench) -> None:
    """Without a decision, without a store, without a name: the message says what is missing."""
    here.kubectl(here.body(status={}))
    assert "sweep has taken no decision yet" in here.cpt("sweep").stderr
    here.kubectl(here.body())
    assert "name it with --store s3://BUCKET" in here.cpt("sweep").stderr
    assert here.cpt().returncode == Exit.USAGE
    assert here.cpt("-f", "manifest.yaml").returncode == Exit.USAGE
