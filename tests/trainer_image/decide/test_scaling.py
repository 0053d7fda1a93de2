"""The document that answers the question Scaling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_api.layout import RESULT_MAX_BYTES
from cpt_api.model import canonical_json
from cpt_api.result import Decision, Scaled
from cpt_api.trial import DecideWork
from cpt_trainer.decide.equivalent import Point, equivalent, line_of
from cpt_trainer.decide.estimates import Estimated, TextSums
from cpt_trainer.decide.noise import RunNoise
from cpt_trainer.decide.scaling import decide
from make import make_digest
from questions import DOCUMENTS, Scaling, make_text

RUNS = {"1e-4": (2.5, 2.51, 2.49), "1e-3": (2.5, 2.51, 2.49)}
"""Run noise of 0.01."""
SURE = RunNoise(0.001, 1000, Estimated(0.0, 0.0, 1000))
THREE = {
    "small": (10**6, "1M", 3.0, 2.75),
    "middle": (10**6, "10M", 2.5, 2.2),
    "large": (10**7, "10M", 2.0, None),
}
"""A line that falls by 0.5 for each factor of ten: 2.75 is half of a factor of ten."""


def answers(
    bases: Mapping[str, tuple[int | None, str | None, float, float | None]],
    controls: Mapping[str, Sequence[float]] = RUNS,
    diverged: Sequence[str] = (),
) -> dict[str, Scaled]:
    """By the name of the model."""
    question = Scaling(bases, controls, diverged=diverged)
    names = {make_digest(name): name for name in bases}
    return {names[one.baseline]: one for one in decide(question.work, question.models).scaled or ()}


class TestEquivalent:
    """Design 4: "compute-equivalent gain, "> x" beyond the largest base"."""

    def test_interpolated(self) -> None:
        """Half of the way in bits is half of the way in the logarithm of compute."""
        found = answers(THREE)["small"]
        assert found.pretraining_flops == 6e12
        assert found.total_flops == pytest.approx(6e6 * (1e6 + 100))
        assert found.equivalent is not None
        assert found.equivalent.value == pytest.approx(math.sqrt(10), rel=0.001)
        assert found.equivalent.value is not None
        assert found.equivalent.lower is not None
        assert found.equivalent.upper is not None
        assert 2.6 < found.equivalent.lower < found.equivalent.value < found.equivalent.upper < 3.8
        assert "The bases alone reach that with 3.16 times the 6e+12 operations" in found.reason

    def test_beyond_the_largest(self) -> None:
        """Nothing is extrapolated: a model that is better than all bases is worth more than the largest took."""
        found = answers({**THREE, "small": (10**6, "1M", 3.0, 1.5)})["small"].equivalent
        assert found is not None
        assert (found.place, found.value, found.upper) == ("Beyond", None, None)
        assert found.largest == pytest.approx(100, rel=0.001)
        assert found.lower == found.largest

    def test_perhaps_beyond(self) -> None:
        """Near the largest base the interval is open."""
        found = answers({**THREE, "small": (10**6, "1M", 3.0, 2.001)})["small"].equivalent
        assert found is not None
        assert found.value == pytest.approx(100, rel=0.01)
        assert found.upper is None
        assert found.lower is not None

    def test_below_the_smallest(self) -> None:
        """A recipe that hurts the smallest base: there is nothing that took less."""
        found = answers({**THREE, "small": (10**6, "1M", 3.0, 3.5)})["small"]
        assert found.equivalent is not None
        assert (found.equivalent.place, found.equivalent.value) == ("Below", None)
        assert (found.equivalent.lower, found.equivalent.upper) == (None, found.equivalent.smallest)
        assert "no better than the smallest base, which took 1 times" in found.reason

    def test_a_recipe_that_hurts(self) -> None:
        """It is worth less than it took."""
        found = answers({**THREE, "middle": (10**6, "10M", 2.5, 2.75)})["middle"].equivalent
        assert found is not None
        assert found.value == pytest.approx(1 / math.sqrt(10), rel=0.001)

    @pytest.mark.parametrize(
        ("bases", "words"),
        [
            ({"small": (10**6, "1M", 3.0, 2.75)}, "One base makes no line."),
            ({**THREE, "small": (10**6, None, 3.0, 2.75)}, "Its compute is unknown: name its pretrainingTokens."),
            ({**THREE, "small": (None, "1M", 3.0, 2.75)}, "does not say how many parameters it has"),
        ],
        ids=["one base", "no tokens", "no parameters"],
    )
    def test_undefined(self, bases: dict[str, tuple[int | None, str | None, float, float | None]], words: str) -> None:
        """It is left out, and the reason says why; the gain is there all the same."""
        found = answers(bases)["small"]
        assert found.equivalent is None
        assert found.gain is not None
        assert words in found.reason

    @given(st.floats(1.6, 3.4), st.integers(1, 4))
    @settings(max_examples=25, deadline=None)
    def test_bounds_hold_the_value(self, loss: float, picked_from: int) -> None:
        """Whatever the target; the lower one moves away from what was picked from more."""
        line = line_of([Point(10.0**n, [make_text(3.0 - n / 2, n)]) for n in range(3)])
        found = equivalent(line, [make_text(loss, 9)], 1.0, SURE, picked_from)
        low = found.lower if found.lower is not None else 0.0
        high = found.upper if found.upper is not None else math.inf
        value = {"Below": found.smallest, "Beyond": found.largest}.get(found.place, found.value)
        assert value is not None
        assert low <= value * (1 + 1e-9)
        assert value <= high * (1 + 1e-9)
        plain = equivalent(line, [make_text(loss, 9)], 1.0, SURE, 1)
        assert low <= (plain.lower if plain.lower is not None else 0.0) or picked_from == 1

    def test_equal_compute(self) -> None:
        """Of two bases that took the same the better one makes the line."""
        points = [Point(1.0, [make_text(3.0, 0)]), Point(1.0, [make_text(2.8, 1)]), Point(10.0, [make_text(2.0, 2)])]
        assert line_of(points) == [points[1], points[2]]

    def test_covers(self) -> None:
        """The 95 % interval holds the true place in at least 93 of 100 studies (3 standard errors)."""
        random, right, studies = np.random.default_rng(7), 0, 120
        sizes, strata = np.full(DOCUMENTS, 100.0), (slice(0, DOCUMENTS),)

        def text(loss: float) -> list[TextSums]:
            return [TextSums((loss + random.normal(0, 0.2, DOCUMENTS)) * sizes, sizes, strata)]

        for _ in range(studies):
            line = line_of([Point(10.0**n, text(3.0 - n / 2)) for n in range(3)])
            estimated = 0.05 * float(np.sqrt(random.chisquare(8) / 8))
            noise = RunNoise(estimated, 8, Estimated(0.0, 0.0, 8))
            found = equivalent(line, text(2.3 + random.normal(0, 0.05)), 1.0, noise, 1)
            true = 10**1.4
            right += (found.lower or 0) <= true <= (found.upper or math.inf)
        assert right / studies >= 0.95 - 3 * (0.05 * 0.95 / studies) ** 0.5


class TestModels:
    """Before and after."""

    def test_gain_and_retention(self) -> None:
        """Against its own base."""
        found = answers(THREE)["middle"]
        assert found.gain is not None
        assert found.gain.value == pytest.approx(0.3)
        assert found.retention_loss is not None
        assert found.outcome == "Completed"
        assert found.reason.startswith("2.5 before, 2.2 after 100 tokens at 1e-4. Against the base it saves 0.3")

    def test_a_reference(self) -> None:
        """It was only evaluated."""
        found = answers(THREE)["large"]
        assert (found.outcome, found.trial, found.gain) == ("Evaluated", None, None)
        assert found.pretraining_flops == 6e14

    def test_diverged(self) -> None:
        """It is a result, and says what to do; its base stays on the line."""
        found = answers(THREE, diverged=["middle"])
        assert found["middle"].outcome == "Diverged"
        assert "diverged at 1e-4" in found["middle"].reason
        assert found["small"].equivalent is not None

    def test_without_replicates(self) -> None:
        """Numbers without intervals."""
        found = answers(THREE, controls={})["small"]
        assert found.gain is not None
        assert found.gain.lower is None
        assert found.equivalent is not None
        assert (found.equivalent.lower, found.equivalent.upper) == (None, None)
        assert found.equivalent.value is not None


class TestDocument:
    """Laws of the whole."""

    @given(st.randoms(use_true_random=False))
    @settings(max_examples=5, deadline=None)
    def test_order_of_inputs_changes_no_byte(self, random: object) -> None:
        """However models and controls are listed."""
        question = Scaling(THREE, RUNS)
        work = question.work.model_dump(by_alias=True, mode="json", exclude_none=True)
        ordered = decide(DecideWork.model_validate(work), question.models)
        for part in (work["models"], work["controls"], work["controls"][0]["trials"]):
            random.shuffle(part)  # type: ignore[attr-defined]
        shuffled = decide(DecideWork.model_validate(work), question.models)
        assert canonical_json(shuffled.to_dict()) == canonical_json(ordered.to_dict())

    def test_survives_the_store(self) -> None:
        """Nine digits are read as they were written, and the largest question has an answer that is read."""
        question = Scaling(THREE, RUNS)
        decision = decide(question.work, question.models)
        data = canonical_json(decision.to_dict())
        assert Decision.model_validate_json(data) == decision
        assert 33 * len(data) / len(THREE) < RESULT_MAX_BYTES / 4
