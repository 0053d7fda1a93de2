"""From tokens to steps and sequences, and what is refused because it is not whole."""

from __future__ import annotations

from typing import Any

import pytest

from cpt_api.trial import TrainWork
from cpt_trainer.errors import ConfigError
from cpt_trainer.order import Length
from cpt_trainer.segment import Segment
from make import make_digest

DATA, OTHER = make_digest("data"), make_digest("other")
LENGTHS = {digest: Length(1000, make_digest(digest)) for digest in (DATA, OTHER)}


def phase(*digests: str, until: str | None = None) -> dict[str, Any]:
    """Equal weights."""
    parts = [{"dataset": {"digest": digest}, "weight": "1"} for digest in digests]
    return {"mixture": parts} | ({"untilTokens": until} if until else {})


def make_segment(**changes: Any) -> Segment:
    """Steps of 16 sequences of 256 tokens, from 40,960 to 819,200."""
    values: dict[str, Any] = {
        "start": {"segment": {"digest": make_digest("before")}},
        "startTokens": "40960",
        "stopTokens": "819200",
        "phases": [phase(DATA)],
        "schedule": {"peakLearningRate": "1e-3"},
        "sequenceLength": 256,
        "globalBatchSize": 16,
    }
    return Segment.of(TrainWork.model_validate(values | changes), LENGTHS)


def test_steps() -> None:
    """Steps count from the beginning of the run."""
    segment = make_segment()
    assert (segment.first_step, segment.last_step, segment.batch_tokens) == (10, 200, 4096)
    at = segment.at(10)
    assert (at.step, at.samples, at.tokens) == (10, 160, 40960)


def test_phases() -> None:
    """A phase begins at the sequence that its tokens reach."""
    segment = make_segment(phases=[phase(DATA, until="409600"), phase(OTHER)])
    assert [segment.order.at(number).dataset for number in (1599, 1600)] == [DATA, OTHER]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stopTokens": "819201"}, "stopTokens is 819201: expected a multiple"),
        ({"startTokens": "100"}, "startTokens is 100"),
        ({"startTokens": "819200"}, "not beyond"),
        ({"start": {"random": {"config": {}}}}, "only a segment of a run starts beyond"),
        ({"phases": [phase(DATA, DATA)]}, "stands twice in phase 0"),
        ({"phases": [phase(DATA), phase(OTHER)]}, "untilTokens belongs to every phase but the last"),
        ({"phases": [phase(DATA, until="409600")]}, "untilTokens belongs"),
        ({"phases": [phase(DATA, until="1000"), phase(OTHER)]}, "untilTokens 1000: expected a multiple of sequence"),
        ({"phases": [{"mixture": [{"dataset": {"digest": DATA}, "weight": "0"}]}]}, "at least one must be positive"),
    ],
)
def test_refused(changes: dict[str, Any], words: str) -> None:
    """The message names the number that was found, and what was expected."""
    with pytest.raises(ConfigError, match=words):
        make_segment(**changes)
