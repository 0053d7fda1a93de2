"""The order of the data: exact shares, permutations, and what a prefix means. Laws, not examples."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_api.values import Digest
from cpt_trainer.order import Length, Mixture, Order, Split, permutation
from make import make_digest

NAMES = tuple(make_digest(f"dataset {n}") for n in range(8))
Weights = dict[Digest, Fraction]


def weights(least: int = 1) -> st.SearchStrategy[Weights]:
    """Mixtures with decimal weights over five orders of magnitude; some of them nothing."""
    amount = st.one_of(st.just(0), st.integers(1, 100_000)).map(lambda n: Fraction(n, 1000))
    mixtures = st.dictionaries(st.sampled_from(NAMES), amount, min_size=least)
    return mixtures.filter(lambda found: sum(found.values()) > 0)


def make_order(*mixtures: Mixture, seed: int = 1, batch: int = 16, sequences: int = 50, identity: str = "") -> Order:
    """Over datasets of `sequences`."""
    lengths = {name: Length(sequences + n, make_digest(name + identity)) for n, name in enumerate(NAMES)}
    return Order(seed, 256, batch, mixtures or (Mixture(0, {NAMES[0]: Fraction(1)}),), lengths)


class TestShares:
    """Design 3: "the share of every dataset within 2 samples of its exact weight at any point"."""

    @given(weights(), st.integers(0, 10**12))
    @settings(deadline=None)
    def test_within_two(self, mixture: Weights, number: int) -> None:
        """After any number of sequences each dataset had its share, give or take less than two."""
        total = sum(mixture.values())
        counts = Split.of(mixture).counts(number)
        assert sum(counts.values()) == number
        for dataset, weight in mixture.items():
            assert abs(counts.get(dataset, 0) - number * weight / total) < 2

    @given(weights(), st.integers(0, 10**9))
    @settings(deadline=None)
    def test_one_at_a_time(self, mixture: Weights, number: int) -> None:
        """Sequence n goes to the dataset whose count it raises, as the next of that dataset."""
        split = Split.of(mixture)
        before, after = split.counts(number), split.counts(number + 1)
        raised = [name for name in after if after[name] != before[name]]
        assert raised == [split.at(number)[0]]
        assert split.at(number)[1] == before[raised[0]] == after[raised[0]] - 1

    @given(weights())
    @settings(deadline=None)
    def test_order_of_listing(self, mixture: Weights) -> None:
        """In whatever order and scale weights are written, the same is read."""
        other = {name: mixture[name] * 7 for name in sorted(mixture, reverse=True)}
        a, b = Split.of(mixture), Split.of(other)
        assert [a.at(n) for n in range(50)] == [b.at(n) for n in range(50)]

    def test_nothing(self) -> None:
        """A mixture of nothing is refused."""
        with pytest.raises(ValueError, match="at least one must be positive"):
            Split.of({NAMES[0]: Fraction(0)})


class TestPermutation:
    """Every epoch gives each sequence once."""

    @given(st.integers(1, 3000), st.text(max_size=5))
    @settings(max_examples=30, deadline=None)
    def test_bijection(self, size: int, key: str) -> None:
        """Nothing twice, nothing left out, whatever the size."""
        assert sorted(map(permutation(size, key), range(size))) == list(range(size))

    def test_keyed(self) -> None:
        """Another key is another order, and neither is the identity."""
        a, b = ([permutation(1000, key)(n) for n in range(1000)] for key in ("a", "b"))
        assert a != b
        assert a != sorted(a)

    @given(st.integers(1, 40), weights())
    @settings(max_examples=50, deadline=None)
    def test_epochs(self, sequences: int, mixture: Weights) -> None:
        """A dataset gives all of its sequences before it gives one again."""
        order = make_order(Mixture(0, mixture), sequences=sequences)
        read: dict[Digest, list[int]] = {}
        for place in map(order.at, range(300)):
            read.setdefault(place.dataset, []).append(place.position)
        for dataset, positions in read.items():
            size = sequences + NAMES.index(dataset)
            for start in range(0, len(positions) - size + 1, size):
                assert sorted(positions[start : start + size]) == list(range(size))


class TestBatches:
    """What ranks read."""

    @given(weights(), st.integers(0, 1000), st.integers(1, 5))
    @settings(max_examples=50, deadline=None)
    def test_world(self, mixture: Weights, step: int, size: int) -> None:
        """All ranks together read the batch once, however many they are."""
        order = make_order(Mixture(0, mixture))
        slots = [(rank * 16 // size, (rank + 1) * 16 // size) for rank in range(size)]
        parts = [place for first, end in slots for place in order.batch_places(step, first, end)]
        assert parts == order.batch_places(step, 0, 16)
        assert Counter(parts) == Counter(order.at(step * 16 + n) for n in range(16))

    def test_no_rank_sees_one_dataset(self) -> None:
        """With equal weights and two ranks, each rank reads both datasets in most steps."""
        order = make_order(Mixture(0, {NAMES[0]: Fraction(1), NAMES[1]: Fraction(1)}))
        firsts = [{place.dataset for place in order.batch_places(step, 0, 8)} for step in range(50)]
        assert sum(len(found) == 2 for found in firsts) > 40


class TestPhases:
    """Mixtures that follow one another."""

    @given(weights(), weights(), st.integers(1, 200))
    @settings(max_examples=50, deadline=None)
    def test_goes_on(self, first: Weights, second: Weights, change: int) -> None:
        """A second phase goes on in each dataset where the first one stopped."""
        order = make_order(Mixture(0, first), Mixture(change, second), sequences=1000)
        places = [order.at(n) for n in range(change + 100)]
        assert len(set(places)) == len(places)
        assert Counter(place.dataset for place in places) == {
            name: count for name, count in order.counts(change + 100).items() if count
        }

    @given(weights(), weights(), st.integers(1, 100))
    @settings(max_examples=50, deadline=None)
    def test_prefix(self, first: Weights, second: Weights, change: int) -> None:
        """A later phase changes neither what is read before it nor the digest of that."""
        short, long = make_order(Mixture(0, first)), make_order(Mixture(0, first), Mixture(change, second))
        assert [short.at(n) for n in range(change)] == [long.at(n) for n in range(change)]
        assert short.digest(change) == long.digest(change)
        assert short.digest(change + 1) != long.digest(change + 1)

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param(make_order(seed=2), id="seed"),
            pytest.param(make_order(Mixture(0, {NAMES[1]: Fraction(1)})), id="dataset"),
            pytest.param(make_order(Mixture(0, {NAMES[0]: Fraction(1), NAMES[1]: Fraction(1)})), id="weights"),
            pytest.param(make_order(identity="prepared anew"), id="manifest"),
        ],
    )
    def test_digest(self, other: Order) -> None:
        """Whatever changes what was read changes the digest."""
        assert other.digest(100) != make_order().digest(100)

    def test_digest_of_shares(self) -> None:
        """Weights count relative to each other."""
        one, two = ({NAMES[0]: Fraction(n), NAMES[1]: Fraction(3 * n)} for n in (1, 2))
        assert make_order(Mixture(0, one)).digest(9) == make_order(Mixture(0, two)).digest(9)

    @pytest.mark.parametrize("starts", [(1,), (0, 0), (0, 5, 4)])
    def test_starts(self, starts: tuple[int, ...]) -> None:
        """Phases begin at zero and rise."""
        with pytest.raises(ValueError, match="rising"):
            make_order(*(Mixture(start, {NAMES[0]: Fraction(1)}) for start in starts))

    def test_empty_dataset(self) -> None:
        """A dataset without a single sequence is refused."""
        with pytest.raises(ValueError, match="fewer tokens than one sequence"):
            make_order(sequences=0)


def test_frozen() -> None:
    """The order is part of the protocol: changing it would change what finished trials mean."""
    order = make_order(Mixture(0, {NAMES[0]: Fraction(7, 10), NAMES[1]: Fraction(3, 10)}), sequences=1000)
    assert [(NAMES.index(p.dataset), p.position) for p in order.batch_places(3, 0, 6)] == [
        (0, 400),
        (1, 27),
        (0, 266),
        (1, 589),
        (0, 363),
        (1, 266),
    ]
    assert order.digest(64) == "a2182c9aa7adc740f3e73cd6cdb5d28531c166c75afd1decb1ccf1e970357d6b"
