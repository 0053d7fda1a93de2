"""Held-out text: which documents, and how they are cut.

Of all distinct documents in the order of their keys, the first `share` are held out, but at most `maxDocuments`: by
content, so that every copy of a held-out document, in this dataset or in another one, is kept from training.

    sections("aaaa\\n\\nbbbb\\n\\ncccc", 12)      ["aaaa\\n\\nbbbb\\n\\n", "cccc"]: joined they are the document

Price: the keys of the candidates, 100 bytes each; texts are read one by one.
"""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from cpt_api.trial import Holdout
from cpt_trainer.dataset import HeldOutPart
from cpt_trainer.prepare.documents import KEY_BYTES
from cpt_trainer.prepare.parts import Candidate, Part, put_arrays, put_bytes
from cpt_trainer.store import Store
from cpt_trainer.tokenizer import Tokenizer, Tokens

SECTION_BYTES = 8 * 1024
FEW_DOCUMENTS = 40
"""Fewer give standard errors that cannot be trusted."""
_KEYS = 2**64
_BORDERS = ((b"\n\n", 2), (b"\n", 1), (b" ", 0))
"""Where a text is cut, the first kind that there is, and how much of it stays behind: a word keeps its space."""
_TOGETHER = 64
"""Documents that are encoded in one call."""


def candidates_below(holdout: Holdout) -> int:
    """Documents whose key's first half is below may be held out."""
    return int(holdout.share.fraction * _KEYS)


def trains(holdout: Holdout) -> bool:
    """Whether anything is left for training."""
    return candidates_below(holdout) < _KEYS


@dataclass(frozen=True, slots=True)
class Choice:
    """Which documents are held out."""

    documents: tuple[Candidate, ...]
    """Distinct ones, by key."""
    first_training_key: bytes
    """All documents from this key on are trained on, if any are."""


def choose(parts: Sequence[Part], holdout: Holdout) -> Choice:
    """The first distinct candidates of all parts."""
    merged = heapq.merge(*(part.candidates() for part in parts), key=attrgetter("key"))
    distinct = (next(same) for _, same in itertools.groupby(merged, key=attrgetter("key")))
    first = list(itertools.islice(distinct, holdout.max_documents + 1))
    if len(first) > holdout.max_documents:
        return Choice(tuple(first[:-1]), first[-1].key)
    border = min(candidates_below(holdout), _KEYS - 1)
    return Choice(tuple(first), border.to_bytes(8, "big").ljust(KEY_BYTES, b"\0"))


def write_held_out(store: Store, prefix: str, choice: Choice, tokenizer: Tokenizer) -> HeldOutPart:
    """Tokens and index of all sections."""
    lines: list[str] = []
    source_bytes = 0

    def tokens() -> Iterator[Tokens]:
        nonlocal source_bytes
        documents = iter(choice.documents)
        while some := list(itertools.islice(documents, _TOGETHER)):
            cut = [(document.key.hex(), section) for document in some for section in sections(document.text())]
            for (key, section), ids in zip(cut, tokenizer.encode([section for _, section in cut]), strict=True):
                size = len(section.encode())
                lines.append(json.dumps({"document": key, "bytes": size, "tokens": len(ids)}))
                source_bytes += size
                yield ids

    stream = put_arrays(store, "heldout.bin", tokens(), prefix)
    index = "".join(f"{line}\n" for line in lines).encode()
    return HeldOutPart(
        documents=len(choice.documents),
        sections=len(lines),
        tokens=stream.bytes // tokenizer.files.dtype.itemsize,
        source_bytes=source_bytes,
        stream=stream,
        index=put_bytes(store, "heldout.jsonl", index, prefix),
    )


def sections(text: str, limit_bytes: int = SECTION_BYTES) -> list[str]:
    """Cut into pieces of at most that many UTF-8 bytes, each as long as the ends of paragraphs allow.

    A paragraph that is too long is cut at the ends of lines, a line at words, a word anywhere.
    """
    data = text.encode()
    start = 0
    found = []
    while len(data) - start > limit_bytes:
        end = _end(data, start, start + limit_bytes)
        found.append(data[start:end].decode())
        start = end
    return [*found, data[start:].decode()]


def _end(data: bytes, start: int, limit: int) -> int:
    for border, kept in _BORDERS:
        if (found := data.rfind(border, start, limit)) > start:
            return found + kept
    while data[limit] & 0xC0 == 0x80:  # not in the middle of a character
        limit -= 1
    return limit
