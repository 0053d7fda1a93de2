"""A scaling by `kubectl cpt run` with the real trainer: two bases of two sizes, each with a tokenizer of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kubectl_cpt.errors import Exit
from trainer_image.kit import BATCH, BATCH_TOKENS, SEQUENCE, Lab, text

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900)]

BASE_STEPS = 30
RUNG_STEPS = 10
SIZES = {"small": {}, "large": {"hidden_size": 48, "num_hidden_layers": 3, "vocab_size": 96}}
"""What differs from the kit's model; another vocabulary needs another tokenizer."""


def document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "cpt.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def base_of(name: str) -> list[dict[str, Any]]:
    """Its pretraining, by hand."""
    config = {"preflightName": "inputs", "input": f"config-{name}"}
    train = {
        "start": {"random": {"config": config, "seed": 1}},
        "phases": [{"mixture": [{"dataset": {"trialName": f"speeches-{name}"}, "weight": "1"}]}],
        "schedule": {"peakLearningRate": "1e-2"},
        "stopTokens": str(BASE_STEPS * BATCH_TOKENS),
        "sequenceLength": SEQUENCE,
        "globalBatchSize": BATCH,
        "precision": "Float32",
    }
    prepare = {"source": {"preflightName": "inputs", "input": "speeches"}, "tokenizer": {"source": config}}
    return [
        document("CPTTrial", f"speeches-{name}", {"type": "Prepare", "prepare": prepare}),
        document("CPTTrial", name, {"type": "Train", "train": train}),
    ]


def manifests() -> list[dict[str, Any]]:
    """Two bases, and a recipe that is found on the small one and repeated on the large one."""
    inputs = [{"name": f"config-{name}", "kind": "Tokenizer", "uri": f"s3://corpora/{name}"} for name in SIZES]
    inputs.append({"name": "speeches", "kind": "Dataset", "uri": "s3://corpora/speeches.jsonl"})
    pretrained = str(BASE_STEPS * BATCH_TOKENS)
    experiment = {
        "model": {"trialName": "small", "pretrainingTokens": pretrained},
        "datasets": [{"name": "python", "uri": "s3://corpora/python.jsonl"}],
        "replay": {"dataset": {"name": "replay", "uri": "s3://corpora/speeches.jsonl"}},
        "evaluation": {
            "target": {"suite": "Heldout", "data": [{"name": "linux", "uri": "s3://corpora/linux.jsonl"}]},
        },
        "recipe": {
            "learningRateSweep": {"learningRates": ["1e-3"], "rungs": [str(RUNG_STEPS * BATCH_TOKENS)]},
            "scaling": {"models": [{"name": "larger", "trialName": "large", "pretrainingTokens": pretrained}]},
        },
        "training": {"sequenceLength": SEQUENCE, "globalBatchSize": BATCH, "precision": "Float32", "replicates": 2},
    }
    return [
        document("CPTTrial", "inputs", {"type": "Preflight", "preflight": {"inputs": inputs}}),
        *(trial for name in SIZES for trial in base_of(name)),
        document("CPTExperiment", "sizes", experiment),
    ]


def test_two_sizes(tmp_path: Path) -> None:
    """Scores of both are paired by document, though their tokens differ; both are points of one line. Taken anew its
    decisions are the same bytes."""
    for name, changes in SIZES.items():
        Lab(tmp_path).base(name, **changes)
    for number, (name, documents) in enumerate({"speeches": 200, "python": 200, "linux": 60}.items()):
        texts = (text(1000 * number + n, 60) for n in range(documents))
        lines = (json.dumps({"text": f"{words} {number} {n}"}) for n, words in enumerate(texts))
        (tmp_path / "sources" / f"{name}.jsonl").write_text("\n".join(lines))
    file = tmp_path / "manifests.yaml"
    file.write_text("\n---\n".join(map(json.dumps, manifests())))
    command = [sys.executable, "-m", "kubectl_cpt.main", "run", "-f", str(file), "-o", "json", "--parallel", "2"]
    command += ["--store", str(tmp_path / "store"), "--source-root", str(tmp_path / "sources")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.SUCCESS, done.stderr[-3000:]
    status = json.loads(done.stdout)["status"]
    base, larger = status["scaling"]
    assert (base["name"], larger["name"]) == ("base", "larger")
    assert base["gain"] == status["datasets"][0]["effect"]
    assert all(model["computeEquivalent"] for model in (base, larger))
    verify = [sys.executable, "-m", "kubectl_cpt.main", "verify", "-f", str(file), "--store", str(tmp_path / "store")]
    verified = subprocess.run([*verify, "-o", "json"], capture_output=True, text=True, check=False)
    assert verified.returncode == Exit.SUCCESS, verified.stderr[-3000:]
    answers = [(each["question"], each["answer"]) for each in json.loads(verified.stdout)["decisions"]]
    assert answers == [("LearningRate", "equal"), ("LearningRate", "equal"), ("Scaling", "equal")]
    page = next((tmp_path / "store").glob("data/*/*/report.html")).read_text()
    assert "What it is worth on other models" in page
