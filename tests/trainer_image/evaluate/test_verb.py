"""`evaluate` on suites, as processes: one suite of the user's own, over all formats, on one rank and on several."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from cpt_api.exits import ExitCode
from cpt_api.result import Result
from cpt_trainer.evaluate.items import Item, Role, write_items, write_manifest
from cpt_trainer.evaluate.shards import FOLDER
from cpt_trainer.sources import list_files
from cpt_trainer.store import Address, open_address
from cpt_trainer.tables import read_items
from cpt_trainer.trial import Trial
from tiny_model import CONFIG, tiny_llama, trained_llama
from trainer_image.kit import Lab, descendants, text

pytestmark = pytest.mark.processes

ITEMS = 60
URI = "s3://corpora/items"
SUITE = """
name: ours
version: 1
description: Every format once.
tasks:
  - name: letters
    items: choices
    format: Letters
    splitLetters: Report                  # the tokenizer is a tiny one
    metric: Accuracy
    prompt: "{question}\\n{options}\\nsays"
    shots: {count: 3}
    text: {prompt: "{question} and"}
  - name: cloze
    items: choices
    format: Cloze
    metric: AccuracyPerByte
    prompt: "{question} and"
  - name: words
    items: texts
    format: LanguageModelling
    metric: Greedy
    prompt: "{question}"
  - name: written
    items: texts
    format: Generation
    metric: ExactMatch
    prompt: "{question}"
    answer: {tokensMax: 4}
groups:
  - name: accuracy
    categories:
      - name: all
        benchmarks: [{task: letters, baseline: OneOfChoices}, {task: cloze}, {task: words}, {task: written}]
  - name: bits-per-byte
    measure: BitsPerByte
    categories:
      - name: all
        benchmarks: [{task: letters}, {task: cloze}, {task: words}]
"""

CLOZE = """
name: cloze
version: 1
description: One task.
tasks:
  - {name: cloze, items: choices, format: Cloze, metric: AccuracyPerByte, prompt: "{question} and"}
groups:
  - name: accuracy
    categories:
      - {name: all, benchmarks: [{task: cloze}]}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A base, and items of the user."""
    lab = Lab(tmp_path)
    # one whose tokenizer knows letters
    trained_llama(tmp_path / "sources/model", [text(seed, 200) + " A B C D" for seed in range(5)], vocabulary=320)
    tiny_llama(tmp_path / "sources/wordy")
    folder = tmp_path / "sources/items"
    folder.mkdir()
    store = open_address(Address(str(folder)))
    files = [
        write_items(store, "", "choices", [_choices(number) for number in range(ITEMS + 3)], "made up"),
        write_items(store, "", "texts", [_text(number) for number in range(ITEMS)], "made up"),
    ]
    write_manifest(store, "", files)
    (folder / "ours.yaml").write_text(SUITE)
    (folder / "cloze.yaml").write_text(CLOZE)
    return lab


def _choices(number: int) -> Item:
    chance = random.Random(number)
    role = Role.SHOT if number >= ITEMS else Role.SCORED
    choices = tuple(text(1000 * number + each, chance.randint(1, 5)) + f" {each}" for each in range(4))
    fields = {"question": text(number, 9)}
    return Item(id=str(number), role=role, fields=fields, choices=choices, gold=chance.randrange(4))


def _text(number: int) -> Item:
    words = text(7000 + number, 12).split()
    return Item(id=str(number), fields={"question": " ".join(words[:9])}, answers=(" ".join(words[9:]),))


def suites(lab: Lab, name: str) -> list[dict[str, Any]]:
    """That one, with the user's items."""
    return [{"suite": name, "items": {"uri": URI, "digest": list_files(lab.store, URI).digest}}]


def evaluation(lab: Lab, attempt: int = 1, **changes: Any) -> Trial:
    """Of the base, on the user's suite."""
    work = {"model": lab.reference("model"), "suites": suites(lab, "ours")}
    return lab.spec({"type": "Evaluate", "evaluate": work | changes}, attempt)


def table(lab: Lab, trial: Trial) -> bytes:
    """Its bytes."""
    (score,) = lab.result(trial).suites
    return lab.store.get(trial.data + score.table)


def failed(lab: Lab, trial: Trial, code: ExitCode) -> str:
    """Why it did not work."""
    assert lab.run(trial) == code, lab.log_of(trial).read_text()[-3000:]
    return str(json.loads(lab.log_of(trial).read_text().splitlines()[-1])["message"])


def test_whole(lab: Lab) -> None:
    """Items, prompts, scores, tables and the suite's numbers; nothing that was needed on the way is left."""
    trial = evaluation(lab)
    assert lab.run(trial) == ExitCode.COMMITTED, lab.log_of(trial).read_text()[-3000:]
    result: Result = lab.result(trial)
    (score,) = result.suites
    assert (score.suite, score.items) == ("ours", 4 * ITEMS)
    assert [(group.group, group.measure) for group in score.groups] == [
        ("accuracy", "Accuracy"),
        ("bits-per-byte", "BitsPerByte"),
    ]
    assert all(group.standard_error > 0 for group in score.groups)
    for output in result.outputs:
        data = lab.store.get(trial.data + output.key)
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (output.sha256, output.bytes)
    assert [output.key.split("/")[0] for output in result.outputs] == ["tables", "prompts"]
    items = read_items(lab.store, trial.data + score.table)
    assert sorted(set(items.task.tolist())) == ["cloze", "letters", "words", "written"]
    assert result.flops
    assert result.numbers["tokens"] > ITEMS * 20
    assert not [entry for entry in lab.store.list(trial.data) if FOLDER in entry.key]


def test_ranks_and_a_kill_do_not_show(lab: Lab) -> None:
    """Two ranks, killed half-way, and three that go on: the table of one, byte for byte."""
    alone = evaluation(lab)
    assert lab.run(alone) == ExitCode.COMMITTED
    expected = table(lab, alone)
    other = Lab(lab.folder / "other")
    (other.folder / "sources").symlink_to(lab.folder / "sources")
    first = evaluation(other, attempt=1)
    process = other.start(first, processes=2)
    end = time.monotonic() + 120
    while not any(FOLDER in entry.key for entry in other.store.list(first.data)):
        assert process.poll() is None, other.log_of(first).read_text()[-3000:]
        assert time.monotonic() < end
        time.sleep(0.02)
    for pid in reversed(descendants(process.pid)):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    again = evaluation(other, attempt=2)
    assert other.run(again, processes=3) == ExitCode.COMMITTED, other.log_of(again).read_text()[-3000:]
    assert table(other, again) == expected
    assert (other.result(again).attempt, other.result(again).numbers["worldSize"]) == (2, 3)


def test_beside_held_out_text(lab: Lab) -> None:
    """Both in one trial; the text's score is what it is alone."""
    held_out, model = lab.dataset("python"), lab.reference("wordy")
    alone = lab.evaluate([held_out], model=model)
    both = lab.evaluate([held_out], model=model, suites=suites(lab, "cloze"))
    assert (lab.run(alone), lab.run(both)) == (ExitCode.COMMITTED, ExitCode.COMMITTED)
    assert lab.result(both).held_out == lab.result(alone).held_out
    assert len(lab.result(both).suites) == 1


class TestRefused:
    """Each with a message that names what is wrong; no number over what is left."""

    def test_unknown_suite(self, lab: Lab) -> None:
        """Neither shipped nor beside the items."""
        trial = evaluation(lab, suites=suites(lab, "mmlux"))
        assert "there is no suite 'mmlux'" in failed(lab, trial, ExitCode.DATA)

    def test_missing_task(self, lab: Lab) -> None:
        """A shipped suite whose items are not there."""
        trial = evaluation(lab, suites=suites(lab, "mmlu"))
        assert "names no items 'mmlu'" in failed(lab, trial, ExitCode.DATA)

    def test_bad_suite(self, lab: Lab) -> None:
        """File, line and reason."""
        (lab.folder / "sources/items/ours.yaml").write_text(SUITE.replace("metric: Greedy", "metric: Accuracy"))
        message = failed(lab, evaluation(lab), ExitCode.CONFIG)
        assert message.startswith(f"{URI}/ours.yaml:")
        assert "metric Accuracy does not go with format LanguageModelling" in message

    def test_changed_byte(self, lab: Lab) -> None:
        """The manifest knows better."""
        file = lab.folder / "sources/items/choices.jsonl.gz"
        file.write_bytes(file.read_bytes()[:-1] + b"x")
        assert "its bytes have changed" in failed(lab, evaluation(lab), ExitCode.DATA)

    def test_no_room(self, lab: Lab) -> None:
        """A prompt that the model does not see whole."""
        tiny_llama(lab.folder / "sources/short", **(CONFIG | {"max_position_embeddings": 24}))
        trial = evaluation(lab, model=lab.reference("short"))
        assert lab.run(trial) in (ExitCode.DATA, ExitCode.CONFIG)
        assert "tokens" in lab.log_of(trial).read_text().splitlines()[-1]
