"""Small suites and items for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cpt_api.model import sha256
from cpt_trainer.evaluate.items import Item, ItemFile, ItemSet
from cpt_trainer.evaluate.requests import Likelihood
from cpt_trainer.evaluate.suite import Suite, Task
from cpt_trainer.store import FolderStore

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


def folder_store(path: Path) -> FolderStore:
    """A store in a folder."""
    return FolderStore(path)
