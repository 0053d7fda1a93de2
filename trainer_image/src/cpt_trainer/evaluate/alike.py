"""Tokens of texts that begin alike, the common beginning encoded once: never other tokens than each text's own.

    "…shots… Question: one and one? Answer: A"       cut where a word ends, well inside of what is common:
    "…shots… Question: one and one? Answer: B"       "…shots… Question: one" | " and one? Answer: A"

The first text is encoded whole, and what is behind its cut alone. Where the one ends with the other, the tokenizer does
not care about the cut; around it all other texts are the same, so it does not care there either. Where it does (some
put a blank before each text), all texts are encoded whole.

Price: a fifth of the tokens of a question's choices, and of five-shot questions an eighth of what is left.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int32]
Plain = Callable[[Sequence[str]], Sequence[Tokens]]
"""The tokens of each text."""

BEHIND = 32
"""Characters behind a cut that are common too: more than a tokenizer looks at."""
WORTH = 64
"""Characters before a cut."""
_CUT = re.compile(r"(?<=[a-z])(?= [a-z])")
"""A word ends and another one begins, in the middle of a line."""


def encode_bundles(bundles: Sequence[Sequence[str]], plain: Plain) -> list[list[Tokens]]:
    """Of bundles that begin alike, in each of which the texts do so for longer."""
    texts = [text for bundle in bundles for text in bundle]
    cut = _cut(texts)
    if cut is not None:
        [first] = plain(texts[:1])
        tails = [encode_alike([text[cut:] for text in bundle], plain) for bundle in bundles]
        if (begin := _beginning(first, tails[0][0])) is not None:
            return [[np.concatenate([begin, tail]) for tail in bundle] for bundle in tails]
    return [encode_alike(bundle, plain) for bundle in bundles]


def encode_alike(texts: Sequence[str], plain: Plain) -> list[Tokens]:
    """As `plain` does."""
    cut = _cut(texts)
    if cut is not None:
        first, *tails = plain([texts[0], *(text[cut:] for text in texts)])
        if (begin := _beginning(first, tails[0])) is not None:
            return [np.concatenate([begin, tail]) for tail in tails]
    return list(plain(texts))


def _beginning(whole: Tokens, tail: Tokens) -> Tokens | None:
    """What is before the tail; None where the whole does not end with it."""
    before = len(whole) - len(tail)
    return whole[:before] if before >= 0 and np.array_equal(whole[before:], tail) else None


def _cut(texts: Sequence[str]) -> int | None:
    """The last that is good, where one is worth it."""
    if len(texts) < 2:
        return None
    common = len(os.path.commonprefix([min(texts), max(texts)]))  # noqa: RUF071 - by character is what is meant
    cuts = [match.start() for match in _CUT.finditer(texts[0], WORTH, max(WORTH, common - BEHIND))]
    return cuts[-1] if cuts else None
