"""Text to tokens, as lm-eval 0.4.13 does it: context and continuation together, cut behind the context's tokens.

    Pair("Q: 2+2\\nA:", " 4")     "Q: 2+2\\nA:" -> 6 tokens, "Q: 2+2\\nA: 4" -> 7: the last one is scored

Together, because a tokenizer may join what stands on both sides of the border. White space at a context's end goes to
the continuation. An empty context is BOS, or EOS where the tokenizer has none. BOS begins every other text where the
tokenizer adds it, and only then; a prompt that brings its own is refused. What looks like another special token is
spelled out (lm-eval would take it for that token).

Price: what texts have in common is mostly encoded once (`alike.py`): 0.3 s for 300 five-shot questions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cpt_trainer.errors import DataError
from cpt_trainer.evaluate.alike import Tokens, encode_bundles
from cpt_trainer.evaluate.requests import Completion, Pair, Question
from cpt_trainer.tokenizer import Tokenizer, TokenizerFiles

_BATCH = 1024
"""Questions that are encoded together."""


NOTHING: Tokens = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """What goes through the model for one pair."""

    tokens: Tokens
    """Context and continuation."""
    scored: int
    """How many at the end are the continuation's; at least one."""
    dropped: int
    """From the beginning, since the model sees no more."""

    @property
    def context(self) -> Tokens:
        """At least one."""
        return self.tokens[: -self.scored]

    @property
    def inputs(self) -> Tokens:
        """The last token is only predicted."""
        return self.tokens[:-1]

    @property
    def targets(self) -> Tokens:
        """Each is predicted from the input before it."""
        return self.tokens[-self.scored :]


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """What a completion begins with."""

    tokens: Tokens
    dropped: int


class Encoder:
    """For one model: its tokenizer, and how many tokens it sees."""

    def __init__(self, files: TokenizerFiles, context_tokens: int, *, truncate: bool = False) -> None:
        self._tokenizer = Tokenizer(files)
        self._context_tokens = context_tokens
        self._truncate = truncate
        self._start = np.array([files.start], np.int32)
        self._bos = NOTHING if files.bos is None else np.array([files.bos], np.int32)
        self._start_text = self._tokenizer.text_of(files.start)

    def questions(self, questions: Sequence[Question]) -> list[tuple[Encoded, ...]]:
        """Of each question, its pairs."""
        found: list[tuple[Encoded, ...]] = [()] * len(questions)
        for first in range(0, len(questions), _BATCH):
            groups: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
            for number in range(first, min(first + _BATCH, len(questions))):
                groups[questions[number].task, questions[number].prefix_group].append(number)
            for members in groups.values():
                asked = [(questions[number], [_moved(pair) for pair in questions[number].pairs]) for number in members]
                texts = self._texts([_texts_of(pairs) for _, pairs in asked])
                for number, (question, pairs), known in zip(members, asked, texts, strict=True):
                    found[number] = tuple(self._pair(known, pair, question) for pair in pairs)
        return found

    def prompts(self, completions: Sequence[Completion]) -> list[Prompt]:
        """Of each completion."""
        texts = self._plain([completion.context for completion in completions])
        return [self._prompt(text, completion) for text, completion in zip(texts, completions, strict=True)]

    def decode(self, tokens: Sequence[int]) -> str:
        """Their text."""
        return self._tokenizer.decode(tokens)

    def _texts(self, bundles: Sequence[Sequence[str]]) -> list[Mapping[str, Tokens]]:
        """Without BOS."""
        ids = encode_bundles(bundles, self._plain)
        return [dict(zip(texts, found, strict=True)) for texts, found in zip(bundles, ids, strict=True)]

    def _plain(self, texts: Sequence[str]) -> list[Tokens]:
        """Nothing has no tokens."""
        found = iter(self._tokenizer.plain([text for text in texts if text]))
        return [next(found).astype(np.int32) if text else NOTHING for text in texts]

    def _pair(self, texts: Mapping[str, Tokens], pair: Pair, whose: Question) -> Encoded:
        self._require_one_start(pair.context or pair.continuation, whose)
        whole, context = texts[pair.context + pair.continuation], texts[pair.context]
        scored = len(whole) - len(context)
        begin = self._bos if pair.context else self._start
        if not pair.context and np.array_equal(whole[:1], self._start):
            begin, scored = NOTHING, scored - 1
        if scored < 1:
            raise DataError(
                f"{whose.name}: its continuation {pair.continuation!r} has no token of its own behind its context; "
                "a continuation begins where a word does, with its space"
            )
        tokens = np.concatenate([begin, whole])
        dropped = self._dropped(len(tokens) - 1, scored, whose)
        return Encoded(tokens[dropped:], scored, dropped)

    def _prompt(self, text: Tokens, whose: Completion) -> Prompt:
        self._require_one_start(whose.context, whose)
        tokens = np.concatenate([self._bos, text]) if len(text) else self._start
        dropped = self._dropped(len(tokens) + whose.tokens_max, whose.tokens_max + 1, whose)
        return Prompt(tokens[dropped:], dropped)

    def _dropped(self, length: int, needed: int, whose: Question | Completion) -> int:
        """Tokens that the model does not see of so many; the last `needed` it must see."""
        too_many = max(0, length - self._context_tokens)
        if too_many and (needed > self._context_tokens or not self._truncate):
            raise DataError(
                f"{whose.name}: {length} tokens, the model sees {self._context_tokens}: fewer shots, or allow the "
                "suite to cut prompts at their beginning"
            )
        return too_many

    def _require_one_start(self, text: str, whose: Question | Completion) -> None:
        if text.startswith(self._start_text):
            raise DataError(
                f"{whose.name}: its prompt begins with {self._start_text!r}, which would stand there twice: it is "
                "added where the model was trained with it"
            )


def _moved(pair: Pair) -> Pair:
    """White space at the context's end belongs to the continuation."""
    context = pair.context.rstrip()
    return Pair(context, pair.context[len(context) :] + pair.continuation)


def _texts_of(pairs: Sequence[Pair]) -> list[str]:
    """Each once: a context that choices share comes first."""
    return list(dict.fromkeys(text for pair in pairs for text in (pair.context, pair.context + pair.continuation)))
