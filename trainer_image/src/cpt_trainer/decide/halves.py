"""Half of a text's documents picks a model, the other half says how good it is: the luck of the pick stays behind.

    picking_half(["5f1c…", "90ab…", "c1d2…", "e07a…"], (slice(0, 4),))      [True, False, False, True]
    picking, confirming = split(scores.target)                              one model on both halves

Documents go to a half by the hash of their name, so every model, experiment and machine cuts alike; the hash is not the
one by which Prepare held them out. Each stratum is cut in two, and of an odd number one more picks.

This is sound for claims about models, which are fixed. A recipe's lucky run is as lucky on the other half.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from cpt_trainer.decide.estimates import TextSums

_SALT = "half/"
_CLUSTERS_MIN = 2
"""Of a stratum: of one alone nobody can say how sure its score is."""


def picking_half(clusters: Sequence[str], strata: Sequence[slice]) -> npt.NDArray[np.bool_]:
    """Those that pick, of clusters in the order of their strata."""
    hashes = [hashlib.sha256(f"{_SALT}{cluster}".encode()).digest() for cluster in clusters]
    picks = np.zeros(len(clusters), dtype=np.bool_)
    for stratum in strata:
        by_hash = sorted(range(len(clusters))[stratum], key=hashes.__getitem__)
        picks[by_hash[: (len(by_hash) + 1) // 2]] = True
    return picks


class Split(NamedTuple):
    """A model on both halves."""

    picking: Sequence[TextSums]
    """All documents where they are too few to be split."""
    confirming: Sequence[TextSums]
    """Empty then."""


def split(texts: Sequence[TextSums]) -> Split:
    """Both halves, or nothing held back where a stratum has fewer than four documents: a half could not be judged."""
    halves = [[_half(text, picks=picks) for text in texts] for picks in (True, False)]
    picking, confirming = ([text for text in half if text is not None] for half in halves)
    return Split(picking, confirming) if len(picking) == len(confirming) == len(texts) else Split(texts, ())


def _half(text: TextSums, *, picks: bool) -> TextSums | None:
    assert text.picks is not None, "it was measured, not computed"
    mask = text.picks if picks else ~text.picks
    sizes = [int(mask[stratum].sum()) for stratum in text.strata]
    if min(sizes) < _CLUSTERS_MIN:
        return None
    edges = pairwise(accumulate(sizes, initial=0))
    return replace(
        text,
        bits=text.bits[mask],
        bytes=text.bytes[mask],
        strata=tuple(slice(start, end) for start, end in edges),
        picks=None,
    )
