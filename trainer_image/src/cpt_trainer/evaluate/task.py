"""One task of a suite: which items are asked, in which words, and when an answer counts as right.

A prompt is description, shots and item, one after another:

    The following are multiple choice questions (with answers) about anatomy.      description, filled from the item
                                                                                   (it brings its own line ends)
    What is … A. … B. … Answer: C                                                  prompt + delimiter + right answer,
                                                                                   then the separator; once a shot
    Which … A. … B. … Answer:                                                      prompt

and each choice is scored as delimiter + choice. A letter task is asked twice: its letters say whether the answer is
right, and the text of the right answer, after the prompt of its `text`, in how many bits per byte the model knows it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from cpt_api.model import Model
from cpt_api.values import Digest
from cpt_trainer.evaluate.template import holes

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
OPTIONS, CHOICE, LETTER, ANSWER = "options", "choice", "letter", "answer"
"""Holes that are not fields of the item."""


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
