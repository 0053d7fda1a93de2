"""Suites that are asked in the training loop: training does not notice, and the points are those of an evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cpt_api.layout import progress_key
from cpt_api.result import Progress
from cpt_api.trial import EvaluateWork
from cpt_trainer import evaluate, train
from cpt_trainer.curves import Curves
from cpt_trainer.errors import MissingError
from cpt_trainer.evaluate.items import Item
from cpt_trainer.sources import list_files
from cpt_trainer.trial import Trial
from evaluation_suites import write_quiz
from trainer_image.kit import BATCH_TOKENS, NAMESPACE, Lab, text

STEPS = 12
URI = "s3://corpora/items"

pytestmark = pytest.mark.usefixtures("one_thread_here")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Questions in the words of the datasets."""
    write_quiz(tmp_path / "sources/items", [_question(number) for number in range(24)])
    return Lab(tmp_path)


def _question(number: int) -> Item:
    said, other = text(number, 12).split(), text(9000 + number, 3)
    return Item(id=str(number), fields={"question": " ".join(said[:9])}, choices=(other, " ".join(said[9:])), gold=1)


def quiz(lab: Lab) -> list[dict[str, Any]]:
    """As a trial names it."""
    return [{"suite": "quiz", "items": {"uri": URI, "digest": list_files(lab.store, URI).digest}}]


def make_trial(lab: Lab, *, asked: bool = True, **changes: Any) -> Trial:
    """One that is asked every fourth step."""
    observe = {"everyTokens": str(4 * BATCH_TOKENS)} | ({"suites": quiz(lab)} if asked else {})
    return lab.train({lab.dataset("python"): "1"}, STEPS, run={"observe": observe}, **changes)


def points(lab: Lab, trial: Trial) -> dict[int, float]:
    """By step."""
    lines = map(json.loads, lab.store.get(f"{trial.data}metrics/attempt-1.jsonl").splitlines())
    return {line["step"]: line["suites"]["quiz"] for line in lines if line.get("suites")}


@pytest.mark.parametrize("precision", ["Float32", "BFloat16"])
def test_training_does_not_notice(lab: Lab, precision: str) -> None:
    """The same losses to the last bit, whether somebody asks or not."""
    losses = []
    for asked in (True, False):
        trial = make_trial(lab, asked=asked, precision=precision)
        train.run(trial)
        assert len(points(lab, trial)) == (4 if asked else 0)
        losses.append(lab.losses(trial))
        lab.store.delete(f"trials/{NAMESPACE}/{trial.digest}/result.json")
        for entry in list(lab.store.list(trial.data)):
            lab.store.delete(entry.key)
    assert losses[0] == losses[1]


def test_points(lab: Lab) -> None:
    """At the start, in between, at the end; the last is what an Evaluate trial of that end says."""
    trial = make_trial(lab)
    train.run(trial)
    drawn = points(lab, trial)
    assert list(drawn) == [0, 4, 8, STEPS]
    assert len(set(drawn.values())) > 1
    progress = Progress.believed(lab.store.get(progress_key(NAMESPACE, trial.digest)), trial.digest)
    assert [point.value for point in progress.suites] == [drawn[STEPS]]
    work = EvaluateWork.model_validate({"segment": {"digest": trial.digest}, "suites": quiz(lab)})
    judged = lab.spec({"type": "Evaluate", "evaluate": work.to_dict()})
    evaluate.run(judged)
    (score,) = lab.result(judged).suites
    assert (score.groups[0].group, score.groups[0].value) == ("accuracy", drawn[STEPS])
    assert score.groups[0].standard_error == progress.suites[0].standard_error


@pytest.mark.processes
def test_on_two_ranks(lab: Lab) -> None:
    """All ranks ask, and one tells."""
    trial = make_trial(lab)
    assert lab.run(trial, processes=2) == 0
    two = points(lab, trial)
    assert list(two) == [0, 4, 8, STEPS]


def test_no_finite_numbers(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that gives none draws no point, and the run ends as it would have."""
    honest = Curves.points

    def spoiled(self: Curves) -> Any:
        weight = self.trainee.lm.get_input_embeddings().weight  # type: ignore[operator]
        kept = weight.detach().clone()
        with torch.no_grad():
            weight.fill_(float("nan"))
            found = honest(self)
            weight.copy_(kept)
        return found

    monkeypatch.setattr(Curves, "points", spoiled)
    trial = make_trial(lab)
    train.run(trial)
    assert lab.result(trial).numbers["steps"] == STEPS
    assert points(lab, trial) == {}


def test_unknown_suite(lab: Lab) -> None:
    """It is found before anything is computed."""
    suites = [quiz(lab)[0] | {"suite": "theirs"}]
    trial = lab.train({lab.dataset("python"): "1"}, STEPS, run={"observe": {"suites": suites}})
    with pytest.raises(MissingError, match="there is no suite 'theirs'"):
        train.run(trial)
