"""From log-probabilities and texts to rows: what is right, by how much, in how many bits."""

from __future__ import annotations

import math
from typing import Any

import pytest

from cpt_trainer.errors import DataError
from cpt_trainer.evaluate.answers import answered, is_right
from cpt_trainer.evaluate.prompts import pose
from cpt_trainer.evaluate.requests import Likelihood
from cpt_trainer.evaluate.task import Answer
from cpt_trainer.tables import UNKNOWN, Row
from evaluation_suites import CLOZE, LETTERS, make_item, make_set, make_task, said


def row(metric: str, choices: list[str], *likelihoods: Likelihood, gold: int = 1) -> Row:
    """Of one item of a cloze task."""
    task = make_task(CLOZE, metric=metric)
    (found,) = answered(pose(task, make_set([make_item(choices=choices, gold=gold)])), [likelihoods])
    return found


class TestMetrics:
    """Which choice is the answer."""

    @pytest.mark.parametrize(
        ("metric", "correct", "margin"),
        [
            ("Accuracy", 0, -4.0),
            ("AccuracyPerToken", 1, 4.0 - 8 / 3),
            ("AccuracyPerCharacter", 1, 4 / 1 - 8 / 4),
            ("AccuracyPerByte", 1, 4 / 1 - 8 / 5),
        ],
    )
    def test_normalised(self, metric: str, correct: int, margin: float) -> None:
        """'a' costs 4 nats in a token, a longer right answer 8 nats in 3 tokens, 4 characters, 5 bytes."""
        found = row(metric, ["a", "déja"], Likelihood(-4, 1, True), Likelihood(-8, 3, False))
        assert found.correct == correct
        assert found.margin == pytest.approx(margin)
        assert (found.chars, found.sizes) == ([1, 4], [1, 5])

    def test_first_of_equals(self) -> None:
        """As in lm-eval and llm-foundry."""
        assert row("Accuracy", ["a", "b"], *said(-1, -1), gold=0).correct == 1
        assert row("Accuracy", ["a", "b"], *said(-1, -1), gold=1).correct == 0

    def test_bits(self) -> None:
        """Of the right choice, without its space."""
        found = row("Accuracy", ["no", "yes"], *said(-9, -2 * math.log(2)))
        assert found.bits == pytest.approx(2.0)
        assert found.size == 3

    def test_second_pass(self) -> None:
        """Of letter tasks: of the right answer's own text."""
        asked = pose(make_task(LETTERS), make_set([make_item()]))
        (found,) = answered(asked, [said(-3, -1, -2, -4)], [said(-5 * math.log(2), tokens=2)])
        assert (found.correct, found.margin, found.size) == (1, 1.0, len("two"))
        assert found.bits == pytest.approx(5.0)

    def test_greedy(self) -> None:
        """Every token was the most likely one; there is nothing else to choose."""
        task = make_task(CLOZE, format="LanguageModelling", metric="Greedy")
        asked = pose(task, make_set([make_item(choices=None, gold=None, answers=["zero"])]))
        (found,) = answered(asked, [(Likelihood(-1, 1, False),)])
        assert (found.correct, found.gold, math.isnan(found.margin)) == (0, UNKNOWN, True)

    def test_lost(self) -> None:
        """An answer that is not there, or a text, ends it."""
        asked = pose(make_task(LETTERS), make_set([make_item()]))
        with pytest.raises(DataError, match="task quiz: 1 answers and 0 texts for 1 items"):
            answered(asked, [said(-3, -1, -2, -4)])
        with pytest.raises(DataError, match="task quiz, item 000: 3 scores for 4 choices"):
            answered(asked, [said(-3, -1, -2)], [said(-1)])

    @pytest.mark.parametrize("value", [math.nan, -math.inf])
    def test_not_finite(self, value: float) -> None:
        """A model that gives NaN or infinity."""
        with pytest.raises(DataError, match="the model gives NaN or infinity"):
            row("Accuracy", ["a", "b"], Likelihood(value, 1, False), Likelihood(-1, 1, True))


class TestExactMatch:
    """How a generated answer is read."""

    @pytest.mark.parametrize(
        ("written", "changes", "right"),
        [
            (" 42\n", {}, True),
            (" 42.", {}, False),
            ("so it is 6 * 7. The answer is 42\n\nQuestion: 1", {"after": "The answer is ", "stop": ["\n\n"]}, True),
            ("The answer is 41. The answer is 42", {"after": "The answer is "}, True),
            ("42 apples", {"match": "Prefix"}, True),
            ("The  Forty-Two!", {"normalisation": "Words"}, True),
            ("forty_two", {"normalisation": "Words"}, True),
            ("", {"match": "Prefix"}, False),
        ],
    )
    def test_read(self, written: str, changes: dict[str, Any], right: bool) -> None:
        """Stops, the last delimiter, what is ignored, what may follow."""
        item = make_item(choices=None, gold=None, answers=["42", "forty two"])
        assert is_right(Answer.model_validate({"tokensMax": 9} | changes), item, written) is right
