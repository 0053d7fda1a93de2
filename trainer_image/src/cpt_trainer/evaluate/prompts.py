"""From items to what a model is asked.

    posed = pose(task, items)               one Posed per item, in the order of the file
    posed.items[0].main                     Question("mmlu", "anatomy/0", "mmlu/anatomy", (Pair("…Answer:", " A"), …))
    posed.items[0].text                     Question("mmlu/text", …, (Pair("Question: …\\nAnswer:", " the femur"),))

The texts are those of lm-eval 0.4.13 for the same template, shots and delimiters (in the tests its own rendering is
held against ours).

Price: all prompts of a task are in memory, about 3 kB an item with five shots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cpt_trainer.errors import DataError
from cpt_trainer.evaluate.items import Item, ItemSet
from cpt_trainer.evaluate.requests import Completion, Pair, Question
from cpt_trainer.evaluate.shots import ShotPicker, require_clean
from cpt_trainer.evaluate.task import ANSWER, CHOICE, LETTER, LETTERS, OPTIONS, Format, Pick, Task
from cpt_trainer.evaluate.template import fill

TEXT = "/text"
"""Ends the task of a question that is the second pass of a letter task."""


@dataclass(frozen=True, slots=True)
class Posed:
    """One item as it is asked."""

    item: Item
    main: Question | Completion
    text: Question | None
    """Letters: the right answer's own text."""
    prefix: str
    """What the contexts of `main` begin with: description and shots."""
    text_prefix: str
    """The same of `text`."""


@dataclass(frozen=True, slots=True)
class PosedTask:
    """All items of a task."""

    task: Task
    items: tuple[Posed, ...]
    contaminated: int
    """Items that stand, solved, among their own shots; allowed by the suite where there are any."""


def pose(task: Task, items: ItemSet) -> PosedTask:
    """Ask every scored item; raises DataError for an item that does not fit the task."""
    picker = ShotPicker(task, items)
    contaminated = require_clean(task, picker)
    writer = _Writer(task, items.file.key)
    return PosedTask(task, tuple(writer.posed(item, picker.before(item)) for item in items.scored), contaminated)


@dataclass(frozen=True, slots=True)
class _Writer:
    task: Task
    file: str

    def posed(self, item: Item, shots: tuple[Item, ...]) -> Posed:
        task = self.task
        self._require_fit(item)
        prefix = self._prefix(item, shots)
        text_prefix = self._text_prefix(item, shots) if task.text else ""
        return Posed(item, self._main(item, prefix), self._text(item, text_prefix), prefix, text_prefix)

    def _main(self, item: Item, prefix: str) -> Question | Completion:
        task = self.task
        if task.answer is not None:
            context = prefix + self._prompt(item)
            return Completion(task.name, item.id, self._group(item), context, task.answer.stop, task.answer.tokens_max)
        texts = scored_texts(task, item)
        contexts = [
            prefix + self._prompt(item, number) for number in range(len(texts) if task.format is Format.SCHEMA else 1)
        ]
        pairs = tuple(
            Pair(contexts[number % len(contexts)], task.delimiter + text) for number, text in enumerate(texts)
        )
        return Question(task.name, item.id, self._group(item), pairs)

    def _text(self, item: Item, prefix: str) -> Question | None:
        text = self.task.text
        if text is None:
            return None
        pair = Pair(prefix + self._filled(text.prompt, item.fields, item), text.delimiter + right_text(self.task, item))
        return Question(self.task.name + TEXT, item.id, self._group(item) + TEXT, (pair,))

    def _prefix(self, item: Item, shots: tuple[Item, ...]) -> str:
        separator = self.task.shots.separator if self.task.shots else ""
        solved = (
            self._prompt(shot, shot.gold or 0) + self.task.delimiter + self._solution(shot) + separator
            for shot in shots
        )
        return self._filled(self.task.description, item.fields, item) + "".join(solved)

    def _text_prefix(self, item: Item, shots: tuple[Item, ...]) -> str:
        text = self.task.text
        assert text is not None
        separator = self.task.shots.separator if self.task.shots else ""
        solved = (
            self._filled(text.prompt, shot.fields, shot) + text.delimiter + right_text(self.task, shot) + separator
            for shot in shots
        )
        return self._filled(text.description, item.fields, item) + "".join(solved)

    def _solution(self, shot: Item) -> str:
        if self.task.answer is not None:
            return self._filled(self.task.answer.shot, shot.fields | {ANSWER: shot.answers[0]}, shot)
        if self.task.format is Format.LETTERS:
            return LETTERS[shot.gold or 0]
        return right_text(self.task, shot)

    def _prompt(self, item: Item, choice: int = 0) -> str:
        task, values = self.task, dict(item.fields)
        if task.format is Format.LETTERS:
            options = (
                self._filled(task.option, {LETTER: letter, CHOICE: text}, item)
                for letter, text in zip(LETTERS, item.choices, strict=False)
            )
            values[OPTIONS] = task.option_separator.join(options)
        if task.format is Format.SCHEMA:
            values[CHOICE] = item.choices[choice]
        return self._filled(task.prompt, values, item)

    def _filled(self, template: str, values: Mapping[str, str], item: Item) -> str:
        try:
            return fill(template, values)
        except KeyError as error:
            raise DataError(
                f"task {self.task.name}: its prompt has the hole {{{error.args[0]}}}, item {item.id!r} of {self.file} "
                f"has the fields {', '.join(sorted(item.fields)) or 'none'}"
            ) from None

    def _group(self, item: Item) -> str:
        """Items that begin with the same shots."""
        task = self.task
        if task.shots is not None and task.shots.pick is Pick.PER_ITEM:
            return f"{task.name}/{item.id}"
        return f"{task.name}/{item.stratum}" if item.stratum else task.name

    def _require_fit(self, item: Item) -> None:
        wants_choices = self.task.format in (Format.LETTERS, Format.CLOZE, Format.SCHEMA)
        wants_answers = self.task.format not in (Format.LETTERS, Format.CLOZE)
        if wants_choices and not item.choices:
            raise DataError(f"task {self.task.name} needs choices: item {item.id!r} of {self.file} has none")
        if wants_answers and not item.answers:
            raise DataError(f"task {self.task.name} needs a right text: item {item.id!r} of {self.file} has no answers")
        if len(item.choices) > len(LETTERS) and self.task.format is Format.LETTERS:
            raise DataError(f"item {item.id!r} of {self.file} has more choices than there are letters")


def right_text(task: Task, item: Item) -> str:
    """The text whose bits count, without the delimiter."""
    if task.format in (Format.LETTERS, Format.CLOZE):
        return item.choices[item.gold or 0]
    return item.answers[0]


def scored_texts(task: Task, item: Item) -> tuple[str, ...]:
    """What is scored, choice by choice, without the delimiter."""
    match task.format:
        case Format.LETTERS:
            return tuple(LETTERS[: len(item.choices)])
        case Format.CLOZE:
            return item.choices
        case Format.SCHEMA:
            return item.answers[:1] * len(item.choices)
        case _:
            return item.answers[:1]
