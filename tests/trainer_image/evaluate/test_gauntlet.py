"""The Gauntlet against llm-foundry's own code: what gauntlet_golden.py wrote, by running it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpt_trainer.errors import DataError
from cpt_trainer.evaluate.group import leaves, of_category, score
from cpt_trainer.evaluate.prompts import pose
from cpt_trainer.evaluate.public import foundry, items_of
from cpt_trainer.evaluate.requests import Question
from cpt_trainer.evaluate.shots import ShotPicker
from cpt_trainer.evaluate.suite import Suite
from cpt_trainer.evaluate.suite_file import read_suite
from cpt_trainer.tables import Items, Row, suite_items, where
from evaluation_suites import CLOZE, make_item, make_set, make_task

GOLDEN = json.loads(Path(__file__).with_name("gauntlet.golden.json").read_text())
TASKS = {"letters": "siqa", "cloze": "piqa", "schema": "winograd", "language": "jeopardy"}
"""One of the suite's that is of the type."""


def table(suite: Suite, scores: dict[str, list[list[int]]]) -> Items:
    """Of a model that answers just so many right, in each category of each task."""
    rows = []
    for task, categories in scores.items():
        choices = 4 if suite.task(task).format in ("Letters", "Cloze") else 2
        for number, (right, items) in enumerate(categories):
            stratum = str(number) if len(categories) > 1 else ""
            rows += [
                Row(task, f"{stratum}/{n}", "", "", stratum, f"{stratum}/{n}", (0.0,) * choices, correct=int(n < right))
                for n in range(items)
            ]
    return suite_items(suite.name, rows)


@pytest.mark.parametrize("name", sorted(GOLDEN["aggregates"]))
class TestAggregate:
    """From what every task got to the Core Average."""

    def test_equal(self, name: str) -> None:
        """The average and every category, to 1e-12."""
        suite, golden = read_suite(f"gauntlet-{name.partition('/')[0]}"), GOLDEN["aggregates"][name]
        parts = leaves(suite, suite.groups[0], table(suite, golden["scores"]))
        found = {
            category: score(of_category(parts, category)).value
            for category in golden["made"]
            if category != "core_average"
        }
        found["core_average"] = score(parts).value
        assert found == {category: pytest.approx(value, abs=1e-12) for category, value in golden["made"].items()}

    def test_linear(self, name: str) -> None:
        """It is a sum of right answers with one weight for each item: so are its error and its bootstrap."""
        suite, golden = read_suite(f"gauntlet-{name.partition('/')[0]}"), GOLDEN["aggregates"][name]
        items = table(suite, golden["scores"])
        parts = leaves(suite, suite.groups[0], items)
        weights, offset = np.zeros(len(items)), math.fsum(leaf.coefficient * leaf.offset for leaf in parts)
        strata = np.unique(np.char.add(np.char.add(items.task, "|"), items.stratum))
        variance = 0.0
        for leaf, where_ in [(leaf, np.char.add(np.char.add(items.task, "|"), items.stratum)) for leaf in parts]:
            own = [s for s in strata if s.startswith(f"{leaf.task}|")]
            rows = np.isin(where_, own)
            weights[rows] = leaf.coefficient / leaf.items if len(own) == 1 else leaf.coefficient * len(own) / rows.sum()
        for stratum in strata:
            rows = np.char.add(np.char.add(items.task, "|"), items.stratum) == stratum
            variance += float(np.var(weights[rows] * items.correct[rows], ddof=1) * rows.sum())
        assert float(weights @ items.correct) - offset == pytest.approx(score(parts).value, abs=1e-12)
        assert score(parts).standard_error == pytest.approx(math.sqrt(variance), rel=1e-9)

    def test_missing(self, name: str) -> None:
        """Where llm-foundry drops a category and averages the rest, there is no number."""
        suite, golden = read_suite(f"gauntlet-{name.partition('/')[0]}"), GOLDEN["aggregates"][name]
        items = table(suite, golden["scores"])
        with pytest.raises(DataError, match="the table has no items of task copa"):
            leaves(suite, suite.groups[0], where(items, items.task != "copa"))


class TestPrompts:
    """What is asked."""

    @pytest.mark.parametrize(("size", "count", "drawn"), GOLDEN["shots"])
    def test_shots(self, size: int, count: int, drawn: list[list[int]]) -> None:
        """The very examples that llm-foundry draws, in its order."""
        items = [make_item(number, id=str(number)) for number in range(size)]
        shots = {"count": count, "source": "Scored", "pick": "PerItem", "seed": 1234}
        picker = ShotPicker(make_task(CLOZE, shots=shots), make_set(items))
        assert [[int(shot.id) for shot in picker.before(item)] for item in items[: len(drawn)]] == drawn

    @pytest.mark.parametrize("name", sorted(GOLDEN["prompts"]))
    def test_texts(self, name: str) -> None:
        """Contexts and continuations, from rows in llm-foundry's layout."""
        kind, _, count = name.partition("/")
        golden: dict[str, Any] = GOLDEN["prompts"][name]
        task = read_suite("gauntlet-v0.3").task(TASKS[kind])
        shots = read_suite("gauntlet-v0.3").task("jeopardy").shots
        task = task.model_copy(update={"shots": shots if count == "3" else None})
        found = []
        for posed in pose(task, make_set(list(items_of(golden["rows"], foundry)))).items:
            assert isinstance(posed.main, Question)
            found.append([[pair.context, pair.continuation] for pair in posed.main.pairs])
        assert found == golden["asked"]
