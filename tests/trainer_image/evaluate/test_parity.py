"""lm-eval 0.4.13 says the same about the same texts, on real items with a real tokenizer.

It runs in an environment of its own and is asked by one process for all tasks; a model of random weights says something
else about each choice, which is what a comparison needs.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from cpt_trainer.evaluate.requests import Completion, Likelihood, Question
from evaluation_data import lm_eval_python
from real_items import questions
from smollm2 import smollm2_folder
from tiny_model import neox_llama, scorer_of, trained_llama

pytestmark = pytest.mark.processes

HARNESS = Path(__file__).parents[3] / "benchmarks/peers/harness.py"
PER_TOKEN = 1e-4
CLOSE = 2e-4
"""Two choices that are as near may change places."""
TASKS: Mapping[str, Sequence[tuple[str, int, int]]] = {
    "mmlu": [("mmlu/astronomy", 5, 100), ("mmlu/high_school_us_history", 5, 20), ("mmlu/abstract_algebra", 5, 80)],
    "arc_easy": [("arc_easy", 0, 200)],
    "arc_challenge": [("arc_challenge", 3, 200)],
    "hellaswag": [("hellaswag", 0, 200)],
    "piqa": [("piqa", 2, 200)],
    "winogrande": [("winogrande", 0, 200)],
    "boolq": [("boolq", 0, 200)],
    "copa": [("copa", 0, 100), ("copa", 1, 100)],
    "last_word": [("last_word", 0, 200)],
}
"""Subject, shots and items."""
REAL_ITEMS = 40
STOP = (" the", "\n\n", ".")


@dataclass(frozen=True)
class Both:
    """What we and the reference say."""

    asked: Sequence[Question]
    ours: Sequence[Sequence[Likelihood]]
    theirs: Sequence[Sequence[tuple[float, bool]]]


def reference(
    model: Path, folder: Path, asked: Sequence[Question], completions: Sequence[Completion] = ()
) -> tuple[list[list[tuple[float, bool]]], list[str]]:
    """Log-probability and greediness of each pair, and texts."""
    requests, answers = folder / "requests.json", folder / "answers.json"
    pairs = [(pair.context, pair.continuation) for question in asked for pair in question.pairs]
    texts = [(one.context, one.stop, one.tokens_max) for one in completions]
    requests.write_text(json.dumps({"pairs": pairs, "completions": texts}))
    command: list[str | Path] = [lm_eval_python(), HARNESS, model, requests, answers, "8"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    content = json.loads(answers.read_text())
    found = iter(content["pairs"])
    return [[next(found) for _ in question.pairs] for question in asked], content["completions"]


def answered(model: Path, folder: Path, asked: Mapping[str, Sequence[Question]]) -> Mapping[str, Both]:
    """By kind of task; each is asked once for all of them."""
    everything = [question for some in asked.values() for question in some]
    theirs, _ = reference(model, folder, everything)
    ours = scorer_of(model).likelihoods(everything)
    found, first = {}, 0
    for kind, some in asked.items():
        here = slice(first, first + len(some))
        found[kind] = Both(some, ours[here], theirs[here])
        first += len(some)
    return found


def require_parity(given: Both) -> None:
    """The same log-probability of every choice, and the same best one."""
    for question, ours, theirs in zip(given.asked, given.ours, given.theirs, strict=True):
        for mine, (logprob, greedy) in zip(ours, theirs, strict=True):
            assert mine.logprob == pytest.approx(logprob, abs=PER_TOKEN * mine.tokens), question.item
            assert mine.greedy == greedy, question.item
        own, other = [one.logprob for one in ours], [logprob for logprob, _ in theirs]
        best = own.index(max(own))
        assert other[best] >= max(other) - CLOSE, question.item


@pytest.fixture(scope="module")
def asked() -> Mapping[str, Sequence[Question]]:
    """By kind of task."""
    return {
        kind: [q for task, shots, items in parts for q in questions(task, items, shots)]
        for kind, parts in TASKS.items()
    }


@pytest.fixture(scope="module")
def model(asked: Mapping[str, Sequence[Question]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small, and so is its vocabulary, since the reference computes all of it for each token."""
    texts = [q.pairs[0].context[-500:] + q.pairs[0].continuation for some in asked.values() for q in some]
    return trained_llama(tmp_path_factory.mktemp("model"), texts)


@pytest.fixture(scope="module")
def both(
    asked: Mapping[str, Sequence[Question]], model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Both]:
    """What is said about 200 items of each."""
    return answered(model, tmp_path_factory.mktemp("reference"), asked)


@pytest.mark.parametrize("kind", TASKS)
def test_parity(both: Mapping[str, Both], kind: str) -> None:
    """The same log-probability of every choice, to 1e-4 a token, and the same best one; of 200 items."""
    assert len(both[kind].asked) == 200
    require_parity(both[kind])


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Both]:
    """What is said by SmolLM2-135M."""
    asked = {kind: questions(task, REAL_ITEMS, shots) for kind, [(task, shots, _), *_] in TASKS.items()}
    return answered(smollm2_folder(), tmp_path_factory.mktemp("real"), asked)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", TASKS)
def test_real_model(real: Mapping[str, Both], kind: str) -> None:
    """A model that has learned something: of 40 items."""
    assert len(real[kind].asked) == REAL_ITEMS
    require_parity(real[kind])


def test_opinions(both: Mapping[str, Both]) -> None:
    """The model has some: a comparison of answers that are all alike would prove nothing."""
    for kind in ("mmlu", "hellaswag", "piqa"):
        best = [[one.logprob for one in row].index(max(one.logprob for one in row)) for row in both[kind].ours]
        assert len(set(best)) > 1


def test_texts(model: Path, tmp_path: Path) -> None:
    """The same texts, up to the same stop strings."""
    asked = [
        Completion(q.task, q.item, q.prefix_group, q.pairs[0].context, STOP, 8 + int(q.item) % 17)
        for task, shots in (("arc_easy", 0), ("arc_challenge", 3), ("boolq", 0))
        for q in questions(task, 20, shots)
    ]
    _, theirs = reference(model, tmp_path, [], asked)
    ours = scorer_of(model).completions(asked)
    assert ours == theirs
    assert any(len(text) < 20 for text in ours)


@pytest.mark.parametrize("bos", [False, True], ids=["not added", "added"])
def test_beginnings(tmp_path: Path, bos: bool) -> None:
    """Texts are begun as the reference begins them: without a context, with a BOS that is added or is not."""
    model = neox_llama(tmp_path / "model", "<|padding|>", adds_bos=bos)
    asked = questions("piqa", 10) + [
        Question(q.task, f"bare {q.item}", q.prefix_group, tuple(type(p)("", p.continuation) for p in q.pairs))
        for q in questions("piqa", 10)
    ]
    theirs, _ = reference(model, tmp_path, asked)
    scorer = scorer_of(model)
    for ours, others in zip(scorer.likelihoods(asked), theirs, strict=True):
        assert [one.logprob for one in ours] == pytest.approx([logprob for logprob, _ in others], abs=1e-4)
    assert (scorer.observed.bos is not None) == bos
