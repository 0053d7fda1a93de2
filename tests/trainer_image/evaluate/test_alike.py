"""Texts that begin alike get their own tokens, whatever is cut."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import normalizers

from cpt_trainer.evaluate.alike import Tokens, encode_alike, encode_bundles
from cpt_trainer.tokenizer import Tokenizer, tokenizer_of
from trainer_image.kit import EOS, text, tokenizer

BEGINNING = text(1, 60)
TAILS = st.lists(st.text("the model. \n\tA", max_size=30), min_size=1, max_size=5)


class Counting:
    """A tokenizer, and how many tokens it gave."""

    def __init__(self, *, blank: bool = False) -> None:
        content = HuggingFaceTokenizer.from_str(tokenizer().to_str())
        if blank:  # what some tokenizers do with each text
            content.normalizer = normalizers.Prepend("a ")
        files = {"tokenizer.json": content.to_str(), "tokenizer_config.json": json.dumps({"eos_token": EOS})}
        self._tokenizer = Tokenizer(tokenizer_of({name: value.encode() for name, value in files.items()}))
        self.tokens = 0

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """As they are."""
        found = iter(self._tokenizer.plain([one for one in texts if one]))
        ids = [next(found).astype(np.int32) if one else np.empty(0, np.int32) for one in texts]
        self.tokens += sum(map(len, ids))
        return ids


def lists(ids: Sequence[Tokens]) -> list[list[int]]:
    """To be compared."""
    return [one.tolist() for one in ids]


@given(TAILS, st.booleans())
def test_same_tokens(tails: list[str], blank: bool) -> None:
    """They are those of each text alone, also where the tokenizer puts something before each."""
    texts = [BEGINNING + tail for tail in tails]
    assert lists(encode_alike(texts, Counting(blank=blank))) == lists(Counting(blank=blank)(texts))


@given(st.lists(TAILS, min_size=1, max_size=4), st.booleans())
def test_bundles(bundles: list[list[str]], blank: bool) -> None:
    """So are those of bundles, each of which goes on alike for longer."""
    texts = [[f"{BEGINNING} {text(n, 40)}{tail}" for tail in tails] for n, tails in enumerate(bundles)]
    found = encode_bundles(texts, Counting(blank=blank))
    assert [lists(one) for one in found] == [lists(Counting(blank=blank)(bundle)) for bundle in texts]


def test_once() -> None:
    """What is common is encoded once for all bundles, and once more for each."""
    texts = [[f"{BEGINNING} {text(n, 40)} {word}" for word in ("the", "page", "a", "it")] for n in range(10)]
    alike, alone = Counting(), Counting()
    encode_bundles(texts, alike)
    for bundle in texts:
        alone(bundle)
    assert alike.tokens * 4 < alone.tokens
