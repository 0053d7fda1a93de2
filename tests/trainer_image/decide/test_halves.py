"""Halves of a text's documents: equal for all models, and none too small to judge by."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cpt_trainer.decide.estimates import TextSums, text_sums
from cpt_trainer.decide.halves import picking_half, split
from cpt_trainer.tables import heldout_items
from make import make_digest

NAMES = st.lists(st.text(min_size=1), unique=True, min_size=1, max_size=40)


def text(documents: int, strata: tuple[slice, ...] = ()) -> TextSums:
    """Its bits tell the documents apart."""
    strata = strata or (slice(0, documents),)
    picks = picking_half([str(number) for number in range(documents)], strata)
    bits = np.arange(1.0, documents + 1.0, dtype=np.float64)
    return TextSums(bits, np.full(documents, 10.0), strata, picks)


@given(NAMES)
def test_as_good_as_equal(names: list[str]) -> None:
    """Of an odd number one more picks."""
    picks = picking_half(names, [slice(0, len(names))])
    assert int(picks.sum()) == (len(names) + 1) // 2


@given(NAMES, st.randoms(use_true_random=False))
def test_by_name(names: list[str], random: np.random.Generator) -> None:
    """Whatever the order: a document is in the half that its name says."""
    turned = sorted(names, key=lambda _: random.random())
    there, here = (
        {name for name, picks in zip(order, picking_half(order, [slice(0, len(order))]), strict=True) if picks}
        for order in (names, turned)
    )
    assert there == here


def test_both() -> None:
    """Every document of each stratum is in one of them."""
    whole = text(11, (slice(0, 4), slice(4, 11)))
    picking, confirming = split([whole])
    assert sorted([*picking[0].bits, *confirming[0].bits]) == list(whole.bits)
    assert (picking[0].strata, confirming[0].strata) == ((slice(0, 2), slice(2, 6)), (slice(0, 2), slice(2, 5)))
    assert {bits <= 4 for bits in picking[0].bits[picking[0].strata[0]]} == {True}


def test_too_few() -> None:
    """Below four documents in any stratum of any text nothing is held back."""
    texts = [text(40), text(7, (slice(0, 4), slice(4, 7)))]
    assert split(texts) == (texts, ())


def test_measured() -> None:
    """A table's documents are cut, not its sections."""
    sections = [f"{document}/{part}" for document in "abcdef" for part in range(3)]
    documents = [name.partition("/")[0] for name in sections]
    sums = text_sums(heldout_items(make_digest("t"), sections, documents, [1.0] * 18, [10] * 18))
    assert sums.picks is not None
    assert list(sums.picks) == list(picking_half(list("abcdef"), [slice(0, 6)]))
