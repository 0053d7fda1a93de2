"""Writes gauntlet.golden.json from llm-foundry's own code; for people, tests only read what it wrote.

    git clone https://github.com/mosaicml/llm-foundry && git -C llm-foundry checkout 8c8dd48
    PYTHONPATH=tests .venv/bin/python -m evaluation_data
    <the lm-eval environment>/bin/python tests/trainer_image/evaluate/gauntlet_golden.py llm-foundry

llm-foundry needs versions of torch and transformers that nothing else here can have. What is run of it needs neither:
its callback `EvalGauntlet`, its drawing of shots and its prompts. They are loaded from their files as they are, with
empty modules in the place of composer and of llm-foundry's registry. Texts are read back from a tokenizer of single
characters, and scores are given.

    aggregates    by version: scores of each task (or of each of its categories), and what the callback makes of them
    shots         [size, count, the numbers drawn for each item in turn]
    prompts       by task type: rows, arguments, and what each row is asked: [context, continuation] for each choice
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import random
import sys
import tempfile
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

GOLDEN = Path(__file__).with_name("gauntlet.golden.json")
SUBJECTS = 5
"""Of tasks with categories, where there are 57 in MMLU: the mean over them is what is looked at."""


def stub(name: str, **content: Any) -> None:
    """A module with that in it."""
    module = types.ModuleType(name)
    vars(module).update(content)
    sys.modules[name] = module


def load(root: Path, name: str) -> Any:
    """A module of llm-foundry, from its file."""
    spec = importlib.util.spec_from_file_location(name, root / f"{name.replace('.', '/')}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Given:
    """A metric whose value is given."""

    def __init__(self, value: float) -> None:
        self.value = value

    def compute(self) -> Given:
        """Of itself."""
        return self

    def item(self) -> float:
        """The value."""
        return self.value


class Characters:
    """A tokenizer that loses nothing; it knows ' a' as one token, as most do."""

    eos_token_id = None
    pad_token_id = 0

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        del add_special_tokens
        return {"input_ids": [1] if text == " a" else [ord(sign) + 2 for sign in text]}

    @staticmethod
    def text(tokens: Sequence[int]) -> str:
        """Of which they are the tokens; padding is left out."""
        return "".join(chr(token - 2) for token in tokens if token)


def aggregates(root: Path) -> dict[str, Any]:
    """Two draws for each version."""
    callback = load(root, "llmfoundry.callbacks.eval_gauntlet_callback")
    found: dict[str, Any] = {}
    chance = random.Random(7)
    for version in ("v0.2", "v0.3"):
        yamls = root / "scripts/eval/yamls"
        gauntlet = yaml.safe_load((yamls / f"eval_gauntlet_{version}.yaml").read_text())["eval_gauntlet"]
        labels = {
            task["label"]: task for task in yaml.safe_load((yamls / f"tasks_{version}.yaml").read_text())["icl_tasks"]
        }
        shots = {
            one["name"]: one["num_fewshot"] for category in gauntlet["categories"] for one in category["benchmarks"]
        }
        for draw in range(2):
            scores: dict[str, Any] = {}
            keys, metrics = [], {}
            for name, count in shots.items():
                groups = range(SUBJECTS) if labels[name].get("has_categories") else (None,)
                scores[name] = [[chance.randint(0, 200), 200] for _ in groups]
                for group, (right, items) in zip(groups, scores[name], strict=True):
                    label = f"{name}/{count}-shot" + ("" if group is None else f"/{group}")
                    keys.append(f"metrics/{label}/Accuracy")
                    metrics[label] = {"Accuracy": Given(right / items)}
            made = callback.EvalGauntlet(logger_keys=keys, benchmark_sizes={}, **gauntlet)  # asked for, not used
            result = made.eval_after_all(types.SimpleNamespace(eval_metrics=metrics), None)
            found[f"{version}/{draw}"] = {
                "scores": scores,
                "made": {key.split("/")[-1]: value for key, value in result.items()},
            }
    return found


def shots(utils: Any) -> list[Any]:
    """For small and large files."""
    found = []
    for size, count in ((3, 3), (4, 3), (10, 3), (200, 5), (20321, 3)):
        chance = random.Random(1234)
        drawn = [list(utils.get_fewshot_sample_idxs(size, count, index, chance)) for index in range(min(size, 40))]
        found.append([size, count, drawn])
    return found


def prompts(datasets: Any) -> dict[str, Any]:
    """One task of every type that the Gauntlet has, from made-up rows in its layouts."""
    letters = [
        {
            "query": f"Question: How many is {n}?\nChoices:\nA. none\nB. {n}\nAnswer:",
            "choices": ["A", "B"],
            "gold": n % 2,
        }
        for n in range(6)
    ]
    cloze = [
        {"query": f" Question: What is {n}?\n", "choices": [f"it is {n}", "it is not"], "gold": n % 2} for n in range(6)
    ]
    schema = [
        {
            "context_options": [f"Ann gave Bo {n} as Ann", f"Ann gave Bo {n} as Bo"],
            "continuation": f"had {n}.",
            "gold": n % 2,
        }
        for n in range(6)
    ]
    language = [{"context": f"SUMS: {n} + {n} ", "continuation": str(2 * n)} for n in range(6)]
    plan: dict[str, tuple[Any, list[Any], dict[str, Any]]] = {
        "letters": (datasets.InContextLearningMultipleChoiceTaskDataset, letters, {}),
        "cloze": (datasets.InContextLearningMultipleChoiceTaskDataset, cloze, {"continuation_delimiter": "\nAnswer: "}),
        "schema": (datasets.InContextLearningSchemaTaskDataset, schema, {}),
        "language": (datasets.InContextLearningLMTaskDataset, language, {"continuation_delimiter": "\nAnswer: "}),
    }
    found: dict[str, Any] = {}
    for name, (kind, rows, arguments) in plan.items():
        for count in (0, 3):
            found[f"{name}/{count}"] = {"rows": rows, "asked": asked(kind, rows, arguments, count)}
    return found


def asked(kind: Any, rows: list[Any], arguments: dict[str, Any], count: int) -> list[Any]:
    """Of each row, a pair for each choice."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.jsonl")
        file.write_text("\n".join(map(json.dumps, rows)))
        made = kind(
            dataset_uri=str(file),
            tokenizer=Characters(),
            max_seq_len=2048,
            pad_tok_id=0,
            num_fewshot=count,
            destination_path=str(file),
            **arguments,
        )
        return [pairs(made, made[index]) for index in range(len(made))]


def pairs(made: Any, row: Any) -> list[list[str]]:
    """What stands before a continuation, and the continuation."""
    contexts = row[made.context_key]
    spans = row["continuation_indices"]
    if not isinstance(spans[0], list):
        contexts, spans = [contexts], [spans]
    return [
        [Characters.text(tokens[: span[0]]), Characters.text(tokens[span[0] : span[-1] + 1])]
        for tokens, span in zip(contexts, spans, strict=True)
    ]


def main(folder: str) -> None:
    """Write the file."""
    root = Path(folder)
    nothing = contextlib.nullcontext()
    local = types.SimpleNamespace(local_rank_zero_download_and_wait=lambda _: nothing, get_local_rank=lambda: 1)
    stub("composer")
    stub("composer.core", Callback=object, State=object, DataSpec=object)
    stub("composer.core.data_spec", _default_split_batch=None, _split_list=None)
    stub("composer.loggers", Logger=object)
    stub("composer.utils", MissingConditionalImportError=Exception, dist=local, get_file=None)
    for package in (
        "llmfoundry",
        "llmfoundry.callbacks",
        "llmfoundry.eval",
        "llmfoundry.eval.datasets",
        "llmfoundry.utils",
    ):
        stub(package, registry=None, __path__=[])
    stub("llmfoundry.utils.registry_utils", construct_from_registry=None)
    utils = load(root, "llmfoundry.eval.datasets.utils")
    datasets = load(root, "llmfoundry.eval.datasets.in_context_learning_evaluation")
    golden = {"aggregates": aggregates(root), "shots": shots(utils), "prompts": prompts(datasets)}
    GOLDEN.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
