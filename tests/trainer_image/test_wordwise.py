"""Word by word, the tokens are those of the reference."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from corpus import tokenizer_json, words
from cpt_trainer.wordwise import Wordwise

ENCODER = Tokenizer.from_str(tokenizer_json())
ENCODER.encode_special_tokens = True
WORDWISE = Wordwise.of(ENCODER, tokenizer_json())
PIECES = [
    *("don't", "'s", "'re", "'", "''", "ll", "a", "B", "9", "½", "é", "e\u0301", "ß", "中", "Ⅷ", "٣", "!", "—", "_"),
    *(" ", "  ", "\n", "\r\n", "\t", "\x1c", "\x85", "\u00a0", "\u2028", "\u200b", "\0", "\U0001f642", "</s>"),
]
TRICKY = st.lists(st.sampled_from(PIECES), min_size=1, max_size=12).map("".join)


def reference(texts: list[str]) -> list[list[int]]:
    """By `tokenizers`."""
    return [encoding.ids for encoding in ENCODER.encode_batch(texts, add_special_tokens=False)]


def wordwise(texts: list[str]) -> list[list[int]]:
    """By ours, which remembers the words of all tests before."""
    assert WORDWISE is not None
    return [ids.tolist() for ids in WORDWISE.encode(texts)]


class TestSame:
    """Whatever the text, the tokens are those of the reference."""

    @settings(max_examples=500)
    @given(st.lists(TRICKY, min_size=1, max_size=6))
    def test_tricky(self, texts: list[str]) -> None:
        """Contractions, spaces of all kinds, marks and numbers, at the borders of documents too."""
        assert wordwise(texts) == reference(texts)

    @settings(max_examples=200)
    @given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=4))
    def test_any(self, texts: list[str]) -> None:
        """Any text of any characters."""
        assert wordwise(texts) == reference(texts)

    def test_characters(self) -> None:
        """Characters of all scripts, between letters, between digits, and alone."""
        some = [chr(n) for n in (*range(0x3400), *range(0x3400, 0xD800, 97), *range(0xE000, 0x20000, 31))]
        text = "".join(f"a{c}b {c}1{c}2 {c} {c}{c}!" for c in some)
        assert wordwise([text]) == reference([text])

    def test_blocks(self) -> None:
        """Documents of several blocks, one of them larger than a block."""
        texts = [words(n) * (1 + 40_000 * (n == 3)) for n in range(40)]
        assert wordwise(texts) == reference(texts)

    @given(st.lists(TRICKY | st.just(" x"), min_size=10, max_size=30).map("".join))
    def test_long(self, text: str) -> None:
        """A long document is cut into parts, and nobody can tell."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("cpt_trainer.wordwise.BLOCK_CHARACTERS", 20)
            assert wordwise([text]) == reference([text])

    def test_forgets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A table that is full begins anew."""
        monkeypatch.setattr("cpt_trainer.wordwise._MOST_WORDS", 10)
        for n in range(5):
            assert wordwise([words(n)]) == reference([words(n)])


class TestOf:
    """Tokenizers that do more than is known here are left to the reference."""

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param({"normalizer": {"type": "NFC"}}, id="normalizer"),
            pytest.param({"pre_tokenizer": None}, id="no words"),
            pytest.param({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, id="prefix"),
            pytest.param(
                {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}}, id="no regex"
            ),
            pytest.param({"added_tokens": [{"id": 7, "content": "x", "special": False}]}, id="added token"),
            pytest.param({"model": {"type": "Unigram"}}, id="model"),
        ],
    )
    def test_unknown(self, change: dict[str, object]) -> None:
        """Anything else in tokenizer.json is reason enough."""
        assert Wordwise.of(ENCODER, json.dumps(json.loads(tokenizer_json()) | change)) is None
