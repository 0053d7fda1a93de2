"""Small suites and items for tests."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cpt_api.model import sha256
from cpt_trainer.evaluate.items import Item, ItemFile, ItemSet, write_items, write_manifest
from cpt_trainer.evaluate.requests import Likelihood
from cpt_trainer.evaluate.suite import Suite
from cpt_trainer.evaluate.suite_table import About, SuiteTable
from cpt_trainer.evaluate.task import Task
from cpt_trainer.store import Address, open_address
from cpt_trainer.tables import Row, suite_items

LETTERS: dict[str, Any] = {
    "name": "quiz",
    "items": "quiz",
    "format": "Letters",
    "metric": "Accuracy",
    "description": "On {subject}.\n\n",
    "prompt": "{question}\n{options}\nAnswer:",
    "text": {"prompt": "Q: {question}\nA:"},
}
CLOZE: dict[str, Any] = {
    "name": "cloze",
    "items": "cloze",
    "format": "Cloze",
    "metric": "Accuracy",
    "prompt": "{question}",
}


def make_task(base: dict[str, Any] = CLOZE, **changes: Any) -> Task:
    """A task; `None` leaves a part out."""
    return Task.model_validate({name: value for name, value in (base | changes).items() if value is not None})


def make_item(number: int = 0, **changes: Any) -> Item:
    """A question with four choices, of which the second is right."""
    content: dict[str, Any] = {
        "id": f"{number:03d}",
        "fields": {"question": f"What is {number}?", "subject": "numbers"},
        "choices": ["one", "two", "three", "four"],
        "gold": 1,
    }
    return Item.model_validate({name: value for name, value in (content | changes).items() if value is not None})


def make_set(items: Sequence[Item]) -> ItemSet:
    """As if they had been read."""
    digest = sha256(b"items")
    scored = sum(item.role == "Scored" for item in items)
    file = ItemFile(
        items="quiz",
        key="quiz.jsonl",
        sha256=digest,
        digest=digest,
        scored=scored,
        shots=len(items) - scored,
        source="",
    )
    return ItemSet(file, tuple(items))


def make_suite(tasks: Sequence[dict[str, Any]] = (CLOZE,), groups: Sequence[dict[str, Any]] = ()) -> Suite:
    """A suite; without groups the mean of its tasks."""
    mean = {"name": "mean", "categories": [{"name": "all", "benchmarks": [{"task": task["name"]} for task in tasks]}]}
    content = {"name": "small", "version": 1, "description": "For tests.", "tasks": list(tasks)}
    return Suite.model_validate(content | {"groups": list(groups) or [mean]})


def suite_text(suite: Suite) -> str:
    """As a file of its own."""
    return yaml.safe_dump(suite.to_dict(), sort_keys=False)


def said(*logprobs: float, tokens: int = 1) -> tuple[Likelihood, ...]:
    """About the choices of an item."""
    return tuple(Likelihood(logprob, tokens, logprob == max(logprobs)) for logprob in logprobs)


QUIZ = """
name: quiz
version: 1
description: Which word comes next; the right answer's text is scored too.
tasks:
  - {name: next, items: next, format: Cloze, metric: AccuracyPerByte, prompt: "{question}"}
groups:
  - name: accuracy
    categories: [{name: all, benchmarks: [{task: next}]}]
  - name: bits-per-byte
    measure: BitsPerByte
    categories: [{name: all, benchmarks: [{task: next}]}]
"""


def write_quiz(folder: Path, items: Sequence[Item] | None = None) -> None:
    """A suite of the user's own with its items: made-up words unless others are given, the second of two is right."""
    folder.mkdir(parents=True)
    store = open_address(Address(str(folder)))
    made = items or [_next_word(random.Random(number), number) for number in range(40)]
    write_manifest(store, "", [write_items(store, "", "next", made, "made up")])
    (folder / "quiz.yaml").write_text(QUIZ)


def _next_word(chance: random.Random, number: int) -> Item:
    words = ["".join(chance.choices("abcdefgh", k=4)) for _ in range(6)]
    return Item(id=str(number), fields={"question": " ".join(words[:4])}, choices=tuple(words[4:]), gold=1)


FINGERPRINT: dict[str, str | int] = {"precision": "Float32", "attention": "sdpa", "blockTokens": 8192}


def make_about(suite: Suite, scored: int, **scoring: Any) -> About:
    """Of a table with so many items of every task."""
    digest = sha256(b"items")
    tasks = [{"task": task.name, "digest": digest, "scored": scored} for task in suite.tasks]
    how = {"protocol": 1, "fingerprint": FINGERPRINT, "tokenizer": sha256(b"tokenizer")} | scoring
    return About.model_validate({"suite": suite.to_dict(), "tasks": tasks, "scoring": how})


def make_row(task: str, number: int, correct: bool, **changes: Any) -> Row:
    """Of a question with two choices, the second right; its text costs a bit per byte, or two."""
    name = f"{number:05d}"
    logprobs = (-2.0, -1.0) if correct else (-1.0, -2.0)
    content: dict[str, Any] = {
        "task": task,
        "item": name,
        "item_hash": f"hash of {name}",
        "prompt_hash": f"prompt of {name}",
        "stratum": "",
        "cluster": name,
        "logprobs": logprobs,
        "tokens": (1, 1),
        "chars": (4, 4),
        "sizes": (4, 4),
        "gold": 1,
        "bits": 4.0 if correct else 8.0,
        "size": 4,
        "correct": int(correct),
    }
    return Row(**content | changes)


def make_table(suite: Suite, correct: Sequence[bool], **scoring: Any) -> SuiteTable:
    """Of a model that answers these right, in every task."""
    rows = [make_row(task.name, number, right) for task in suite.tasks for number, right in enumerate(correct)]
    return SuiteTable(make_about(suite, len(correct), **scoring), suite_items(suite.name, rows))
