"""`kubectl cpt run` as people run it: the real trainer, a model of 20,000 parameters, files in a folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.test_run import wait_for
from cpt_api.result import Verdict
from cpt_api.values import Tokens
from evaluation_suites import write_quiz
from kubectl_cpt.errors import Exit
from trainer_image.kit import BATCH, BATCH_TOKENS, SEQUENCE, Lab, text

pytestmark = pytest.mark.processes

BASE_STEPS = 150
RUNG_STEPS = 20
CONFIG = {"preflightName": "inputs", "input": "config"}
_LINUX = {"suite": "Heldout", "data": [{"name": "linux", "uri": "s3://corpora/linux.jsonl"}]}


def manifests(
    folder: Path,
    retention: dict[str, Any] | None = None,
    datasets: Sequence[str] = ("python",),
    evaluation: dict[str, Any] | None = None,
    **stages: Any,
) -> Path:
    """A base from random weights, and a sweep of one dataset at one rate that starts from it, and what comes after."""
    train = {
        "start": {"random": {"config": CONFIG, "seed": 1}},
        "phases": [{"mixture": [{"dataset": {"trialName": "speeches"}, "weight": "1"}]}],
        "schedule": {"peakLearningRate": "1e-2"},
        "stopTokens": str(BASE_STEPS * BATCH_TOKENS),
        "sequenceLength": SEQUENCE,
        "globalBatchSize": BATCH,
        "precision": "Float32",
    }
    inputs = [
        {"name": "config", "kind": "Tokenizer", "uri": "s3://corpora/base"},
        {"name": "speeches", "kind": "Dataset", "uri": "s3://corpora/speeches.jsonl"},
    ]
    experiment = {
        "model": {"trialName": "base"},
        "datasets": [{"name": name, "uri": f"s3://corpora/{name}.jsonl"} for name in datasets],
        "replay": {"dataset": {"name": "replay", "uri": "s3://corpora/speeches.jsonl"}},
        "evaluation": {
            "target": _LINUX,
            **({"retention": retention} if retention else {}),
            **(evaluation or {}),
        },
        "recipe": {
            "learningRateSweep": {"learningRates": ["1e-3"], "rungs": [str(RUNG_STEPS * BATCH_TOKENS)]},
            **stages,
        },
        "training": {"sequenceLength": SEQUENCE, "globalBatchSize": BATCH, "precision": "Float32", "replicates": 2},
    }
    prepare = {"source": {"preflightName": "inputs", "input": "speeches"}, "tokenizer": {"source": CONFIG}}
    documents = [
        _document("CPTTrial", "inputs", {"type": "Preflight", "preflight": {"inputs": inputs}}),
        _document("CPTTrial", "speeches", {"type": "Prepare", "prepare": prepare}),
        _document("CPTTrial", "base", {"type": "Train", "train": train}),
        _document("CPTExperiment", "sweep", experiment),
    ]
    file = folder / "manifests.yaml"
    file.write_text("\n---\n".join(map(json.dumps, documents)))
    return file


def _document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "cpt.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


@dataclass(frozen=True)
class Laptop:
    """Files in a folder, and a store in another."""

    folder: Path

    def command(self) -> Sequence[str]:
        return [
            *(sys.executable, "-m", "kubectl_cpt.main", "run", "-f", str(self.folder / "manifests.yaml")),
            *("--store", str(self.folder / "store"), "--source-root", str(self.folder / "sources")),
            *("--parallel", "2", "-o", "json"),
        ]

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self.command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    """Texts of few words, a model's config, manifests."""
    Lab(tmp_path).base()
    for number, (name, documents) in enumerate({"speeches": 200, "python": 200, "linux": 60, "perl": 80}.items()):
        texts = (text(1000 * number + n, 60) for n in range(documents))
        lines = (json.dumps({"text": f"{words} {number} {n}"}) for n, words in enumerate(texts))
        (tmp_path / "sources" / f"{name}.jsonl").write_text("\n".join(lines))
    manifests(tmp_path, screening={})
    return Laptop(tmp_path)


def test_interrupted_and_finished(laptop: Laptop) -> None:
    """Ctrl-C while the base is trained; the same command goes on from its checkpoint and ends with an answer."""
    with laptop.start() as process:
        log = wait_for(laptop.folder, "store/logs/base-1.log")
        base = wait_for(laptop.folder, "store/data/default/*/checkpoints/**/manifest.json")
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == Exit.INTERRUPTED, said
    assert '"reason": "Terminated"' in log.read_text()
    assert base.exists()

    with laptop.start() as process:
        out, said = process.communicate()
    assert process.returncode == Exit.SUCCESS, said
    answer = json.loads(out)
    (dataset,) = answer["status"]["datasets"]
    assert dataset["bestLearningRate"] == "1e-3"
    assert dataset["verdict"] in list(Verdict)
    assert dataset["interval"]
    assert answer["status"]["ledger"]["tokensTrained"] == str(Tokens(3 * RUNG_STEPS * BATCH_TOKENS))
    assert Path(answer["places"]["decision"]).exists()
    page = Path(answer["places"]["report"])
    assert "<h1>sweep</h1>" in page.read_text()
    assert (page.parent / "figures/learning-rate-python.svg").exists()
    assert len(list((laptop.folder / "store/logs").glob("base-*.log"))) == 2

    with laptop.start() as process:
        again, said = process.communicate()
    assert process.returncode == Exit.SUCCESS, said
    assert again == out
    assert "started" not in said

    decisions = verified(laptop, Exit.SUCCESS)
    assert [each["answer"] for each in decisions] == ["equal", "equal"]
    for table in laptop.folder.glob("store/data/default/*/**/*.parquet"):
        data = bytearray(table.read_bytes())
        data[len(data) // 2] ^= 1
        table.write_bytes(data)
    decisions = verified(laptop, Exit.NOT_CONFIRMED)
    assert {each["answer"] for each in decisions} == {"unknown"}
    assert all("something else wrote there" in each["differences"][0] for each in decisions)


def verified(laptop: Laptop, code: Exit) -> list[dict[str, Any]]:
    """What `kubectl cpt verify` says of every decision."""
    command = [*laptop.command()[:3], "verify", *laptop.command()[4:8], "-o", "json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    decisions: list[dict[str, Any]] = json.loads(done.stdout)["decisions"]
    return decisions


@pytest.mark.timeout(900)  # some thirty processes, each of which imports torch
def test_a_mix(laptop: Laptop) -> None:
    """Two datasets of unlike size: a mix by size beside an equal one, then the one that is taken, for longer."""
    sweep = {"durations": [str(2 * RUNG_STEPS * BATCH_TOKENS)]}
    manifests(laptop.folder, None, ("python", "perl"), mixing={"strategy": "Proportional"}, mixSweep=sweep)
    with laptop.start() as process:
        out, said = process.communicate()
    assert process.returncode == Exit.SUCCESS, said
    answer = json.loads(out)
    weights = {share["dataset"]: float(share["weight"]) for share in answer["status"]["mix"]}
    assert sum(weights.values()) == pytest.approx(1)
    assert [stage["state"] for stage in answer["status"]["stages"]] == ["Decided"] * 5
    page = Path(answer["places"]["report"])
    rows = (page.parent / "tables/mixes.csv").read_text().splitlines()
    assert len(rows) == 3
    assert (page.parent / "figures/durations-the-mix.svg").exists()
    assert {each["answer"] for each in verified(laptop, Exit.SUCCESS)} == {"equal"}


@pytest.mark.timeout(900)  # some thirty processes, each of which imports torch
def test_a_mix_by_merges_and_a_soup(laptop: Laptop) -> None:
    """Merges of real trunks are scored without being written, and what they propose is trained beside simple mixes. Of
    means of the end and the base, the chosen one is a model that anybody can open."""
    retention = {"suite": "Heldout", "datasets": ["replay"], "margin": "1"}
    soup = {"weights": ["0.5", "1"]}
    manifests(laptop.folder, retention, ("python", "perl"), mixing={"strategy": "MergeProxy"}, soup=soup)
    with laptop.start() as process:
        out, said = process.communicate()
    assert process.returncode == Exit.SUCCESS, said
    answer = json.loads(out)
    results = [json.loads(file.read_text()) for file in (laptop.folder / "store/trials").glob("**/result.json")]
    (proposal,) = [found["decision"]["proposal"] for found in results if found.get("decision", {}).get("proposal")]
    assert len(proposal["merges"]) == 9
    assert len({merge["target"] for merge in proposal["merges"]}) == 9
    stages = {stage["name"]: stage for stage in answer["status"]["stages"]}
    assert stages["mixing"]["state"] == "Decided"
    assert "9 merges" in stages["mixing"]["reason"]
    assert (stages["soup"]["state"], stages["soup"]["reason"].partition(":")[0]) == ("Decided", "Chosen")
    best, folder = answer["status"]["best"], Path(answer["places"]["best"])
    assert best["soupWeight"] in ("0.5", "1")
    assert best["uri"].endswith(f"{best['digest']}/export/")
    assert {"config.json", "tokenizer.json", "model.safetensors.index.json"} <= {file.name for file in folder.iterdir()}
    assert {each["answer"] for each in verified(laptop, Exit.SUCCESS)} == {"equal"}


@pytest.mark.timeout(900)  # some twenty processes, each of which imports torch
def test_by_a_suite(laptop: Laptop) -> None:
    """A suite of the user's own decides: the target in bits per byte, the retention in points; another is shown."""
    items = laptop.folder / "sources/items"
    write_quiz(items)
    (items / "other.yaml").write_text((items / "quiz.yaml").read_text().replace("name: quiz", "name: other"))
    evaluation = {"itemsUri": "s3://corpora/items", "also": ["other"], "curves": ["other"]}
    manifests(
        laptop.folder,
        {"suite": "quiz", "margin": "0.5"},
        evaluation=evaluation | {"target": {"suite": "quiz"}},
        screening={},
        soup={"weights": ["0.5"]},
    )
    with laptop.start() as process:
        out, said = process.communicate()
    assert process.returncode == Exit.SUCCESS, said
    answer = json.loads(out)
    results = [json.loads(file.read_text()) for file in (laptop.folder / "store/trials").glob("**/result.json")]
    scored = [score for found in results for score in found.get("suites", ())]
    suites = Counter(score["suite"] for score in scored)
    # the base, an arm, the control with its replicate, and a mean where one is asked for; what is shown beside the base
    # depends on the verdict, which three runs of so small a model leave to the last digit of a machine
    assert suites["quiz"] in (4, 5)
    assert suites["other"] in (1, 2, 3)
    (chosen,) = [found["decision"] for found in results if found.get("decision", {}).get("rates")]
    arm = chosen["rates"][0]["arms"][0]
    (own,) = [s for s in scored if s["suite"] == "quiz" and s["groups"][1]["value"] == pytest.approx(arm["target"])]
    assert arm["retention"] == pytest.approx(100 * (1 - own["groups"][0]["value"]))
    assert "points" in chosen["rates"][0]["reason"]
    assert "bits per byte" in chosen["rates"][0]["reason"]
    page = Path(answer["places"]["report"]).read_text()
    assert "the target in bits per byte, the retention in points missing from 100" in page
    rows = (Path(answer["places"]["report"]).parent / "tables/also.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * suites["other"]  # a header, and two numbers of each model
    lines = [*(laptop.folder / "store/data").glob("**/metrics/attempt-1.jsonl")]
    assert sum('"suites": {"other":' in file.read_text() for file in lines) == len(lines) - 1  # all but the base itself
    assert {each["answer"] for each in verified(laptop, Exit.SUCCESS)} == {"equal"}
