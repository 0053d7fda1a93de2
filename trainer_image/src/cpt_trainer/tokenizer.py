"""A model's tokenizer without its model: text to token ids that begin and end as the model was trained to see them.

    tokenizer = read_tokenizer(store, "data/team/5f1c…/export/")
    tokenizer.encode(["Call me Ishmael.", "No. <|end|>"])       [Call, me, Ish…, ., EOS], [No, ., <, |, end, |, >, EOS]

A document is its tokens and one EOS, after BOS where the tokenizer adds it. What looks like a special token in a text
is text: it is spelled out, so no document can end, begin or command anything in its middle.

Price: `tokenizers` alone (20 ms to import); about 3 MB of English per second and core, and five times as much where
`wordwise.py` knows the tokenizer's kind.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cpt_api.values import Digest
from cpt_trainer.errors import DataError, MissingError, TrainerExit
from cpt_trainer.store import Store
from cpt_trainer.wordwise import Wordwise

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HuggingFaceTokenizer

FILE = "tokenizer.json"
SETTINGS = "tokenizer_config.json"
CONFIG = "config.json"
_UINT16_VOCABULARY = 2**16
_COMPARED_CHARACTERS = 8_000
"""Of each call: a hundredth of what a process of `prepare` is given at once."""

Tokens = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """All that decides about tokens; small, and sent to worker processes as it is."""

    text: str
    """tokenizer.json."""
    bos: int | None
    """Begins every document, where the tokenizer adds it."""
    eos: int
    """Ends every document."""
    start: int
    """What a text without anything before it is scored after: BOS, also one that is not added, else EOS."""
    vocabulary: int
    """Every token is below."""

    @property
    def digest(self) -> Digest:
        """SHA-256 of tokenizer.json."""
        return Digest(hashlib.sha256(self.text.encode()).hexdigest())

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest that holds every token."""
        return np.dtype("<u2" if self.vocabulary <= _UINT16_VOCABULARY else "<u4")


class Tokenizer:
    """Encodes on one thread. Not for several threads at once."""

    def __init__(self, files: TokenizerFiles) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # read by the library at its first call
        self.files = files
        self._encoder = _load(files.text, FILE)
        self._wordwise = Wordwise.of(self._encoder, files.text)

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """[BOS] + tokens + EOS of each text."""
        return [self._document(ids) for ids in self.plain(texts)]

    def decode(self, ids: Sequence[int]) -> str:
        """Their text, without what is special."""
        return str(self._encoder.decode(list(ids), skip_special_tokens=True))

    def text_of(self, token: int) -> str:
        """How it is written."""
        return str(self._encoder.id_to_token(token))

    def plain(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text, and nothing around them."""
        if self._wordwise is None or not all(texts):
            return self._reference(texts)
        if texts:
            beginning = texts[0][:_COMPARED_CHARACTERS]
            [fast], [reference] = self._wordwise.encode([beginning]), self._reference([beginning])
            if not np.array_equal(fast, reference):
                raise TrainerExit(
                    "two ways to encode a text differ, which is a mistake of this program: report it with "
                    f"tokenizer.json and this text: {beginning[:200]!r}"
                )
        return self._wordwise.encode(texts)

    def _reference(self, texts: Sequence[str]) -> list[Tokens]:
        encodings = self._encoder.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, np.uint32) for encoding in encodings]

    def _document(self, ids: Tokens) -> Tokens:
        eos, bos = self.files.eos, self.files.bos
        ids = ids[ids != eos]  # an added token that is not marked as special
        whole = np.empty(len(ids) + (bos is not None) + 1, self.files.dtype)
        whole[0] = eos if bos is None else bos
        whole[len(whole) - len(ids) - 1 : -1] = ids
        whole[-1] = eos
        return whole


def read_tokenizer(store: Store, prefix: str) -> TokenizerFiles:
    """The tokenizer of the model in Hugging Face layout below `prefix`."""
    try:
        files = {FILE: store.get(prefix + FILE)}
    except MissingError as error:
        raise MissingError(
            f"no tokenizer: expected {FILE} beside the model ({error}); "
            "write it with AutoTokenizer.from_pretrained(…).save_pretrained(…)"
        ) from error
    for name in (SETTINGS, CONFIG):
        with suppress(MissingError):
            files[name] = store.get(prefix + name)
    return tokenizer_of(files, prefix)


def tokenizer_of(files: Mapping[str, bytes], where: str = "") -> TokenizerFiles:
    """The tokenizer of a model's files by name, which lie below that prefix."""
    try:
        text = files[FILE].decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}{FILE} is not UTF-8: {error}") from error
    encoder = _load(text, where + FILE)
    settings, config = (_object(files[name], where + name) if name in files else {} for name in (SETTINGS, CONFIG))
    named = _token_id(encoder, settings.get("bos_token"))
    eos = _eos(encoder, settings, config, where)
    return TokenizerFiles(
        text=text,
        bos=_bos(encoder, settings, config),
        eos=eos,
        start=eos if named is None else named,
        vocabulary=max(encoder.get_vocab(with_added_tokens=True).values(), default=0) + 1,
    )


def read_json(store: Store, key: str, *, optional: bool = False) -> Mapping[str, Any]:
    """A JSON object of the store; empty when it may be missing, and is."""
    try:
        return _object(store.get(key), key)
    except MissingError:
        if not optional:
            raise
        return {}


def _object(data: bytes, key: str) -> Mapping[str, Any]:
    try:
        content = json.loads(data)
    except ValueError as error:
        raise DataError(f"{key} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{key}: expected a JSON object, found a {type(content).__name__}")
    return content


def _load(text: str, key: str) -> HuggingFaceTokenizer:
    from tokenizers import Tokenizer as HuggingFaceTokenizer

    try:
        encoder = HuggingFaceTokenizer.from_str(text)
    except Exception as error:  # the library raises nothing more special
        raise DataError(f"{key} cannot be read by tokenizers: {error}; save it with a recent transformers") from error
    encoder.no_truncation()
    encoder.no_padding()
    encoder.encode_special_tokens = True
    return encoder


def _eos(encoder: HuggingFaceTokenizer, settings: Mapping[str, Any], config: Mapping[str, Any], prefix: str) -> int:
    named = _token_id(encoder, settings.get("eos_token"))
    if named is not None:
        return named
    ids = config.get("eos_token_id")
    first = ids[0] if isinstance(ids, list) and ids else ids
    if not isinstance(first, int):
        raise DataError(
            f"no end-of-text token: expected eos_token in {prefix}{SETTINGS}, one of the vocabulary, or eos_token_id "
            f"in {prefix}{CONFIG}"
        )
    return first


def _bos(encoder: HuggingFaceTokenizer, settings: Mapping[str, Any], config: Mapping[str, Any]) -> int | None:
    """The token that the tokenizer puts before a text, if it does; `add_bos_token` has the last word."""
    bos = _token_id(encoder, settings.get("bos_token"))
    if bos is None and isinstance(config.get("bos_token_id"), int):
        bos = config["bos_token_id"]
    with_special = encoder.encode("a", add_special_tokens=True).ids
    adds = settings.get("add_bos_token", bool(with_special) and with_special[0] == bos)
    return bos if adds else None


def _token_id(encoder: HuggingFaceTokenizer, token: object) -> int | None:
    """By its text, which may stand in an object."""
    text = token.get("content") if isinstance(token, dict) else token
    return encoder.token_to_id(text) if isinstance(text, str) else None
