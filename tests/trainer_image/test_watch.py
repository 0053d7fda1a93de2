"""SIGTERM and silence, by a clock that the test turns."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field

import pytest

from cpt_trainer.errors import Hang, Terminated, TrainerExit
from cpt_trainer.watch import Phase, Watch


@dataclass
class Stage:
    """A watch, its time, and how it ended the process."""

    now: float = 0.0
    ends: list[TrainerExit] = field(default_factory=list)

    def watch(self) -> Watch:
        """By this clock."""
        return Watch(clock=lambda: self.now, end=self.ends.append)


@pytest.fixture
def stage() -> Stage:
    """At time zero."""
    return Stage()


class TestSignal:
    """SIGTERM."""

    def test_while_training(self, stage: Stage) -> None:
        """It is a wish: nothing is raised, and the loop sees it."""
        with stage.watch() as watch:
            watch.enter(Phase.TRAINING)
            os.kill(os.getpid(), signal.SIGTERM)
            assert watch.is_stopping

    def test_before_training(self, stage: Stage) -> None:
        """Where nothing is lost the process ends where it stands, and says what is committed."""
        with stage.watch() as watch:
            watch.committed_step = 7
            with pytest.raises(Terminated, match="step 7 is committed") as raised:
                os.kill(os.getpid(), signal.SIGTERM)
            assert raised.value.committed_step == 7

    def test_while_saving(self, stage: Stage) -> None:
        """A second signal does not cut the last save short."""
        with stage.watch() as watch:
            watch.enter(Phase.SAVING)
            os.kill(os.getpid(), signal.SIGTERM)
            assert watch.is_stopping

    def test_while_scoring(self, stage: Stage) -> None:
        """That takes longer than a step: the loop fulfils the wish when it is over."""
        with stage.watch() as watch:
            watch.enter(Phase.TRAINING)
            watch.enter(Phase.SCORING)
            os.kill(os.getpid(), signal.SIGTERM)
            stage.now += 100
            watch.look()
            assert stage.ends == []
            watch.enter(Phase.TRAINING)
            assert watch.is_stopping

    def test_handler(self, stage: Stage) -> None:
        """Afterwards signals mean what they meant before."""
        before = signal.getsignal(signal.SIGTERM)
        with stage.watch():
            assert signal.getsignal(signal.SIGTERM) != before
        assert signal.getsignal(signal.SIGTERM) == before

    @pytest.mark.parametrize(
        ("step_seconds", "wait_seconds", "ends"), [(1, 9, 0), (1, 11, 1), (20, 39, 0), (20, 41, 1)]
    )
    def test_no_answer(self, stage: Stage, step_seconds: float, wait_seconds: float, ends: int) -> None:
        """A signal that no step follows within 10 s, or two steps, ends the process without saving."""
        with stage.watch() as watch:
            watch.enter(Phase.TRAINING)
            for _ in range(3):
                stage.now += step_seconds
                watch.step()
            os.kill(os.getpid(), signal.SIGTERM)
            assert watch.is_stopping
            stage.now += wait_seconds
            watch.look()
            assert [type(end) for end in stage.ends[:1]] == [Terminated] * ends


class TestSilence:
    """Hangs."""

    @pytest.mark.parametrize(
        ("step_seconds", "silent_seconds", "ends"),
        [(1, 299, 0), (1, 301, 1), (40, 399, 0), (40, 401, 1)],
    )
    def test_limits(self, stage: Stage, step_seconds: float, silent_seconds: float, ends: int) -> None:
        """Ten medians, at least 300 s, without a step are a hang."""
        watch = stage.watch()
        watch.enter(Phase.TRAINING)
        for _ in range(3):
            stage.now += step_seconds
            watch.step()
        stage.now += silent_seconds
        watch.look()
        assert [type(end) for end in stage.ends] == [Hang] * ends

    def test_only_while_training(self, stage: Stage) -> None:
        """Loading and saving have deadlines of their own."""
        watch = stage.watch()
        for phase in (Phase.OPEN, Phase.SAVING):
            watch.enter(phase)
            stage.now += 10_000
            watch.look()
        assert stage.ends == []

    def test_beat(self, stage: Stage) -> None:
        """Waiting for data is no hang, nor does it change the median of steps."""
        watch = stage.watch()
        watch.enter(Phase.TRAINING)
        for _ in range(10):
            stage.now += 200
            watch.beat()
            watch.look()
        assert stage.ends == []
