"""Two tables: what is refused, and what a paired difference is."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cpt_api.model import sha256
from cpt_trainer.errors import DataError
from cpt_trainer.evaluate.compare import Comparison, Line, compare, render
from cpt_trainer.evaluate.prompts import pose
from cpt_trainer.evaluate.sanity import gate
from cpt_trainer.evaluate.suite_table import SuiteTable, read_suite_table, write_prompts, write_suite_table
from cpt_trainer.store import FolderStore
from cpt_trainer.tables import Items, suite_items, write_items
from evaluation_suites import (
    CLOZE,
    LETTERS,
    make_about,
    make_item,
    make_row,
    make_set,
    make_suite,
    make_table,
    make_task,
)

SUITE = make_suite([CLOZE, CLOZE | {"name": "other"}])


def answers(seed: int, count: int = 200, share: float = 0.5) -> list[bool]:
    """Right or wrong, by chance."""
    chance = Random(seed)
    return [chance.random() < share for _ in range(count)]


def line(found: Comparison, name: str) -> Line:
    """Of that name."""
    return next(line for line in found.lines if line.name == name)


class TestDifference:
    """B minus A."""

    def test_by_hand(self) -> None:
        """Ten of 200 answers are better, four worse: the textbook's paired difference."""
        a = answers(1)
        worse = [n for n, right in enumerate(a) if right][:4]
        better = [n for n, right in enumerate(a) if not right][:10]
        b = [n in better or (right and n not in worse) for n, right in enumerate(a)]
        suite = make_suite([CLOZE])
        found = line(compare(make_table(suite, a), make_table(suite, b)), "mean")
        steps = np.array(b, dtype=float) - np.array(a, dtype=float)
        assert found.difference == pytest.approx(6 / 200)
        assert found.standard_error == pytest.approx(steps.std(ddof=1) / math.sqrt(200), rel=1e-6)
        assert found.lower < found.difference < found.upper

    def test_paired(self) -> None:
        """What both find hard cancels: the interval is narrower than that of two separate means."""
        chance = Random(3)
        a = answers(2)
        b = [right if chance.random() < 0.9 else not right for right in a]
        found = line(compare(make_table(SUITE, a), make_table(SUITE, b)), "mean")
        apart = math.sqrt(sum(np.var(x, ddof=1) / 200 / 2 for x in (a, b)))
        assert found.standard_error < 0.5 * apart

    def test_itself(self) -> None:
        """No difference, with an interval of nothing."""
        table = make_table(SUITE, answers(1))
        assert {(one.difference, one.lower, one.upper) for one in compare(table, table).lines} == {(0.0, 0.0, 0.0)}

    def test_lines(self) -> None:
        """Groups, their categories where there are several, and every task by both measures."""
        categories = [{"name": f"of-{task}", "benchmarks": [{"task": task}]} for task in ("cloze", "other")]
        suite = make_suite([CLOZE, CLOZE | {"name": "other"}], [{"name": "mean", "categories": categories}])
        found = compare(make_table(suite, answers(1)), make_table(suite, answers(2)))
        assert [(one.depth, one.name) for one in found.lines] == [
            (0, "mean"),
            (1, "of-cloze"),
            (1, "of-other"),
            (2, "cloze"),
            (2, "cloze, bits per byte"),
            (2, "other"),
            (2, "other, bits per byte"),
        ]
        text = render(found)
        assert "suite small, version 1" in text
        assert "tokenizers" not in text

    def test_tokenizers(self) -> None:
        """Models with other tokenizers are compared, and it is said."""
        a, b = make_table(SUITE, answers(1)), make_table(SUITE, answers(2), tokenizer=sha256(b"other"))
        assert "the models have different tokenizers" in render(compare(a, b))


class TestRefused:
    """What cannot be compared, with the first difference."""

    @pytest.mark.parametrize(
        ("scoring", "reason"),
        [
            ({"protocol": 2}, "A was scored with protocol 1, B with 2"),
            ({"fingerprint": {"precision": "Bfloat16"}}, "A was scored with attention sdpa, B with None"),
        ],
    )
    def test_scoring(self, scoring: dict[str, Any], reason: str) -> None:
        """Another scorer, precision or geometry."""
        with pytest.raises(DataError, match=reason):
            compare(make_table(SUITE, answers(1)), make_table(SUITE, answers(1), **scoring))

    def test_suite(self) -> None:
        """Another suite under the same name."""
        other = make_suite([CLOZE | {"prompt": "{question}?"}, CLOZE | {"name": "other"}])
        with pytest.raises(DataError, match=r"A is of suite small .*, B of small .*: evaluate both on one suite"):
            compare(make_table(SUITE, answers(1)), make_table(other, answers(1)))

    @pytest.mark.parametrize("column", ["item_hash", "prompt_hash", "cluster", "stratum"])
    def test_row(self, column: str) -> None:
        """Another item, or another prompt, under the same name."""
        rows = [make_row("cloze", number, correct=True) for number in range(3)]
        suite = make_suite([CLOZE])
        about = make_about(suite, 3)
        a = SuiteTable(about, suite_items("small", rows))
        b = SuiteTable(about, suite_items("small", [*rows[:2], make_row("cloze", 2, correct=True, **{column: "x"})]))
        with pytest.raises(DataError, match=rf"task cloze, item 00002: {column} is .* in A and x in B"):
            compare(a, b)

    def test_items(self) -> None:
        """Another item file."""
        a = make_table(SUITE, answers(1))
        tasks = tuple(task.model_copy(update={"digest": sha256(b"x")}) for task in a.about.tasks)
        b = SuiteTable(a.about.model_copy(update={"tasks": tasks}), a.items)
        with pytest.raises(DataError, match="task cloze: A was asked the items"):
            compare(a, b)


class TestTable:
    """The file."""

    def test_round(self, tmp_path: Path) -> None:
        """Suite, scoring and rows come back."""
        table = make_table(SUITE, answers(1, 5))
        rows = [make_row(task, n, right) for task in ("cloze", "other") for n, right in enumerate(answers(1, 5))]
        output = write_suite_table(FolderStore(tmp_path), "data/", table.about, suite_items("small", rows))
        read = read_suite_table((tmp_path / "data" / output.key).read_bytes(), output.key)
        assert read.about == table.about
        assert read.suite.digest == SUITE.digest
        assert read.items.item_hash.tolist() == table.items.item_hash.tolist()

    @pytest.mark.parametrize(
        ("lost", "reason"), [(0, "task cloze has 4 of 5 items"), (9, "task other has 4 of 5 items")]
    )
    def test_incomplete(self, tmp_path: Path, lost: int, reason: str) -> None:
        """A table that lacks an item is not written."""
        rows = [make_row(task, n, correct=True) for task in ("cloze", "other") for n in range(5)]
        del rows[lost]
        with pytest.raises(DataError, match=reason):
            write_suite_table(FolderStore(tmp_path), "", make_about(SUITE, 5), suite_items("small", rows))

    def test_foreign(self, tmp_path: Path) -> None:
        """A table of something else."""
        items = suite_items("x", [make_row("x", 1, correct=True)])
        output = write_items(FolderStore(tmp_path), "", "x", items)
        with pytest.raises(DataError, match="is an item table, but not of a suite"):
            read_suite_table((tmp_path / output.key).read_bytes(), output.key)

    def test_prompts(self, tmp_path: Path) -> None:
        """Every prompt can be read again, by its hash."""
        task = make_task(LETTERS, shots={"count": 1})
        posed = pose(task, make_set([*map(make_item, range(3)), make_item(9, role="Shot")]))
        output = write_prompts(FolderStore(tmp_path), "", make_suite([LETTERS]), [posed])
        rows = pq.read_table(tmp_path / output.key).to_pylist()
        assert {row["prefix"] + row["context"] for row in rows if row["part"] == "choices"} == {
            pair.context for one in posed.items for pair in getattr(one.main, "pairs", ())
        }
        assert len({row["promptHash"] for row in rows}) == 3
        assert {tuple(row["continuations"]) for row in rows} == {(" A", " B", " C", " D"), (" two",)}


class TestGate:
    """What a broken model looks like."""

    def table(self, choices: Sequence[tuple[float, ...]]) -> Items:
        """With these scores."""
        rows = [make_row("cloze", n, correct=max(one) == one[1], logprobs=one) for n, one in enumerate(choices)]
        return suite_items("small", rows)

    def test_equal(self) -> None:
        """A model that does not see the choices ends it."""
        with pytest.raises(DataError, match="all choices of 50 of 50 items have the same log-probability"):
            gate(make_suite([CLOZE]), self.table([(-1.0, -1.0)] * 50))

    def test_constant(self) -> None:
        """One answer nearly always, at chance: said, not refused."""
        constant = [(-1.0, -2.0, -3.0, -4.0)] * 70 + [(-2.0, -1.0, -3.0, -4.0)] * 30
        warnings = gate(make_suite([CLOZE]), self.table(constant))
        assert warnings == (
            "task cloze: choice 1 is the answer to 70% of 100 items",
            "task cloze: 0.300 are right, which may be chance (0.250)",
        )

    def test_split(self) -> None:
        """A tokenizer that makes two tokens of a letter ends it, or is said."""
        rows = [make_row("quiz", n, correct=n > 3, tokens=(1, 2)) for n in range(9)]
        with pytest.raises(DataError, match="several tokens of a letter in 9 of 9 items: ask the choices themselves"):
            gate(make_suite([LETTERS]), suite_items("small", rows))
        warnings = gate(make_suite([LETTERS | {"splitLetters": "Report"}]), suite_items("small", rows))
        assert "several tokens of a letter in 9 of 9 items" in warnings[0]

    def test_good(self) -> None:
        """Nothing to say."""
        good = [
            (-2.0, -1.0, -3.0, -4.0),
            (-1.0, -2.0, -3.0, -4.0),
            (-9.0, -1.0, -3.0, -4.0),
            (-2.0, -3.0, -1.0, -4.0),
        ] * 30
        assert gate(make_suite([CLOZE]), self.table(good)) == ()


@pytest.mark.processes
class TestCommands:
    """As a process."""

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """To its end."""
        command = [sys.executable, "-m", "cpt_trainer", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def test_compare(self, tmp_path: Path) -> None:
        """Two files are enough."""
        paths = []
        for seed in (1, 2):
            store = FolderStore(tmp_path / str(seed))
            rows = [make_row(task, n, r) for task in ("cloze", "other") for n, r in enumerate(answers(seed, 50))]
            output = write_suite_table(store, "", make_about(SUITE, 50), suite_items("small", rows))
            paths.append(str(tmp_path / str(seed) / output.key))
        ended = self.run("compare", *paths)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.startswith("suite small, version 1; 95 % intervals")
        found = json.loads(self.run("compare", "--json", *paths).stdout)
        assert found["lines"][0]["name"] == "mean"

    def test_missing(self, tmp_path: Path) -> None:
        """A table that is not there."""
        ended = self.run("compare", str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet"))
        assert ended.returncode == 4
        assert json.loads(ended.stderr.splitlines()[-1])["reason"] == "DataError"

    def test_list(self) -> None:
        """The shipped suites, with what they score."""
        ended = self.run("evaluate", "--list")
        assert ended.returncode == 0, ended.stderr
        assert [text.split()[0] for text in ended.stdout.splitlines() if not text.startswith(" ")] == [
            "core-offline",
            "gauntlet-v0.2",
            "gauntlet-v0.3",
            "mmlu",
        ]

    @pytest.mark.parametrize(
        "words", [["compare", "a"], ["evaluate", "--list", "--fetch-items", "x"], ["evaluate", "--fetch-items", "x"]]
    )
    def test_misused(self, words: list[str]) -> None:
        """What is missing is said."""
        ended = self.run(*words)
        assert ended.returncode == 3
        assert "--help" in json.loads(ended.stderr.splitlines()[-1])["message"]
