"""The same tokens as `tokenizers`, several times as fast: every distinct word is encoded once, and then looked up.

    "to be or not to be"      words: "to", " be", " or", " not", " to", " be"       five of them are new, one is known

A byte-level BPE (GPT-2 and its descendants) cuts a text into words by a fixed regular expression, and encodes each
word for itself. `tokenizers` does both for every word anew. Here a block of documents is cut by a few operations on
arrays of characters, a word becomes a number (a 64-bit hash), and numbers are looked up in a table of all words so far:

    characters -> classes (letter, number, other, space) -> where words begin -> hashes -> entries -> tokens

Nothing is reinvented where Unicode is concerned: which class a character has, and which tokens a word has, are asked
of `tokenizers` itself. `Wordwise.of` answers None for any tokenizer that does more than this module knows, and
`Tokenizer` compares the beginning of every call with the reference.

Price: about 200 bytes for each distinct word, of which at most a million are remembered; 60 bytes per character of a
block. One thread is 5 times as fast as one of `tokenizers` on the first 12 MB of English and manuals, 15 times when
their 72,000 words are known.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HuggingFaceTokenizer

BLOCK_CHARACTERS = 1024 * 1024
"""Of documents that are cut together."""
_MOST_WORDS = 1024 * 1024
_SLOT_BITS = 20
_SEED = 20_240_607

Array = npt.NDArray[Any]

_SPACE, _LETTER, _NUMBER, _OTHER, _UNKNOWN = 0, 1, 2, 3, 255
"""Classes of characters."""
_SHORT, _LONG = tuple(map(ord, "stmd")), (("r", "e"), ("v", "e"), ("l", "l"))
"""Endings of contractions, which are words: 's, 't, 'm, 'd and 're, 've, 'll."""


class Wordwise:
    """Encodes documents word by word. Not for several threads at once."""

    def __init__(self, encoder: HuggingFaceTokenizer) -> None:
        self._encoder = encoder
        self._classes = np.full(0x110000, _UNKNOWN, np.uint8)
        self._weights = np.empty(0, np.uint64)  # of a character's place in its word
        self._forget()

    @classmethod
    def of(cls, encoder: HuggingFaceTokenizer, text: str) -> Wordwise | None:
        """For a tokenizer (and its tokenizer.json) whose words are those of GPT-2; None for others."""
        settings = json.loads(text)
        cuts, model = settings.get("pre_tokenizer") or {}, settings.get("model") or {}
        is_known = (
            settings.get("normalizer") is None
            and cuts.get("type") == "ByteLevel"
            and cuts.get("use_regex", True)
            and not cuts.get("add_prefix_space", True)
            and model.get("type") == "BPE"
            and not model.get("dropout")
            # special ones are spelled out; others would be found in a text before it is cut
            and all(token.get("special") for token in settings.get("added_tokens", ()))
        )
        return cls(encoder) if is_known else None

    def encode(self, texts: Sequence[str]) -> list[Array]:
        """The tokens of each text, which is not empty."""
        slices = [list(_slices(text)) for text in texts]
        ids = self._in_blocks(part for parts in slices for part in parts)
        return [np.concatenate([next(ids) for _ in parts]) for parts in slices]

    def _in_blocks(self, texts: Iterable[str]) -> Iterator[Array]:
        block: list[str] = []
        size = 0
        for text in texts:
            block.append(text)
            size += len(text)
            if size >= BLOCK_CHARACTERS:
                yield from self._encode(block)
                block, size = [], 0
        if block:
            yield from self._encode(block)

    def _encode(self, texts: Sequence[str]) -> list[Array]:
        joined = "".join(texts)
        characters = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), "<u4")
        documents = np.cumsum([0, *map(len, texts)])
        starts = np.flatnonzero(self._begins(characters, documents))
        words = self._entries(joined, characters, starts)
        lengths = self._lengths[words]
        ends = np.cumsum(lengths)
        # entry n of `places` is where token n stands in the table
        places = np.repeat(self._firsts[words] - (ends - lengths), lengths) + np.arange(ends[-1])
        borders = np.searchsorted(starts, documents[1:-1])  # the first word of each document but the first
        return np.split(self._tokens[places], (ends - lengths)[borders])

    # --- words ------------------------------------------------------------------------------------------------------

    def _begins(self, characters: Array, documents: Array) -> Array:
        """Whether a word begins at a character: GPT-2's expression on arrays.

        's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+
        """
        classes = self._classes_of(characters)
        is_space = classes == _SPACE
        first = np.zeros(len(characters) + 1, np.bool_)
        first[documents] = True  # of a document; and the end
        changes = first[:-1].copy()
        changes[1:] |= classes[1:] != classes[:-1]
        # a blank goes with the word behind it
        after_blank = np.zeros(len(characters), np.bool_)
        after_blank[1:] = (characters[:-1] == ord(" ")) & ~first[1:-1]
        begins: Array = changes & (is_space | ~after_blank)
        # of several spaces before a word the last one stands alone, or goes with it
        begins[:-1] |= is_space[:-1] & ~is_space[1:] & ~first[1:-1]
        self._contract(characters, first, begins)
        return begins

    @staticmethod
    def _contract(characters: Array, first: Array, begins: Array) -> None:
        """What follows an apostrophe that begins a word may belong to it."""
        at = np.flatnonzero(begins & (characters == ord("'")))
        padded = np.concatenate([characters, np.zeros(3, characters.dtype)])
        ends = np.concatenate([first, np.ones(3, np.bool_)])
        one, two = padded[at + 1], padded[at + 2]
        short = at[np.isin(one, _SHORT) & ~ends[at + 1]]
        is_long = np.zeros(len(at), np.bool_)
        for left, right in _LONG:
            is_long |= (one == ord(left)) & (two == ord(right))
        long = at[is_long & ~ends[at + 1] & ~ends[at + 2]]
        begins[short + 1] = False
        begins[long + 1] = False
        for behind in (short + 2, long + 3):
            begins[behind[behind < len(begins)]] = True

    def _classes_of(self, characters: Array) -> Array:
        classes = self._classes[characters]
        if (classes == _UNKNOWN).any():
            for character in np.unique(characters[classes == _UNKNOWN]).tolist():
                self._classes[character] = self._ask_class(chr(character))
            classes = self._classes[characters]
        return classes

    def _ask_class(self, character: str) -> int:
        """Between two of its class, a character is cut from neither."""
        cut = self._encoder.pre_tokenizer.pre_tokenize_str
        neighbours = ((_LETTER, "a"), (_NUMBER, "1"), (_OTHER, "!"))
        return next((kind for kind, near in neighbours if len(cut(near + character + near)) == 1), _SPACE)

    # --- the table --------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._slots = np.zeros(2**_SLOT_BITS, np.int32)  # by the first bits of a hash: an entry, perhaps another one's
        self._hashes = np.zeros(1, np.uint64)  # of each entry; entry 0 is nobody's
        self._firsts = np.zeros(1, np.int64)  # of each entry: its first token …
        self._lengths = np.zeros(1, np.int64)  # … and how many it has
        self._tokens = np.empty(0, np.uint32)  # of all entries
        self._sorted = np.zeros(1, np.int64)  # entries by their hashes

    def _entries(self, joined: str, characters: Array, starts: Array) -> Array:
        """The entry of each word; new words are encoded and entered."""
        lengths = np.diff(starts, append=len(characters))
        hashes = self._hashes_of(characters, starts, lengths)
        if len(self._hashes) > _MOST_WORDS:
            self._forget()
        entries: Array = self._slots[hashes >> np.uint64(64 - _SLOT_BITS)]
        others = np.flatnonzero(self._hashes[entries] != hashes)
        missed = hashes[others]
        known = self._find(missed)
        if (fresh := known == 0).any():
            new, where = np.unique(missed[fresh], return_index=True)
            at = others[fresh][where]
            spans = zip(starts[at].tolist(), (starts[at] + lengths[at]).tolist(), strict=True)
            self._enter(new, [joined[begin:end] for begin, end in spans])
            known = self._find(missed)
        entries[others] = known
        return entries

    def _find(self, hashes: Array) -> Array:
        """The entry of each, 0 where there is none."""
        ranks = np.searchsorted(self._hashes, hashes, sorter=self._sorted)
        near = self._sorted[np.minimum(ranks, len(self._sorted) - 1)]
        found: Array = np.where(self._hashes[near] == hashes, near, 0)
        return found

    def _hashes_of(self, characters: Array, starts: Array, lengths: Array) -> Array:
        """Sum over a word's characters of a number for the character times a number for its place, modulo 2^64."""
        longest = int(lengths.max())
        if longest > len(self._weights):
            chance = np.random.Generator(np.random.PCG64(_SEED))
            self._weights = chance.integers(0, 2**64, max(1024, 2 * longest), np.uint64) | np.uint64(1)
        mixed = (characters.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        mixed *= self._weights[np.arange(len(characters)) - np.repeat(starts, lengths)]
        hashes: Array = np.add.reduceat(mixed, starts)
        return hashes

    def _enter(self, hashes: Array, words: Sequence[str]) -> None:
        """New words. All in one text, a line each: between a word and the end of its line there is a cut, whatever the
        word. Words of nothing but space are the exception, so each of those is a text.
        """
        is_blank = np.array([word.isspace() for word in words])
        blank = [self._ask(word) for word in words if word.isspace()]
        text = "\n".join(word for word in words if not word.isspace())
        lines = self._encoder.encode(text, add_special_tokens=False)
        number = np.array(lines.word_ids, np.int64)  # 0 is the first word, 1 the end of its line, 2 the second word …
        is_word = number % 2 == 0
        counts = np.bincount(number[is_word] // 2, minlength=int(np.count_nonzero(~is_blank)))
        lengths = np.concatenate([counts, np.array([len(ids) for ids in blank], np.int64)])
        first = len(self._hashes)
        self._firsts = np.concatenate([self._firsts, len(self._tokens) + np.cumsum(lengths) - lengths])
        self._lengths = np.concatenate([self._lengths, lengths])
        self._tokens = np.concatenate([self._tokens, np.array(lines.ids, np.uint32)[is_word], *blank])
        self._hashes = np.concatenate([self._hashes, hashes[~is_blank], hashes[is_blank]])
        self._sorted = np.argsort(self._hashes, kind="stable")
        self._slots[self._hashes[first:] >> np.uint64(64 - _SLOT_BITS)] = np.arange(first, len(self._hashes))

    def _ask(self, word: str) -> Array:
        return np.array(self._encoder.encode(word, add_special_tokens=False).ids, np.uint32)


def _slices(text: str) -> Iterator[str]:
    """A long text in parts: before a blank that a plain letter or digit follows there is a cut anyway."""
    start = 0
    while len(text) - start > BLOCK_CHARACTERS:
        end = text.rfind(" ", start + 1, start + BLOCK_CHARACTERS)
        while end > start and not (text[end + 1].isascii() and text[end + 1].isalnum()):
            end = text.rfind(" ", start + 1, end)
        if end <= start:
            break
        yield text[start:end]
        start = end
    yield text[start:]
