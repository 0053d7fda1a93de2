"""What lm-eval's own tasks ask about given rows; runs in lm-eval's environment (`evaluation_data.lm_eval_python`).

stdin    {"piqa": {"yaml": "piqa/piqa.yaml", "rows": [{"goal": …}], "shots": [], "count": 0}}
stdout   {"piqa": [[["Question: …\\nAnswer:", " …"], …], …]}        (context, continuation) of each request of each row

The task files are the ones in the package; only where their rows come from is replaced.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lm_eval.tasks  # type: ignore[import-not-found]
from datasets import Dataset  # type: ignore[import-not-found]
from lm_eval.api.task import ConfigurableTask  # type: ignore[import-not-found]
from lm_eval.tasks._yaml_loader import load_yaml  # type: ignore[import-not-found]

FOLDER = Path(lm_eval.tasks.__file__).parent


def asked(yaml: str, rows: list[Any], shots: list[Any], count: int) -> list[list[list[str]]]:
    """By that task of lm-eval."""
    config: dict[str, Any] = load_yaml(FOLDER / yaml)
    splits = {"test": Dataset.from_list(rows)} | ({"dev": Dataset.from_list(shots)} if shots else {})
    config |= {"custom_dataset": lambda **_: splits, "dataset_path": None, "test_split": "test"}
    config |= {"training_split": None, "validation_split": None, "fewshot_split": "dev" if shots else None}
    config["num_fewshot"] = count
    task = ConfigurableTask(config=config)
    found = []
    for row in task.eval_docs:
        made = task.construct_requests(doc=row, ctx=task.fewshot_context(row, count), metadata=("", 0, 1))
        found.append([list(one.args[:2]) for one in (made if isinstance(made, list) else [made])])
    return found


if __name__ == "__main__":
    wanted = json.load(sys.stdin)
    json.dump({name: asked(**one) for name, one in wanted.items()}, sys.stdout)
