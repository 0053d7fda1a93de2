"""Several texts of one question as a tree of tokens: what they share at their beginning is there once.

    Q : A | B C        tokens     Q  :  A  B  C  D        Q and : and A are seen by all that comes after them,
    Q : A | B D        depths     0  1  2  3  4  4        B by C and D, and C and D do not see each other
                       ends       6  6  6  6  5  6

Token n is seen by tokens n up to, and without, its end: that is the whole mask. Four letters after one prompt are a
tree of the prompt alone, since the last token of each text is only predicted; four endings of a sentence are the
sentence and four short branches.

Price: a Python step for each text, not for each token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cpt_trainer.evaluate.alike import Tokens
from cpt_trainer.evaluate.encode import Encoded

Integers = npt.NDArray[np.int32]


_EMPTY: Integers = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Reads:
    """What is predicted for one pair."""

    places: Integers
    """The tokens of the tree behind which the targets come."""
    targets: Integers


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """Tokens by depth first, so that all below one token follow it."""

    tokens: Integers
    depths: Integers
    """How many tokens of the tree are before each on its way."""
    ends: Integers
    """The number after the last token that sees this one."""
    reads: tuple[Reads, ...]
    """Of each pair."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def pairs(self) -> int:
        """Of tokens that see each other, each with itself."""
        return int((self.depths + 1).sum())


def tree_of(pairs: Sequence[Encoded], shared: int = 0) -> Tree:
    """Of pairs whose first `shared` tokens are elsewhere; all have a context that is longer than that."""
    texts = [pair.inputs[shared:] for pair in pairs]
    pieces, depths = [], []
    path, before, size = _EMPTY, _EMPTY, 0  # the numbers of the tokens of the text before, and these
    closed: list[tuple[Integers, int]] = []
    reads: dict[int, Reads] = {}
    for number in sorted(range(len(pairs)), key=lambda n: sort_key(texts[n])):
        text, scored = texts[number], pairs[number].scored
        common = common_length(before, text)
        closed.append((path[common:], size))
        pieces.append(text[common:])
        depths.append(np.arange(common, len(text), dtype=np.int32))
        path = np.concatenate([path[:common], np.arange(size, size + len(text) - common, dtype=np.int32)])
        before, size = text, size + len(text) - common
        reads[number] = Reads(path[len(text) - scored :], pairs[number].targets)
    ends = np.full(size, size, np.int32)
    for places, end in closed:
        ends[places] = end
    return Tree(np.concatenate(pieces), np.concatenate(depths), ends, tuple(reads[n] for n in range(len(pairs))))


def sort_key(tokens: Tokens) -> bytes:
    """Orders texts by their first token that differs; what begins another comes before it."""
    return tokens.astype(">i4").tobytes()


def common_length(one: Tokens, other: Tokens) -> int:
    """Of the tokens with which both begin."""
    length = min(len(one), len(other))
    differ = np.flatnonzero(one[:length] != other[:length])
    return int(differ[0]) if len(differ) else length


def see(ends: Integers) -> npt.NDArray[Any]:
    """Which token (last axis but one) sees which (last axis), of each row of ends."""
    places = np.arange(ends.shape[-1])
    seen: npt.NDArray[Any] = (places <= places[:, None]) & (places[:, None] < ends[..., None, :])
    return seen
