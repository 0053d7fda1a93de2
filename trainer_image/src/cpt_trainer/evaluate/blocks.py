"""Which tokens go through the model together: cut by what is asked alone, never by who asks or how many ranks there are.

    a subject's 100 questions of five shots     their first 520 tokens are equal: the prefix, once
                                                what is left are 100 trees of about 85 tokens
    rows of at most 256 tokens                  three trees to a row, the longest first
    blocks of at most 8,192 tokens              32 rows, padded to the longest: one forward pass

A row holds whole questions that do not see each other. The same questions in another order give the same blocks, so
scores do not depend on the order either.

Price: padding, under 2 % with real suites; each rank computes the prefix of a group that it has a block of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cpt_trainer.evaluate.encode import Encoded, Tokens
from cpt_trainer.evaluate.requests import Question
from cpt_trainer.evaluate.tree import Tree, common_length, sort_key, tree_of

PREFIX_TOKENS_MIN = 32
"""A prefix costs a pass of its own, in which there is little to do."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """How passes are cut. It is part of how scores are rounded, so tables with different ones are not compared."""

    row_tokens: int = 256
    """Questions share a row up to that."""
    block_tokens: int = 8192
    """Of a forward pass, with padding."""
    share: bool = True
    """Prefixes and contexts are computed once; else each text has a row of its own."""


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """A tree, and whose it is."""

    question: int
    pairs: tuple[int, ...]
    """Of the question, in the order of the tree's reads."""
    tree: Tree


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A forward pass."""

    prefix: Tokens
    """Seen by all of it; may be empty."""
    rows: tuple[tuple[Leaf, ...], ...]

    @property
    def row_tokens(self) -> int:
        """Of the longest row."""
        return max(sum(len(leaf.tree) for leaf in row) for row in self.rows)


def cut(questions: Sequence[Question], encoded: Sequence[Sequence[Encoded]], geometry: Geometry) -> list[Block]:
    """Each pair of each question is in one block."""
    groups = _groups(questions, encoded) if geometry.share else {_NO_PREFIX: list(range(len(questions)))}
    blocks: list[Block] = []
    for key, members in groups.items():
        shared = 0 if key == _NO_PREFIX else _shared(encoded, members)
        leaves = [leaf for number in members for leaf in _leaves(number, encoded[number], shared, geometry)]
        leaves.sort(key=lambda leaf: (-len(leaf.tree), questions[leaf.question].task, questions[leaf.question].item))
        prefix = encoded[members[0]][0].tokens[:shared]
        blocks += (Block(prefix, rows) for rows in _packed(leaves, geometry))
    return blocks


_NO_PREFIX = ("", "")


def _groups(questions: Sequence[Question], encoded: Sequence[Sequence[Encoded]]) -> Mapping[tuple[str, str], list[int]]:
    """Questions by what they share, in a fixed order; those that share little are one group."""
    named: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for number, question in enumerate(questions):
        named[question.task, question.prefix_group].append(number)
    groups: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for name, members in sorted(named.items()):
        is_worth = len(members) > 1 and _shared(encoded, members) >= PREFIX_TOKENS_MIN
        groups[name if is_worth else _NO_PREFIX] += members
    return groups


def _shared(encoded: Sequence[Sequence[Encoded]], members: Sequence[int]) -> int:
    """Tokens with which all contexts begin; one of each is left, so that what is predicted lies in rows."""
    contexts = [pair.context for number in members for pair in encoded[number]]
    first, last = min(contexts, key=sort_key), max(contexts, key=sort_key)
    return min(common_length(first, last), min(map(len, contexts)) - 1)


def _leaves(number: int, pairs: Sequence[Encoded], shared: int, geometry: Geometry) -> Iterator[Leaf]:
    if geometry.share:
        yield Leaf(number, tuple(range(len(pairs))), tree_of(pairs, shared))
        return
    for place, pair in enumerate(pairs):
        yield Leaf(number, (place,), tree_of([pair]))


def _packed(leaves: Sequence[Leaf], geometry: Geometry) -> Iterator[tuple[tuple[Leaf, ...], ...]]:
    """Rows of blocks; leaves come the longest first."""
    rows: list[list[Leaf]] = []
    most = used = 0
    for leaf in leaves:
        size = len(leaf.tree)
        if rows and geometry.share and used + size <= most:
            rows[-1].append(leaf)
            used += size
            continue
        if rows and (len(rows) + 1) * most > geometry.block_tokens:
            yield tuple(map(tuple, rows))
            rows = []
        if not rows:
            most = max(geometry.row_tokens, size) if geometry.share else size
        rows.append([leaf])
        used = size
    if rows:
        yield tuple(map(tuple, rows))
