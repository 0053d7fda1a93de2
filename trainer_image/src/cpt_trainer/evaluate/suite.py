"""A suite as data: what is asked, how it is scored, and what is averaged.

    suite.task("mmlu").format          Format.LETTERS: the options stand in the prompt, the letters are scored
    suite.groups[0].categories         what the suite's number is a mean of; the first group is the suite's score
    suite.digest                       of all of it; comments and layout do not change it

A prompt is description, shots and item, one after another:

    The following are multiple choice questions (with answers) about anatomy.      description, filled from the item
                                                                                   (it brings its own line ends)
    What is … A. … B. … Answer: C                                                  prompt + delimiter + right answer,
                                                                                   then the separator; once a shot
    Which … A. … B. … Answer:                                                      prompt

and each choice is scored as delimiter + choice. A letter task is asked twice: its letters say whether the answer is
right, and the text of the right answer, after the prompt of its `text`, in how many bits per byte the model knows it.

Suites are YAML, see `suites/` beside this file; how they are read and refused is `suite_file.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from cpt_api.model import Model, canonical_json, sha256
from cpt_api.values import Digest, Share
from cpt_trainer.evaluate.template import holes

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
OPTIONS, CHOICE, LETTER, ANSWER = "options", "choice", "letter", "answer"
"""Holes that are not fields of the item."""


Place = tuple[int | str, ...]
"""Keys and numbers that lead to a part of a suite."""


class MisplacedError(ValueError):
    """What is wrong lies deeper than where it was noticed."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place


class Format(StrEnum):
    """How an item is asked."""

    LETTERS = "Letters"
    """The options stand in the prompt; the letter of one is the answer."""
    CLOZE = "Cloze"
    """Each choice is scored as what follows the prompt."""
    SCHEMA = "Schema"
    """Each choice makes a prompt of its own; what follows is the same text."""
    LANGUAGE_MODELLING = "LanguageModelling"
    """One right text follows."""
    GENERATION = "Generation"
    """The model writes an answer."""


class Metric(StrEnum):
    """When an answer counts as right."""

    ACCURACY = "Accuracy"
    """The right choice has the highest log-probability."""
    ACCURACY_PER_CHARACTER = "AccuracyPerCharacter"
    """… divided by its characters."""
    ACCURACY_PER_BYTE = "AccuracyPerByte"
    """… divided by its UTF-8 bytes."""
    ACCURACY_PER_TOKEN = "AccuracyPerToken"  # noqa: S105 - a name
    """… divided by its tokens."""
    GREEDY = "Greedy"
    """Each token of the right text is the most likely one."""
    EXACT_MATCH = "ExactMatch"
    """What the model wrote is one of the right answers."""
    BITS_PER_BYTE = "BitsPerByte"
    """Nothing is right or wrong; counted is what the right text costs."""


_CHOICE_METRICS = frozenset(
    {Metric.ACCURACY, Metric.ACCURACY_PER_CHARACTER, Metric.ACCURACY_PER_BYTE, Metric.ACCURACY_PER_TOKEN}
)
_METRICS = {
    Format.LETTERS: _CHOICE_METRICS,
    Format.CLOZE: _CHOICE_METRICS | {Metric.BITS_PER_BYTE},
    Format.SCHEMA: _CHOICE_METRICS | {Metric.BITS_PER_BYTE},
    Format.LANGUAGE_MODELLING: frozenset({Metric.GREEDY, Metric.BITS_PER_BYTE}),
    Format.GENERATION: frozenset({Metric.EXACT_MATCH}),
}


def _checked(template: str) -> str:
    holes(template)
    return template


def _ends_in_a_word(template: str) -> str:
    if template != template.rstrip():
        raise ValueError("it ends in white space: that belongs into the delimiter, or tokens would split differently")
    return _checked(template)


Template = Annotated[str, StringConstraints(max_length=8192), AfterValidator(_checked)]
Prompt = Annotated[str, StringConstraints(min_length=1, max_length=65536), AfterValidator(_ends_in_a_word)]
Delimiter = Annotated[str, StringConstraints(max_length=64)]
TaskName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+([-_.][a-z0-9]+)*$", max_length=63)]


class ShotSource(StrEnum):
    """Where solved examples come from."""

    SHOTS = "Shots"
    """Items that are there for that, and are not scored."""
    SCORED = "Scored"
    """The scored items themselves, without the one that is asked."""


class Pick(StrEnum):
    """Which of them, out of the item's stratum."""

    FIRST = "First"
    """The first ones: the same before every item, so what they cost is paid once."""
    PER_ITEM = "PerItem"
    """Others before each item, drawn as llm-foundry draws them; nothing is shared."""


class Found(StrEnum):
    """What follows when something that spoils a score is found."""

    FAIL = "Fail"
    """The evaluation ends."""
    REPORT = "Report"
    """It is counted, and said."""


class Shots(Model):
    """Solved examples before the item."""

    count: Annotated[int, Field(ge=1, le=64)]
    """How many."""
    source: ShotSource = ShotSource.SHOTS
    """Where they come from."""
    pick: Pick = Pick.FIRST
    """Which of them."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] | None = None
    """Of `PerItem`."""
    separator: Delimiter = "\n\n"
    """After each of them."""
    contamination: Found = Found.FAIL
    """An item that stands, solved, among its own shots under another name."""

    @model_validator(mode="after")
    def _seed_where_drawn(self) -> Self:
        if (self.seed is not None) != (self.pick is Pick.PER_ITEM):
            raise ValueError("a seed belongs to pick: PerItem, and PerItem needs one")
        return self


class Text(Model):
    """The second pass of a letter task: the right answer's own text, after a prompt that does not show the options."""

    description: Template = ""
    """Before the shots."""
    prompt: Prompt
    """Of the item and of each shot."""
    delimiter: Delimiter = " "
    """Between prompt and answer."""


class Match(StrEnum):
    """How an answer is held against the right ones."""

    EQUAL = "Equal"
    PREFIX = "Prefix"
    """It begins with one of them."""


class Normalisation(StrEnum):
    """What is ignored on both sides."""

    STRIP = "Strip"
    """White space around."""
    WORDS = "Words"
    """Case, punctuation, articles and the amount of white space, as TriviaQA's own script does."""


class Answer(Model):
    """How a generated answer is read."""

    shot: Template = "{answer}"
    """What a shot answers."""
    stop: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=64)], ...], Field(max_length=8)
    ] = ()
    """The answer ends before the first of these."""
    tokens_max: Annotated[int, Field(ge=1, le=8192)]
    """Or after so many tokens."""
    after: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    """What counts begins after the last of these."""
    match: Match = Match.EQUAL
    """How it is compared."""
    normalisation: Normalisation = Normalisation.STRIP
    """What is ignored."""


class Task(Model):
    """Items of one kind, asked and scored in one way."""

    name: TaskName
    """Within the suite."""
    items: TaskName
    """Name of the item file: several tasks and suites may ask the same items."""
    items_digest: Digest | None = None
    """SHA-256 of the item file's text; pins what is asked."""
    format: Format
    """How an item is asked."""
    metric: Metric
    """When an answer counts as right."""
    description: Template = ""
    """Before the shots, with its own line ends."""
    prompt: Prompt
    """Of the item and of each shot. Holes are the item's fields, `options` (Letters) and `choice` (Schema)."""
    option: Template = "{letter}. {choice}"
    """Letters: one option."""
    option_separator: Delimiter = "\n"
    """Letters: between options."""
    split_letters: Found | None = None
    """Letters: a tokenizer to which a letter is several tokens; `Fail` where it is absent."""
    delimiter: Delimiter = " "
    """Between prompt and answer."""
    shots: Shots | None = None
    """Solved examples before the item."""
    text: Text | None = None
    """Letters: the second pass."""
    answer: Answer | None = None
    """Generation: how the answer is read."""

    @model_validator(mode="after")
    def _parts_fit_the_format(self) -> Self:
        if self.metric not in _METRICS[self.format]:
            allowed = ", ".join(sorted(_METRICS[self.format]))
            raise ValueError(f"metric {self.metric} does not go with format {self.format}: expected {allowed}")
        letters, generation = self.format is Format.LETTERS, self.format is Format.GENERATION
        if letters != (self.text is not None):
            raise ValueError("a letter task, and no other, says with `text` how its answers' own text is scored")
        if generation != (self.answer is not None):
            raise ValueError("a generation task, and no other, says with `answer` how the answer is read")
        for hole, format_ in ((OPTIONS, Format.LETTERS), (CHOICE, Format.SCHEMA)):
            if (hole in holes(self.prompt)) != (self.format is format_):
                raise ValueError(f"a prompt has the hole {{{hole}}} if its format is {format_}, and only then")
        if self.split_letters is not None and not letters:
            raise ValueError("splitLetters is about letter tasks, this one has no letters")
        if letters and not set(holes(self.option)) >= {LETTER, CHOICE}:
            raise ValueError("an option has the holes {letter} and {choice}")
        return self


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


class Measure(StrEnum):
    """What a group averages."""

    ACCURACY = "Accuracy"
    """The share of right answers, by each task's metric."""
    BITS_PER_BYTE = "BitsPerByte"
    """What the right answers' text costs; lower is better."""


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
