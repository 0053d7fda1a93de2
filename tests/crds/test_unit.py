"""Units: what decisions hold, and what people read."""

from __future__ import annotations

import pytest

from cpt_api.trial import DecisionMetric, Measure, SuiteGroup
from cpt_api.unit import BITS, BITS_OF_ANSWERS, POINTS, Unit, unit_of
from cpt_api.values import Amount
from make import make_digest


def make_metric(measure: Measure | None) -> DecisionMetric:
    """Of a suite, or of a text."""
    if measure is None:
        return DecisionMetric.model_validate({"heldOut": [{"digest": make_digest("text")}], "threshold": "0.02"})
    group = SuiteGroup(suite="mmlu", group="g", measure=measure)
    return DecisionMetric(suite=group, threshold=Amount.parse("1"))


@pytest.mark.parametrize(
    ("measure", "unit"), [(None, BITS), (Measure.BITS_PER_BYTE, BITS_OF_ANSWERS), (Measure.ACCURACY, POINTS)]
)
def test_of_a_metric(measure: Measure | None, unit: Unit) -> None:
    """By what it averages; suites rest on questions, texts on documents."""
    assert unit_of(make_metric(measure)) == unit


def test_points() -> None:
    """Decisions hold what is missing from a hundred; gains keep their sign."""
    assert POINTS.text(65.7) == "34.30"
    assert POINTS.interval((64.0, 67.0)) == "33.00 to 36.00"
    assert POINTS.change(-1.25) == "-1.25"
    assert str(POINTS.own(Amount.parse("0.005"))) == "0.5"


def test_bits_per_byte() -> None:
    """As they are."""
    assert BITS.text(1.5) == "1.5000"
    assert BITS.interval((1.4, 1.6)) == "1.4000 to 1.6000"
    assert BITS.own(BITS.default) == BITS.default
