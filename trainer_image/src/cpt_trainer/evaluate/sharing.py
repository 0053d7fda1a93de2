"""Which questions begin with the same tokens: the shots of a subject, found in tokens and not believed of texts.

    100 questions of one prefix group, 100 prompts     their first 520 tokens are equal: worth a pass of its own
    10 questions that share "Question: "               3 tokens: not worth it

Price: the first and the last prompt of a group in order of tokens are compared, since all others lie between them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cpt_trainer.evaluate.alike import Tokens
from cpt_trainer.evaluate.encode import NOTHING
from cpt_trainer.evaluate.requests import Completion, Question
from cpt_trainer.evaluate.tree import common_length, sort_key

PREFIX_TOKENS_MIN = 32
"""A prefix costs a pass of its own, in which there is little to do."""


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Requests that begin alike."""

    prefix: Tokens
    """May be empty."""
    members: tuple[int, ...]


def grouped(requests: Sequence[Question | Completion], contexts: Sequence[Sequence[Tokens]]) -> list[Group]:
    """In a fixed order; those that share too little are one group. Of each context one token at least is left."""
    named: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for number, request in enumerate(requests):
        named[request.task, request.prefix_group].append(number)
    groups: list[Group] = []
    rest: list[int] = []
    for _, members in sorted(named.items()):
        texts = [context for number in members for context in contexts[number]]
        shared = _shared(texts)
        if len(members) > 1 and shared >= PREFIX_TOKENS_MIN:
            groups.append(Group(texts[0][:shared], tuple(members)))
        else:
            rest += members
    return [*groups, Group(NOTHING, tuple(rest))] if rest else groups


def _shared(texts: Sequence[Tokens]) -> int:
    first, last = min(texts, key=sort_key), max(texts, key=sort_key)
    return min(common_length(first, last), min(map(len, texts)) - 1)
