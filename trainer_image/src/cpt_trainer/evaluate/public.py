"""How public benchmarks become items: one short function for each, from the columns that their authors gave them.

    items = MAKERS["piqa"](rows)

What a prompt cannot say is done here, once: white space that is trimmed, brackets that HellaSwag's annotators left,
the two sentences that WinoGrande's blank makes. All of it is what lm-eval 0.4.13 does for its task of the same name.
Items that share a passage, a video or a situation get one cluster.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from cpt_trainer.evaluate.items import SHORT, Item, Role
from cpt_trainer.evaluate.layouts import Row

_CONNECTORS = {"cause": "because", "effect": "therefore"}
_BRACKETS = re.compile(r"\[.*?\]")


@dataclass(frozen=True, slots=True)
class Made:
    """What a row says, without its place in the file."""

    fields: dict[str, str]
    choices: tuple[str, ...] = ()
    gold: int | None = None
    answers: tuple[str, ...] = ()
    cluster: str | None = None
    """Any text that items of one cluster have in common."""
    stratum: str = ""


Maker = Callable[[Row], Made]


def items_of(rows: Iterable[Row], maker: Maker, role: Role = Role.SCORED, stratum: str | None = None) -> Iterator[Item]:
    """Numbered within their stratum."""
    counts: dict[str, int] = {}
    for row in rows:
        made = maker(row)
        subject = made.stratum if stratum is None else stratum
        number = counts.get(subject, 0)
        counts[subject] = number + 1
        name = f"{number:05d}" if role is Role.SCORED else f"shot-{number:05d}"
        yield Item(
            id=f"{subject}/{name}" if subject else name,
            role=role,
            stratum=subject,
            cluster=short_hash(made.cluster) if made.cluster is not None else None,
            fields=made.fields,
            choices=made.choices,
            gold=made.gold,
            answers=made.answers,
        )


def short_hash(text: str) -> str:
    """Names a cluster."""
    return hashlib.sha256(text.encode()).hexdigest()[:SHORT]


# --- as the hub has them ----------------------------------------------------------------------------------------------


def mmlu(row: Row) -> Made:
    """`subject` is filled in by whoever knows it."""
    return Made({"question": row["question"].strip()}, tuple(row["choices"]), row["answer"])


def of_subject(subject: str) -> Maker:
    """MMLU's rows of one subject."""

    def made(row: Row) -> Made:
        one = mmlu(row)
        return Made(one.fields | {"subject": subject.replace("_", " ")}, one.choices, one.gold, stratum=subject)

    return made


def keyed(row: Row) -> Made:
    """ARC, CommonsenseQA, arithmetic: choices with labels, and the right label."""
    choices = row["choices"]
    return Made({"question": row["question"]}, tuple(choices["text"]), choices["label"].index(row["answerKey"]))


def openbook_qa(row: Row) -> Made:
    """The question is called stem."""
    return keyed(row | {"question": row["question_stem"], "answerKey": row["answerKey"].lstrip()})


def sciq(row: Row) -> Made:
    """The right answer stands last, as in lm-eval."""
    choices = (row["distractor1"], row["distractor2"], row["distractor3"], row["correct_answer"])
    return Made({"support": row["support"].lstrip(), "question": row["question"]}, choices, 3)


def copa(row: Row) -> Made:
    """A sentence without its full stop, and two ways to go on."""
    fields = {"premise": row["premise"].strip()[:-1], "connector": _CONNECTORS[row["question"]]}
    return Made(fields, tuple(text[0].lower() + text[1:] for text in (row["choice1"], row["choice2"])), row["label"])


def siqa(row: Row) -> Made:
    """Three answers; several questions on one situation."""
    fields = {"context": row["context"], "question": row["question"]}
    return Made(fields, (row["answerA"], row["answerB"], row["answerC"]), int(row["label"]) - 1, cluster=row["context"])


def piqa(row: Row) -> Made:
    """Two ways to reach a goal."""
    return Made({"goal": row["goal"]}, (row["sol1"], row["sol2"]), row["label"])


def hellaswag(row: Row) -> Made:
    """Four endings; several cut from one video or article."""
    context = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
    choices = tuple(_without_brackets(ending) for ending in row["endings"])
    return Made({"context": _without_brackets(context)}, choices, int(row["label"]), cluster=row["source_id"])


def _without_brackets(text: str) -> str:
    return _BRACKETS.sub("", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def winogrande(row: Row) -> Made:
    """The blank, filled in two ways, and the same end."""
    before, _, after = row["sentence"].partition("_")
    choices = (before + row["option1"], before + row["option2"])
    return Made({}, choices, int(row["answer"]) - 1, (after.strip(),))


def boolq(row: Row) -> Made:
    """Several questions on one passage."""
    fields = {"passage": row["passage"], "question": row["question"]}
    return Made(fields, ("no", "yes"), int(row["answer"]), cluster=row["passage"])


# --- as OLMES's ready requests have them ------------------------------------------------------------------------------


def lambada(row: Row) -> Made:
    """A passage without its last word, and that word."""
    document = row["doc"]
    return Made({"context": document["query"]}, answers=(document["answers_text"][0],))


def gsm8k(row: Row) -> Made:
    """With the way to the answer, which shots show."""
    document = row["doc"]
    chain = document["answer"].rpartition("####")[0].strip()
    return Made({"question": document["question"], "chain": chain}, answers=(document["short_answer"],))


# --- as llm-foundry has them ------------------------------------------------------------------------------------------

_OPTIONS = (
    re.compile(r"^(?P<query>.*)\nChoices:\n(?P<options>A\. .*)\nAnswer:$", re.DOTALL),
    re.compile(r"^(?P<query>.*)\nChoices:\n(?P<options>A\.\) .*)\nAnswer:$", re.DOTALL),
    re.compile(r"^(?P<query>.*)\n(?P<options>\(A\) .*)$", re.DOTALL),
)
_LETTER_SIGNS = ("\n{letter}. ", "\n{letter}.) ", " ({letter}) ")
"""How each of those marks an option that is not the first."""
_PASSAGE_END = "\nQ: "


def foundry(row: Row) -> Made:
    """Any of its JSON lines; white space around texts is trimmed, as its reader does."""
    row = {name: value.strip() if isinstance(value, str) else value for name, value in row.items()}
    stratum = row.get("category", "")
    if "context_options" in row:
        return Made({}, tuple(row["context_options"]), row["gold"], (row["continuation"],), stratum=stratum)
    if "choices" in row:
        return _foundry_choices(row, stratum)
    if "continuation" in row:
        return Made({"context": row["context"]}, answers=(row["continuation"],), stratum=stratum)
    fields = {"context": row["context"], "chain": row.get("chain_of_thought", "")}
    return Made(fields, answers=tuple(dict.fromkeys((row["answer"], *row.get("aliases", ())))), stratum=stratum)


def _foundry_choices(row: Row, stratum: str) -> Made:
    """Where the choices are letters, their texts are taken out of the query: a prompt puts them back."""
    query, letters = row["query"], row["choices"]
    passage = query.partition(_PASSAGE_END)[0] if _PASSAGE_END in query else None
    if letters != list("ABCDEFGH"[: len(letters)]):
        return Made({"query": query}, tuple(letters), row["gold"], cluster=passage, stratum=stratum)
    for pattern, sign in zip(_OPTIONS, _LETTER_SIGNS, strict=True):
        if found := pattern.match(query):
            texts, rest = [], found["options"][len(sign.format(letter="A")) - 1 :]
            for letter in letters[1:]:
                text, found_sign, rest = rest.partition(sign.format(letter=letter))
                if not found_sign:
                    raise ValueError(f"its query shows no option {letter}: …{query[-80:]!r}")
                texts.append(text)
            return Made({"query": found["query"]}, (*texts, rest), row["gold"], cluster=passage, stratum=stratum)
    raise ValueError(f"its choices are letters, but its query ends in no list of options: …{query[-80:]!r}")
