"""Which tokens go through the model together: cut by what is asked alone, never by how many ranks there are.

    a subject's 100 questions of five shots     their first 520 tokens are equal: the prefix, once
                                                what is left are 100 trees of about 85 tokens
    rows of at most 256 tokens                  three trees to a row, the longest first
    blocks of at most 8,192 tokens              32 rows, padded to the longest: one forward pass

A row holds whole questions that do not see each other. The same questions in another order give the same blocks, so
scores do not depend on the order either.

Price: padding, under 10 % with real suites; each rank computes the prefix of a group that it has a block of.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cpt_trainer.evaluate.alike import Tokens
from cpt_trainer.evaluate.encode import NOTHING, Encoded, Prompt
from cpt_trainer.evaluate.requests import Completion, Question
from cpt_trainer.evaluate.sharing import Group, grouped
from cpt_trainer.evaluate.tree import Tree, tree_of

PROMPTS = 64
"""That are answered together: a step of fewer takes as long."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """How passes are cut. It is part of how scores are rounded, so tables with different ones are not compared."""

    row_tokens: int = 256
    """Questions share a row up to that."""
    block_tokens: int = 8192
    """Of a forward pass, with padding."""
    share: bool = True
    """Prefixes and contexts are computed once; else each text has a row of its own."""


@dataclass(frozen=True, slots=True)
class Work:
    """What goes through the model, without padding."""

    tokens: int
    pairs: int
    """Of tokens that see each other, each with itself."""

    def __add__(self, other: Work) -> Work:
        return Work(self.tokens + other.tokens, self.pairs + other.pairs)


def work_of(tokens: int, before: int = 0) -> Work:
    """A text behind others."""
    return Work(tokens, tokens * before + tokens * (tokens + 1) // 2)


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

    @property
    def work(self) -> Work:
        """Without the prefix's own."""
        trees = [leaf.tree for row in self.rows for leaf in row]
        tokens = sum(map(len, trees))
        return Work(tokens, sum(tree.pairs for tree in trees) + len(self.prefix) * tokens)


@dataclass(frozen=True, slots=True, eq=False)
class PromptBlock:
    """Completions that are made together."""

    prefix: Tokens
    """Seen by all of it; may be empty."""
    numbers: tuple[int, ...]
    """Of the completions."""
    prompts: tuple[Tokens, ...]
    """Behind the prefix."""


def cut(questions: Sequence[Question], encoded: Sequence[Sequence[Encoded]], geometry: Geometry) -> list[Block]:
    """Each pair of each question is in one block."""
    contexts = [[pair.context for pair in pairs] for pairs in encoded]
    everything = Group(NOTHING, tuple(range(len(questions))))
    blocks: list[Block] = []
    for group in grouped(questions, contexts) if geometry.share else [everything]:
        shared = len(group.prefix)
        leaves = [leaf for number in group.members for leaf in _leaves(number, encoded[number], shared, geometry)]
        leaves.sort(key=lambda leaf: (-len(leaf.tree), questions[leaf.question].task, questions[leaf.question].item))
        blocks += (Block(group.prefix, rows) for rows in _packed(leaves, geometry))
    return blocks


def cut_prompts(completions: Sequence[Completion], prompts: Sequence[Prompt], geometry: Geometry) -> list[PromptBlock]:
    """Each completion is in one block: the longest prompts first, at most PROMPTS, with room for their answers."""
    contexts = [[prompt.tokens] for prompt in prompts]
    everything = Group(NOTHING, tuple(range(len(completions))))
    blocks: list[PromptBlock] = []
    for group in grouped(completions, contexts) if geometry.share else [everything]:
        order = sorted(group.members, key=lambda n: (-len(prompts[n].tokens), completions[n].task, completions[n].item))
        while order:
            longest = len(prompts[order[0]].tokens) + completions[order[0]].tokens_max
            rows = max(1, min(PROMPTS, geometry.block_tokens // longest))
            texts = [prompts[number].tokens[len(group.prefix) :] for number in order[:rows]]
            blocks.append(PromptBlock(group.prefix, tuple(order[:rows]), tuple(texts)))
            order = order[rows:]
    return blocks


def prefix_work(blocks: Sequence[Block | PromptBlock]) -> Work:
    """Each prefix once."""
    distinct = {block.prefix.tobytes(): len(block.prefix) for block in blocks}
    return sum((work_of(tokens) for tokens in distinct.values()), Work(0, 0))


def _leaves(number: int, pairs: Sequence[Encoded], shared: int, geometry: Geometry) -> Iterator[Leaf]:
    if geometry.share:
        yield Leaf(number, tuple(range(len(pairs))), tree_of(pairs, shared))
        return
    for place, pair in enumerate(pairs):
        yield Leaf(number, (place,), tree_of([pair]))


def _packed(leaves: Sequence[Leaf], geometry: Geometry) -> Iterator[tuple[tuple[Leaf, ...], ...]]:
    """Rows of blocks, the longest leaf first. What a row has left goes to the longest that fits."""
    left = list(reversed(leaves))
    sizes = [len(leaf.tree) for leaf in left]  # ascending
    rows: list[tuple[Leaf, ...]] = []
    most = 0
    while left:
        if rows and (len(rows) + 1) * most > geometry.block_tokens:
            yield tuple(rows)
            rows = []
        if not rows:
            most = max(geometry.row_tokens, sizes[-1]) if geometry.share else sizes[-1]
        row, room = [], most
        while place := bisect_right(sizes, room):
            row.append(left.pop(place - 1))
            room -= sizes.pop(place - 1)
            if not geometry.share:
                break
        rows.append(tuple(row))
    if rows:
        yield tuple(rows)
