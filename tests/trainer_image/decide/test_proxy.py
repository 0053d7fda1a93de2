"""The document that answers the question MixtureProxy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from cpt_api.layout import RESULT_MAX_BYTES
from cpt_api.model import canonical_json
from cpt_api.result import Decision, Proposal
from cpt_api.trial import PROXY_DATASETS_MAX, DecideWork
from cpt_trainer.decide.proxy import decide
from questions import Merged


def weights_of(datasets: int, count: int = 0) -> list[tuple[str, ...]]:
    """Each alone, and so many others, in thousandths."""
    random = np.random.default_rng(1)
    rows = [*np.eye(datasets, dtype=int) * 1000]
    rows += [random.multinomial(1000, shares) for shares in random.dirichlet(np.ones(datasets), count)]
    return [tuple(f"{unit / 1000:.3f}".rstrip("0").rstrip(".") for unit in row) for row in rows]


def parabola(weights: Sequence[float]) -> float:
    """Of two datasets: least at a quarter of the first."""
    first, second = weights
    return 1.9 * float(np.exp(0.02 * first + 0.01 * second + 0.01 * first**2 + 0.01 * second**2))


def measured(
    law: Callable[[Sequence[float]], float], datasets: int, count: int, *, cooled: Any = None, **changes: Any
) -> Decision:
    """The answer where merges score what a law says."""
    merges = {weights: law([*map(float, weights)]) for weights in weights_of(datasets, count)}
    question = Merged(merges, cooled=cooled or [1.9] * datasets, **changes)
    return decide(question.work, question.models)


def proposal(*arguments: Any, **changes: Any) -> Proposal:
    """Of that answer."""
    found = measured(*arguments, **changes).proposal
    assert found is not None
    return found


def mixture(found: Proposal) -> list[float]:
    """In the order of the datasets."""
    return [float(one.weight) for one in found.components]


class TestProposal:
    """Design 4: "maximised under the epoch cap and a KL pull to `Proportional`"."""

    def test_two_datasets(self) -> None:
        """The bottom of the parabola, a little drawn to the prior; what is expected of it, and words."""
        found = proposal(parabola, 2, 7)
        assert found.verdict == "Proposed"
        assert found.law == "Square"
        assert 0.25 <= mixture(found)[0] <= 0.3
        assert sum(mixture(found)) == 1
        assert found.expected == pytest.approx(parabola(mixture(found)), abs=1e-4)
        assert found.expected <= min(merge.target for merge in found.merges)
        assert found.rank_correlation > 0.9
        first, second = sorted(found.components, key=lambda one: -one.weight)
        assert found.reason.startswith(
            f"Proposed: {first.weight} of {first.dataset.short}…, {second.weight} of {second.dataset.short}…. "
            "By 9 merges of trunks at 3e-4; the best of them has 1.9"
        )

    def test_a_cap(self) -> None:
        """No dataset gets more than it may, and the sentence names it."""
        found = proposal(parabola, 2, 7, caps=["1", "0.6"])
        assert mixture(found) == [0.4, 0.6]
        assert "Not more, since it would be repeated too often: " in found.reason

    def test_the_prior_draws(self) -> None:
        """Of two priors the answer lies nearer to its own."""
        low, high = (proposal(parabola, 2, 7, prior=prior) for prior in (["0.05", "0.95"], ["0.9", "0.1"]))
        assert mixture(low)[0] < mixture(high)[0]

    def test_no_order_in_merges(self) -> None:
        """Then the mixture is not to be taken, and the sentence says why."""
        noise = iter(np.random.default_rng(0).normal(1.9, 0.01, 100))
        found = proposal(lambda _: float(next(noise)), 3, 9)
        assert found.verdict == "Unfit"
        assert found.reason.startswith("Unfit: the regression does not order merges that it has not seen")

    def test_all_merges_are_equal(self) -> None:
        """Nothing to choose between is no order either."""
        assert proposal(lambda _: 1.9, 2, 7).verdict == "Unfit"

    def test_a_few_merges(self) -> None:
        """Where others have failed, what is there has to do."""
        assert proposal(parabola, 2, 0).verdict == "Unfit"


class TestTrunksAndArms:
    """Whether what is uncooled speaks for what is cooled."""

    def test_agreement(self) -> None:
        """Rank correlation of the trunks' scores with those of the cooled arms."""

        def tilted(weights: Sequence[float]) -> float:
            return 1.9 + 0.1 * weights[1] + 0.2 * weights[2]

        assert proposal(tilted, 3, 9, cooled=[1.8, 1.85, 1.9]).rank_alone == 1
        assert proposal(tilted, 3, 9, cooled=[1.9, 1.85, 1.8]).rank_alone == -1

    def test_two_say_nothing(self) -> None:
        """One pair is in order by chance every second time; a diverged arm leaves two."""
        assert proposal(parabola, 2, 7).rank_alone is None
        assert proposal(lambda w: 1.9 + 0.1 * w[1], 3, 9, cooled=[1.8, None, 1.9]).rank_alone is None


class TestDocument:
    """Design 4: "Decisions round to 9 significant digits, … and name the method version"."""

    def test_the_same_in_any_order(self) -> None:
        """Of merges."""
        merges = {weights: parabola([*map(float, weights)]) for weights in weights_of(2, 7)}
        question = Merged(merges, cooled=[1.9, 1.9])
        turned = question.work.model_copy(update={"merges": tuple(reversed(question.work.merges or ()))})
        one, other = (decide(work, question.models).proposal for work in (question.work, turned))
        assert one is not None
        assert other == one.model_copy(update={"merges": tuple(reversed(one.merges))})

    def test_the_largest(self) -> None:
        """Still fits into the pod's environment, and into a result."""
        count = PROXY_DATASETS_MAX
        weights = weights_of(count, 96 - count)
        question = Merged({row: 1.9 + 0.1 * float(row[0]) for row in weights}, cooled=[1.9] * count)
        assert len(canonical_json(question.work.to_dict())) < 64 * 1024
        answer = decide(question.work, question.models)
        assert answer.method == "mixture-proxy/1"
        assert len(canonical_json(answer.to_dict())) < RESULT_MAX_BYTES / 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prior", ["0.5", "0.4"]),
        ("prior", ["1", "0"]),
        ("prior", ["0.5", "0.25", "0.25"]),
        ("caps", ["0.5", "0.4"]),
        ("merges", [{"weights": ["0.5", "0.4"], "trial": {"digest": "0" * 64}}]),
    ],
)
def test_what_is_no_mixture_is_refused(field: str, value: Any) -> None:
    """Weights that do not sum to one, or are not those of the datasets; caps that leave no mixture."""
    work = Merged({("1", "0"): 1.9, ("0", "1"): 1.9}, cooled=[1.9, 1.9]).work.to_dict()
    with pytest.raises(ValidationError, match="MixtureProxy"):
        DecideWork.model_validate({**work, field: value})
