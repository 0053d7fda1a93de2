"""The learning rate as a function of tokens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_api.trial import Schedule
from cpt_trainer.schedule import learning_rate


def make_schedule(**changes: Any) -> Schedule:
    """Peak 1e-3, warm-up 1000 tokens, cooldown from 8000 to 10,000."""
    values = {
        "peakLearningRate": "1e-3",
        "warmupTokens": "1000",
        "cooldown": {"startTokens": "8000", "endTokens": "10000"},
    }
    return Schedule.model_validate({key: value for key, value in (values | changes).items() if value is not None})


def at(schedule: Schedule, tokens: int) -> float:
    """Of an endlessly short step there."""
    return learning_rate(schedule, tokens, tokens)


@pytest.mark.parametrize(
    ("tokens", "share"),
    [(0, 0), (250, 0.25), (1000, 1), (5000, 1), (8000, 1), (8500, 0.5), (9125, 0.25), (10_000, 0), (12_000, 0)],
)
def test_trapezoid(tokens: int, share: float) -> None:
    """Linear up, constant, then 1 - sqrt(x) down to zero, and zero after it."""
    assert at(make_schedule(), tokens) == pytest.approx(1e-3 * share)


@pytest.mark.parametrize(("shape", "middle"), [("Linear", 0.5), ("Cosine", 0.5), ("OneMinusSqrt", 1 - 0.5**0.5)])
def test_shapes(shape: str, middle: float) -> None:
    """Every shape goes from one to zero."""
    schedule = make_schedule(cooldown={"startTokens": "8000", "endTokens": "10000", "shape": shape})
    assert at(schedule, 8000) == pytest.approx(1e-3)
    assert at(schedule, 9000) == pytest.approx(1e-3 * middle)
    assert at(schedule, 10_000) == 0


def test_step() -> None:
    """A step has the rate at its middle: neither the first nor the last is lost at rate zero."""
    schedule = make_schedule()
    assert learning_rate(schedule, 0, 100) == pytest.approx(5e-5)
    assert learning_rate(schedule, 9900, 10_000) > 0


@given(st.integers(0, 20_000))
@settings(deadline=None)
def test_trunk(tokens: int) -> None:
    """A branch that cools down later has the trunk's rates until then, bit by bit."""
    trunk = make_schedule(cooldown=None)
    branch = make_schedule(cooldown={"startTokens": "20000", "endTokens": "25000"})
    assert at(trunk, tokens) == at(branch, tokens)


def test_no_warmup() -> None:
    """Without a warm-up the first step has the peak."""
    assert learning_rate(make_schedule(warmupTokens=None, cooldown=None), 0, 64) == 1e-3
