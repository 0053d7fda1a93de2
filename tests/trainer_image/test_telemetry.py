"""What a run says about itself: lines, progress, series."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from cpt_api.layout import progress_key
from cpt_api.result import CurvePoint, HeldOutScore, Progress
from cpt_trainer.checkpoint import Statistics
from cpt_trainer.store import FaultyStore
from cpt_trainer.telemetry import METRICS, Step, Telemetry, earlier_steps
from cpt_trainer.trial import Trial
from make import make_digest
from trainer_image.conftest import free_ports
from trainer_image.kit import NAMESPACE, Lab

DATASETS = [make_digest(f"dataset {n}") for n in range(9)]


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    """Of one dataset."""
    lab = Lab(tmp_path)
    return lab.train({lab.dataset("python"): "1"}, 8)


def make_step(step: int, loss: float | None = 2.0, norm: float | None = 1.0) -> Step:
    """One second of a hundred tokens."""
    return Step(step, step * 100, loss, 1e-3, norm, dict.fromkeys(DATASETS, 2.5), 1e6, 1.0, 0.25)


def make_telemetry(trial: Trial) -> Telemetry:
    """After three steps."""
    telemetry = Telemetry(trial, planned_tokens=1000, micro_batch=4)
    for number in (1, 2, 3):
        telemetry.note(make_step(number), 100)
    return telemetry


class TestLines:
    """JSON lines in the store."""

    def test_flush(self, trial: Trial) -> None:
        """A line for each step, and the losses come back exactly."""
        telemetry = Telemetry(trial, 1000, 4)
        losses = [1 / 3, 2.0**0.5, None]
        for number, loss in enumerate(losses, 1):
            telemetry.note(make_step(number, loss, None if loss is None else 1.0), 100)
        telemetry.flush()
        past = earlier_steps(trial, until=3)
        assert [past[n].loss for n in (1, 2, 3)] == losses
        assert [past[n].skipped for n in (1, 2, 3)] == [False, False, True]

    def test_later_attempt(self, trial: Trial) -> None:
        """Of a step that was made again the later attempt counts; what it has not reached yet is left out."""
        make_telemetry(trial).flush()
        document = trial.document.model_copy(update={"attempt": 10})
        again = Telemetry(Trial(document, trial.store), 1000, 4)
        again.note(make_step(2, 9.0), 100)
        again.flush()
        assert {step: past.loss for step, past in earlier_steps(trial, until=2).items()} == {1: 2.0, 2: 9.0}

    def test_scores(self, trial: Trial) -> None:
        """Scores stand between the steps."""
        telemetry = make_telemetry(trial)
        text = DATASETS[0]
        score = HeldOutScore(text=text, bits_per_byte=1.5, standard_error=0.1, documents=2, bytes=10, table="t")
        telemetry.note_scores(3, [score])
        assert json.loads(telemetry.lines[-1]) == {"step": 3, "heldOut": {text.short: 1.5}}


class TestProgress:
    """progress.json."""

    def test_put(self, trial: Trial) -> None:
        """How far the attempt is, and what is committed."""
        telemetry = make_telemetry(trial)
        telemetry.committed = Statistics(committed_step=2, committed_tokens=200)
        telemetry.put_progress()
        progress = Progress.believed(trial.store.get(progress_key(NAMESPACE, trial.digest)), trial.digest)
        assert (progress.step, progress.tokens, progress.planned_tokens) == (3, 300, 1000)
        assert (progress.committed_step, progress.committed_tokens, progress.micro_batch) == (2, 200, 4)

    def test_thread(self, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
        """A store that fails does not end the thread: the next time will do."""
        store = FaultyStore(trial.store, fail_at=1, failures=2)
        telemetry = make_telemetry(Trial(trial.document, store))
        monkeypatch.setattr("cpt_trainer.telemetry.PROGRESS_SECONDS", 0.01)
        telemetry.start()
        key = progress_key(NAMESPACE, trial.digest)
        while not any(entry.key == key for entry in trial.store.list("trials/")):
            pass
        telemetry.close()
        assert store.writes >= 3


class TestMetrics:
    """/metrics."""

    def scrape(self, telemetry: Telemetry) -> list[str]:
        """Lines of values."""
        port = telemetry.trial.metrics_port
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            return [line for line in answer.read().decode().splitlines() if not line.startswith("#")]

    def test_series(self, trial: Trial) -> None:
        """Every name is served, and there are at most 34 series, however many datasets and texts there are."""
        [port] = free_ports(1)
        telemetry = make_telemetry(Trial(trial.document, trial.store, metrics_port=port))
        telemetry.note_committed(Statistics(committed_step=2))
        telemetry.mfu = 0.4
        telemetry.epochs = dict.fromkeys(DATASETS, 0.5)
        telemetry.held_out = tuple(
            HeldOutScore(text=text, bits_per_byte=1.5, standard_error=0.1, documents=2, bytes=10, table="t")
            for text in DATASETS
        )
        telemetry.suites = tuple(CurvePoint(suite=f"s{n}", value=0.5, standard_error=0.1) for n in range(4))
        telemetry.start()
        try:
            lines = self.scrape(telemetry)
        finally:
            telemetry.close()
        assert {line.split("{")[0].split(" ")[0] for line in lines} == set(METRICS)
        assert len(lines) <= 34
        assert "cpt_train_tokens_total 300.0" in lines

    def test_spike(self, trial: Trial) -> None:
        """A loss far above those before it is counted."""
        telemetry = Telemetry(trial, 10**6, 4)
        for number in range(1, 140):
            telemetry.note(make_step(number, 2.0 + number % 3 / 100), 100)
        telemetry.note(make_step(140, 3.0), 100)
        assert telemetry.spikes == 1
