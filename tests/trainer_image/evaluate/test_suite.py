"""Suites: what is accepted, what is refused and where, and what their digest covers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cpt_trainer.errors import ConfigError
from cpt_trainer.evaluate.items import Item
from cpt_trainer.evaluate.prompts import pose
from cpt_trainer.evaluate.suite_file import parse_suite, read_suite, shipped
from cpt_trainer.evaluate.template import fill, holes
from evaluation_suites import CLOZE, LETTERS, make_set, make_suite, make_task, suite_text

GOOD = suite_text(make_suite([CLOZE, LETTERS]))


def line_of(text: str, sign: str) -> int:
    """From 1."""
    return next(number for number, line in enumerate(text.splitlines(), start=1) if sign in line)


class TestTemplate:
    """Texts with holes."""

    def test_values_are_no_templates(self) -> None:
        """Braces in an item stay what they are."""
        assert fill("{question}\n{{kept}}", {"question": "Who wrote {this}?"}) == "Who wrote {this}?\n{kept}"

    @pytest.mark.parametrize("template", ["{", "}", "{}", "{0}", "{a.b}", "{a[0]}", "{a!r}", "{a:>9}", "{A}"])
    def test_names_only(self, template: str) -> None:
        """Nothing is looked up, formatted or converted."""
        with pytest.raises(ValueError, match="template"):
            holes(template)


class TestRefused:
    """Each with file, line and reason."""

    @pytest.mark.parametrize(
        ("good", "bad", "reason"),
        [
            ("metric: Accuracy", "metric: Greedy", r"tasks\[0\]: metric Greedy does not go with format Cloze"),
            ("metric: Accuracy", "metric: acc", r"tasks\[0\].metric: Input should be"),
            ("  prompt: '{question}'", "  prompt: '{question} '", r"tasks\[0\].prompt: it ends in white space"),
            ("  prompt: '{question}'", "  prompt: '{options}'", r"tasks\[0\]: a prompt has the hole {options}"),
            ("  prompt: '{question}'", "  prompt: '{question'", r"tasks\[0\].prompt: template"),
            ("version: 1", "version: 0", "version: Input should be greater"),
            ("version: 1", "version: 1\nversion: 2", "'version' stands twice"),
            (
                "task: quiz",
                "task: quizz",
                r"groups\[0\].categories\[0\].benchmarks\[1\].task: there is no task 'quizz'",
            ),
            ("task: quiz", "task: quiz\n      baseline: '1.0'", "a baseline is below 1"),
            (
                "task: quiz",
                "task: quiz\n      baseline: 0.25",
                r"benchmarks\[1\].baseline: 0.25 is not a string: quote it",
            ),
            ("rescale: true", "rescale: 1.5", "rescale"),
            ("measure: Accuracy", "measure: Loss", r"groups\[0\].measure"),
            ("name: quiz", "name: cloze", "task 'cloze' stands twice"),
            ("onMissing: Fail", "onMissing: Average", "onMissing"),
            ("onMissing: Fail", "onMissing: [", "expected"),
        ],
    )
    def test_line(self, good: str, bad: str, reason: str) -> None:
        """The line is that of the part, or of the nearest that is there."""
        assert good in GOOD
        text = GOOD.replace(good, bad, 1)
        with pytest.raises(ConfigError) as error:
            parse_suite(text, "my.yaml")
        assert error.match(rf"^my\.yaml:\d+: .*{reason}")

    def test_line_of_a_value(self) -> None:
        """Where a reader looks."""
        text = GOOD.replace("metric: Accuracy", "metric: acc", 1)
        with pytest.raises(ConfigError, match=rf"^my.yaml:{line_of(text, 'metric: acc')}: "):
            parse_suite(text, "my.yaml")

    def test_line_of_what_a_group_asks(self) -> None:
        """Also where only the whole suite shows what is wrong."""
        text = GOOD.replace("task: quiz", "task: quizz")
        with pytest.raises(ConfigError, match=rf"^my.yaml:{line_of(text, 'task: quizz')}: "):
            parse_suite(text, "my.yaml")

    def test_unknown(self) -> None:
        """A name that is neither shipped nor a file."""
        with pytest.raises(ConfigError, match=r"there is no suite 'mlu': expected one of .*mmlu.* or a \.yaml file"):
            read_suite("mlu")

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"text": {"prompt": "x"}}, "with `text`"),
            ({"answer": {"tokensMax": 5}}, "with `answer`"),
            ({"shots": {"count": 2, "pick": "PerItem"}}, "a seed belongs to pick: PerItem"),
            ({"shots": {"count": 2, "seed": 1}}, "a seed belongs to pick: PerItem"),
            ({"format": "Schema"}, "{choice}"),
        ],
    )
    def test_parts(self, changes: dict[str, Any], reason: str) -> None:
        """A part that the format does not use is not accepted and ignored."""
        with pytest.raises(ValueError, match=reason):
            make_task(**changes)


class TestDigest:
    """Of what a suite says."""

    def test_layout(self) -> None:
        """Comments, order of keys and defaults that are written out change nothing."""
        assert parse_suite("# mine\n" + GOOD, "a.yaml").digest == make_suite([CLOZE, LETTERS]).digest
        assert make_suite([CLOZE | {"delimiter": " "}]).digest == make_suite([CLOZE]).digest

    def test_content(self) -> None:
        """Any other prompt is another suite."""
        assert make_suite([CLOZE | {"prompt": "{question}?"}]).digest != make_suite([CLOZE]).digest

    @pytest.mark.parametrize("name", shipped())
    def test_shipped(self, name: str) -> None:
        """Frozen: a change here changes what numbers mean, and raises the suite's version."""
        golden = dict(line.split() for line in Path(__file__).with_name("suites.golden").read_text().splitlines())
        assert golden[name] == f"{read_suite(name).version}:{read_suite(name).digest}"


def test_documented() -> None:
    """The suite that docs/evaluation.md shows is one, and so is its item."""
    text = (Path(__file__).parents[3] / "docs/evaluation.md").read_text()
    [shown] = re.findall(r"```yaml\n(name: .*?)```", text, re.DOTALL)
    suite = parse_suite(shown, "docs/evaluation.md")
    item = Item.model_validate_json(re.findall(r"`({\"id\".*?})`", text, re.DOTALL)[0].replace("\n", " "))
    assert len(pose(suite.tasks[0].model_copy(update={"shots": None}), make_set([item])).items) == 1


@pytest.mark.processes
def test_light() -> None:
    """Reading suites and comparing tables needs no torch."""
    modules = "suite_file, items, prompts, answers, group, compare, sanity, fetch, commands"
    program = f"import sys; from cpt_trainer.evaluate import {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
