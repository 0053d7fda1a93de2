"""A suite as data: its tasks, and what is averaged over them.

    suite.task("mmlu").format          Format.LETTERS: the options stand in the prompt, the letters are scored
    suite.groups[0].categories         what the suite's number is a mean of; the first group is the suite's score
    suite.digest                       of all of it; comments and layout do not change it

Suites are YAML, see `suites/` beside this file; how they are read and refused is `suite_file.py`, how a task asks its
items `task.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from cpt_api.model import Model, canonical_json, sha256
from cpt_api.trial import Measure
from cpt_api.values import Digest, Share
from cpt_trainer.evaluate.task import Format, Metric, Task, TaskName

Place = tuple[int | str, ...]
"""Keys and numbers that lead to a part of a suite."""


class MisplacedError(ValueError):
    """What is wrong lies deeper than where it was noticed."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place


class Subgroups(StrEnum):
    """How strata count in a benchmark."""

    MICRO = "Micro"
    """Every item counts alike."""
    MACRO = "Macro"
    """Every stratum counts alike."""


class Benchmark(Model):
    """One task within a category."""

    task: TaskName
    """Of this suite."""
    subgroups: Subgroups = Subgroups.MICRO
    """How its strata count."""
    baseline: Share | Literal["OneOfChoices"] | None = None
    """What guessing gives, and is taken off: a number, or one divided by the item's choices."""
    rescale: bool = True
    """With a baseline: divide by what is left above it, so that the best is 1."""

    @model_validator(mode="after")
    def _something_above_the_baseline(self) -> Self:
        if isinstance(self.baseline, Share) and self.baseline >= 1:
            raise ValueError("a baseline is below 1")
        return self


class Category(Model):
    """A plain mean of benchmarks."""

    name: TaskName
    """Within the group."""
    benchmarks: Annotated[tuple[Benchmark, ...], Field(min_length=1, max_length=256)]
    """Each counts alike."""


class Group(Model):
    """A number of the suite: the plain mean of categories."""

    name: TaskName
    """Within the suite."""
    measure: Measure = Measure.ACCURACY
    """What is averaged."""
    categories: Annotated[tuple[Category, ...], Field(min_length=1, max_length=64)]
    """Each counts alike."""

    @model_validator(mode="after")
    def _baselines_belong_to_accuracy(self) -> Self:
        for place, benchmark in self.benchmarks():
            if self.measure is Measure.BITS_PER_BYTE and benchmark.baseline is not None:
                raise MisplacedError((*place, "baseline"), "it is a share of right answers: bits per byte have none")
        _require_unique("category", [category.name for category in self.categories])
        return self

    def benchmarks(self) -> Iterator[tuple[Place, Benchmark]]:
        """Of all categories, each with its place in the group."""
        for number, category in enumerate(self.categories):
            for index, benchmark in enumerate(category.benchmarks):
                yield ("categories", number, "benchmarks", index), benchmark


class Suite(Model):
    """Tasks and what is averaged over them."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+([-.][a-z0-9]+)*$", max_length=63)]
    """Such as gauntlet-v0.3."""
    version: Annotated[int, Field(ge=1)]
    """Grows with every change that changes numbers."""
    description: Annotated[str, StringConstraints(min_length=1, max_length=4096)]
    """What it measures, where its data comes from, what is known to be wrong with it."""
    tasks: Annotated[tuple[Task, ...], Field(min_length=1, max_length=256)]
    """In the order in which they are asked."""
    groups: Annotated[tuple[Group, ...], Field(min_length=1, max_length=16)]
    """The suite's numbers; the first is its score."""
    on_missing: Literal["Fail"] = "Fail"
    """A task without all of its items makes no number: a mean over fewer tasks means something else."""

    @model_validator(mode="after")
    def _tasks_exist(self) -> Self:
        _require_unique("task", [task.name for task in self.tasks])
        _require_unique("group", [group.name for group in self.groups])
        tasks = {task.name: task for task in self.tasks}
        for number, group in enumerate(self.groups):
            for place, benchmark in group.benchmarks():
                if problem := _unfit(group, benchmark, tasks.get(benchmark.task)):
                    raise MisplacedError(("groups", number, *place, "task"), problem)
        return self

    def task(self, name: str) -> Task:
        """The task of that name."""
        return next(task for task in self.tasks if task.name == name)

    @cached_property
    def digest(self) -> Digest:
        """SHA-256 of everything that it says."""
        return sha256(canonical_json(self.identity()))


def _unfit(group: Group, benchmark: Benchmark, task: Task | None) -> str | None:
    if task is None:
        return f"there is no task {benchmark.task!r} in the suite"
    if group.measure is Measure.ACCURACY and task.metric is Metric.BITS_PER_BYTE:
        return f"group {group.name} averages accuracy: task {task.name} has only bits per byte"
    if group.measure is Measure.BITS_PER_BYTE and task.format is Format.GENERATION:
        return f"group {group.name} averages bits per byte: task {task.name} generates"
    return None


def _require_unique(what: str, names: list[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{what} {twice[0]!r} stands twice")
