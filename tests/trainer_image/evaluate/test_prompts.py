"""Prompts: shots, formats, both passes; an example is never the item itself."""

from __future__ import annotations

from typing import Any

import pytest

from cpt_trainer.errors import DataError
from cpt_trainer.evaluate.items import Item, Role
from cpt_trainer.evaluate.prompts import Posed, pose
from cpt_trainer.evaluate.requests import Completion, Pair, Question
from cpt_trainer.evaluate.task import Task
from evaluation_suites import CLOZE, LETTERS, make_item, make_set, make_task


def posed(task: Task, *items: Item) -> list[Posed]:
    """All scored items."""
    return list(pose(task, make_set(items)).items)


def asked(one: Posed) -> tuple[Pair, ...]:
    """By the first pass."""
    assert isinstance(one.main, Question)
    return one.main.pairs


SHOT = make_item(9, role=Role.SHOT, id="s", gold=3)


class TestFormats:
    """What is scored after what."""

    def test_letters(self) -> None:
        """The options stand in the prompt, the letters are scored, and then the right answer's text without them."""
        task = make_task(LETTERS, shots={"count": 1})
        (one,) = posed(task, make_item(1), SHOT)
        options = "A. one\nB. two\nC. three\nD. four"
        context = f"On numbers.\n\nWhat is 9?\n{options}\nAnswer: D\n\nWhat is 1?\n{options}\nAnswer:"
        assert asked(one) == tuple(Pair(context, f" {letter}") for letter in "ABCD")
        assert one.text is not None
        assert one.text.pairs == (Pair("Q: What is 9?\nA: four\n\nQ: What is 1?\nA:", " two"),)
        assert (one.main.task, one.text.task) == ("quiz", "quiz/text")
        assert one.main.prefix_group != one.text.prefix_group

    def test_cloze(self) -> None:
        """Every choice after the same prompt."""
        (one,) = posed(make_task(CLOZE), make_item())
        assert asked(one) == tuple(Pair("What is 0?", f" {text}") for text in ("one", "two", "three", "four"))
        assert one.text is None

    def test_schema(self) -> None:
        """Every choice makes its own prompt; what follows is the same."""
        task = make_task(CLOZE, format="Schema", prompt="{choice}")
        item = make_item(choices=["Ann paid Bo as Ann", "Ann paid Bo as Bo"], gold=0, answers=["was rich."])
        (one,) = posed(task, item)
        assert asked(one) == (Pair("Ann paid Bo as Ann", " was rich."), Pair("Ann paid Bo as Bo", " was rich."))

    def test_language_modelling(self) -> None:
        """One right text."""
        task = make_task(CLOZE, format="LanguageModelling", metric="Greedy")
        (one,) = posed(task, make_item(choices=None, gold=None, answers=["zero"]))
        assert asked(one) == (Pair("What is 0?", " zero"),)

    def test_generation(self) -> None:
        """Shots show the way to the answer."""
        answer = {"shot": "{chain} So {answer}.", "stop": ["\n"], "tokensMax": 5}
        task = make_task(
            CLOZE, format="Generation", metric="ExactMatch", prompt="{question}\nA:", answer=answer, shots={"count": 1}
        )
        items = [
            make_item(
                n, choices=None, gold=None, answers=[str(n)], role=role, fields={"question": f"{n}?", "chain": "Hm."}
            )
            for n, role in ((1, "Scored"), (2, "Shot"))
        ]
        (one,) = posed(task, *items)
        assert one.main == Completion("cloze", "001", "cloze", "2?\nA: Hm. So 2.\n\n1?\nA:", ("\n",), 5)

    @pytest.mark.parametrize(
        ("changes", "item", "reason"),
        [
            (
                {"prompt": "{passage}"},
                {},
                "the hole {passage}, item '000' of quiz.jsonl has the fields question, subject",
            ),
            ({}, {"choices": None, "gold": None, "answers": ["a"]}, "needs choices: item '000' of quiz.jsonl has none"),
            ({"format": "LanguageModelling", "metric": "Greedy"}, {}, "has no answers"),
        ],
    )
    def test_misfit(self, changes: dict[str, Any], item: dict[str, Any], reason: str) -> None:
        """An item that the task cannot ask ends it."""
        with pytest.raises(DataError, match=reason):
            posed(make_task(CLOZE, **changes), make_item(**item))


class TestShots:
    """Which examples stand before an item."""

    def test_of_its_subject(self) -> None:
        """Examples come from the item's stratum; without enough of them there is no prompt."""
        task = make_task(CLOZE, shots={"count": 1})
        other = make_item(8, role=Role.SHOT, stratum="art")
        assert "What is 9?" in asked(posed(task, make_item(), other, SHOT)[0])[0].context
        with pytest.raises(DataError, match=r"stratum '' of quiz\.jsonl has 0 examples for item 000, 1 are asked for"):
            posed(task, make_item(), other)

    def test_first_of_the_scored(self) -> None:
        """Out of the scored items: the first ones, without the item and all that say the same."""
        task = make_task(CLOZE, shots={"count": 1, "source": "Scored"})
        twin = make_item(0, id="twin")
        prefixes = [one.prefix for one in posed(task, make_item(0), twin, make_item(2))]
        assert prefixes == ["What is 2? two\n\n", "What is 2? two\n\n", "What is 0? two\n\n"]

    def test_never_itself(self) -> None:
        """However examples are drawn."""
        for pick in ({"pick": "First"}, {"pick": "PerItem", "seed": 7}):
            task = make_task(CLOZE, shots={"count": 3, "source": "Scored"} | pick)
            for one in posed(task, *map(make_item, range(20))):
                assert one.item.fields["question"] not in one.prefix
                assert one.prefix.count("What is") == 3

    def test_contaminated(self) -> None:
        """An item that stands, solved, among the examples under another name ends it, or is counted."""
        twin = make_item(0, id="twin", role=Role.SHOT, fields={"question": "what  IS 0?", "subject": "numbers"})
        with pytest.raises(
            DataError, match="task cloze: 1 items stand, solved, among their own shots, the first is '000'"
        ):
            pose(make_task(CLOZE, shots={"count": 1}), make_set([make_item(), twin]))
        task = make_task(CLOZE, shots={"count": 1, "contamination": "Report"})
        assert pose(task, make_set([make_item(), twin])).contaminated == 1

    def test_prefix_groups(self) -> None:
        """What shares shots shares a group; where each item has its own, none does."""
        shared = posed(make_task(CLOZE, shots={"count": 1}), make_item(0), make_item(1), SHOT)
        assert {one.main.prefix_group for one in shared} == {"cloze"}
        drawn = make_task(CLOZE, shots={"count": 1, "source": "Scored", "pick": "PerItem", "seed": 1})
        assert len({one.main.prefix_group for one in posed(drawn, *map(make_item, range(5)))}) == 5
