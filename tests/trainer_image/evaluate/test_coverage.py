"""Simulated models with known truth: how often a 95 % interval holds it.

A world has items with a difficulty, in strata (fixed) and clusters (drawn anew each time, with their items). What a
model would get right of all items that might have been drawn is the truth; what it gets right of those that were is
the table.

    SIMULATIONS=4000 pytest tests/trainer_image/evaluate/test_coverage.py -s        prints shares and widths
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from cpt_trainer.decide.estimates import Estimated
from cpt_trainer.evaluate.group import gain, leaves, score
from cpt_trainer.evaluate.suite import Group, Suite
from cpt_trainer.tables import Items, Row, suite_items
from evaluation_suites import CLOZE, make_suite

SIMULATIONS = int(os.environ.get("SIMULATIONS", "400"))
ALLOWED = (0.93, 0.97) if SIMULATIONS >= 2000 else (0.92, 0.98)
"""By chance alone 400 simulations show 0.929 to 0.971 in 19 of 20 tests."""
_TASKS = {"wide": (4, 60, 1), "passages": (1, 60, 4), "small": (1, 100, 1)}
"""Strata, clusters in each, items in each: subjects of their own, four questions on a passage, one small task."""


def make_world() -> Suite:
    """Two categories, a macro average, baselines."""
    benchmarks = [
        {"task": "wide", "subgroups": "Macro", "baseline": "0.25"},
        {"task": "passages", "baseline": "OneOfChoices"},
        {"task": "small", "baseline": "0.5"},
    ]
    categories = [
        {"name": "knowledge", "benchmarks": benchmarks[:1]},
        {"name": "reading", "benchmarks": benchmarks[1:]},
    ]
    bits = [{"name": "all", "benchmarks": [{"task": task} for task in _TASKS]}]
    groups = [
        {"name": "average", "categories": categories},
        {"name": "bits", "measure": "BitsPerByte", "categories": bits},
    ]
    return make_suite([CLOZE | {"name": task} for task in _TASKS], groups)


SUITE = make_world()


def draw(chance: np.random.Generator, skills: tuple[float, float]) -> tuple[Items, Items]:
    """Two models on the same items: what is hard for one is mostly hard for the other."""
    rows: tuple[list[Row], list[Row]] = ([], [])
    for task, (strata, clusters, size) in _TASKS.items():
        for stratum in range(strata):
            for cluster in range(clusters):
                passage = chance.normal(0, 1)
                for item in range(size):
                    difficulty = stratum / 2 + passage + chance.normal(0, 1)
                    length = int(chance.integers(3, 40))
                    for skill, table in zip(skills, rows, strict=True):
                        own = chance.normal(0, 0.5)
                        right = difficulty + own < skill
                        bits = length * (1 + np.tanh(difficulty + own - skill) / 2)
                        row = Row(
                            task,
                            f"{stratum}/{cluster}/{item}",
                            "",
                            "",
                            str(stratum),
                            f"{stratum}/{cluster}",
                            (0.0,) * 4,
                            bits=bits,
                            size=length,
                            correct=int(right),
                        )
                        table.append(row)
    return suite_items("small", rows[0]), suite_items("small", rows[1])


def results(group: Group, count: int) -> list[tuple[Estimated, Estimated, Estimated]]:
    """Of each draw: a, b, b - a."""
    chance = np.random.default_rng(11)
    found = []
    for _ in range(count):
        a, b = (leaves(SUITE, group, items) for items in draw(chance, (0.5, 0.7)))
        found.append((score(a), score(b), gain(b, a)))
    return found


@pytest.mark.parametrize("group", SUITE.groups, ids=lambda group: group.name)
def test_coverage(group: Group) -> None:
    """Levels and differences are held by their intervals; paired ones are narrower than two levels' together."""
    found = results(group, SIMULATIONS)
    truth = np.mean([[one.value for one in three] for three in found], axis=0)  # estimates are unbiased
    for number, name in enumerate(("a", "b", "b - a")):
        held = [low <= truth[number] <= high for low, high in (three[number].interval() for three in found)]
        width = np.mean([three[number].standard_error for three in found])
        print(f"{group.name}, {name}: truth {truth[number]:.4f}, held {np.mean(held):.4f}, standard error {width:.4f}")  # noqa: T201
        assert ALLOWED[0] <= np.mean(held) <= ALLOWED[1]
    apart = np.mean([np.hypot(a.standard_error, b.standard_error) for a, b, _ in found])
    paired = np.mean([difference.standard_error for _, _, difference in found])
    assert paired < 0.7 * apart
