"""A model's tokenizer without its model: text to token ids that begin and end as the model was trained to see them.

    tokenizer = read_tokenizer(store, "data/team/5f1c…/export/")
    tokenizer.encode(["Call me Ishmael.", "No. <|end|>"])       [Call, me, Ish…, ., EOS], [No, ., <, |, end, |, >, EOS]

A document is its tokens and one EOS, after BOS where the tokenizer adds it. What looks like a special token in a text
is text: it is spelled out, so no document can end, begin or command anything in its middle.

Price: `tokenizers` alone (20 ms to import); about 3 MB of English per second and core.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cpt_api.values import Digest
from cpt_trainer.errors import DataError, MissingError
from cpt_trainer.store import Store

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HuggingFaceTokenizer

FILE = "tokenizer.json"
SETTINGS = "tokenizer_config.json"
CONFIG = "config.json"
_UINT16_VOCABULARY = 2**16

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
    """Encodes with Hugging Face's `tokenizers`, on one thread per call. Not for several threads at once."""

    def __init__(self, files: TokenizerFiles) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # read by the library at its first call
        self.files = files
        self._encoder = _load(files.text, FILE)

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """[BOS] + tokens + EOS of each text."""
        encodings = self._encoder.encode_batch_fast(list(texts), add_special_tokens=False)
        return [self._document(encoding.ids) for encoding in encodings]

    def _document(self, ids: Sequence[int]) -> Tokens:
        eos, bos = self.files.eos, self.files.bos
        if eos in ids:  # an added token that is not marked as special
            ids = [token for token in ids if token != eos]
        whole = [*ids, eos] if bos is None else [bos, *ids, eos]
        return np.array(whole, self.files.dtype)


def read_tokenizer(store: Store, prefix: str) -> TokenizerFiles:
    """The tokenizer of the model in Hugging Face layout below `prefix`."""
    key = prefix + FILE
    try:
        text = store.get(key).decode()
    except MissingError as error:
        raise MissingError(
            f"no tokenizer: expected {FILE} beside the model ({error}); "
            "write it with AutoTokenizer.from_pretrained(…).save_pretrained(…)"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{key} is not UTF-8: {error}") from error
    encoder = _load(text, key)
    settings, config = (read_json(store, prefix + name, optional=True) for name in (SETTINGS, CONFIG))
    return TokenizerFiles(
        text=text,
        bos=_bos(encoder, settings, config),
        eos=_eos(encoder, settings, config, prefix),
        vocabulary=max(encoder.get_vocab(with_added_tokens=True).values(), default=0) + 1,
    )


def read_json(store: Store, key: str, *, optional: bool = False) -> Mapping[str, Any]:
    """A JSON object of the store; empty when it may be missing, and is."""
    try:
        content = json.loads(store.get(key))
    except MissingError:
        if not optional:
            raise
        return {}
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
