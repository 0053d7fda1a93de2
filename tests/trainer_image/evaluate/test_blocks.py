"""Trees, groups and blocks: every pair once, nothing sees what it should not, and the order plays no part."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cpt_trainer.evaluate.blocks import Block, Geometry, cut, cut_prompts, prefix_work
from cpt_trainer.evaluate.encode import Encoded, Prompt
from cpt_trainer.evaluate.requests import Completion, Pair, Question
from cpt_trainer.evaluate.sharing import PREFIX_TOKENS_MIN, grouped
from cpt_trainer.evaluate.tree import Tree, common_length, see, tree_of

TOKEN = st.integers(0, 2)  # few, so that texts have beginnings in common
ENCODED = st.builds(
    lambda tokens, scored: Encoded(np.array(tokens, np.int32), min(scored, len(tokens) - 1), 0),
    st.lists(TOKEN, min_size=2, max_size=12),
    st.integers(1, 4),
)
PAIRS = st.lists(ENCODED, min_size=1, max_size=5)


def way_to(tree: Tree, place: int) -> list[int]:
    """The tokens that a token sees, itself at the end."""
    found: list[int] = tree.tokens[see(tree.ends)[place]].tolist()
    return found


class TestTree:
    """Of a question's pairs."""

    @given(PAIRS)
    def test_sees_its_own_text(self, pairs: list[Encoded]) -> None:
        """Behind each read place stands exactly the beginning of the pair's own text."""
        tree = tree_of(pairs)
        for pair, reads in zip(pairs, tree.reads, strict=True):
            ends = range(len(pair.context), len(pair.tokens))
            assert [way_to(tree, place) for place in reads.places.tolist()] == [
                pair.tokens[:end].tolist() for end in ends
            ]
            assert reads.targets.tolist() == pair.tokens[len(pair.context) :].tolist()

    @given(PAIRS)
    def test_each_beginning_once(self, pairs: list[Encoded]) -> None:
        """It has as many tokens as there are different beginnings, and each has the depth of its own."""
        tree = tree_of(pairs)
        ways = [tuple(way_to(tree, place)) for place in range(len(tree))]
        assert set(ways) == {tuple(p.inputs[:n].tolist()) for p in pairs for n in range(1, len(p.inputs) + 1)}
        assert len(set(ways)) == len(ways)
        assert tree.depths.tolist() == [len(way) - 1 for way in ways]
        assert tree.pairs == sum(map(len, ways))

    @given(PAIRS, st.integers(1, 3))
    def test_behind_a_prefix(self, pairs: list[Encoded], shared: int) -> None:
        """The tree behind a prefix is that of the texts without it."""
        before = np.arange(10, 10 + shared, dtype=np.int32)
        longer = [Encoded(np.concatenate([before, pair.tokens]), pair.scored, 0) for pair in pairs]
        one, other = tree_of(longer, shared), tree_of(pairs)
        for name in ("tokens", "depths", "ends"):
            assert getattr(one, name).tolist() == getattr(other, name).tolist()

    def test_example(self) -> None:
        """As in the module's docstring."""
        pairs = [Encoded(np.array(text, np.int32), 2, 0) for text in ([7, 8, 1, 2, 3, 9], [7, 8, 1, 2, 4, 9])]
        tree = tree_of(pairs)
        assert tree.tokens.tolist() == [7, 8, 1, 2, 3, 4]
        assert tree.ends.tolist() == [6, 6, 6, 6, 5, 6]


@given(st.lists(TOKEN), st.lists(TOKEN))
def test_common_length(one: list[int], other: list[int]) -> None:
    """Of the tokens with which both begin."""
    length = common_length(np.array(one, np.int32), np.array(other, np.int32))
    assert one[:length] == other[:length]
    assert length in (len(one), len(other)) or one[length] != other[length]


def encoded(length: int, *, behind: int = 0, choices: int = 2) -> tuple[Encoded, ...]:
    """A context of that length behind shots, and choices of one token and of two."""
    context = [*range(1000, 1000 + behind), *range(length * 7, length * 8)]
    return tuple(Encoded(np.array([*context, *range(1 + n % 2)], np.int32), 1 + n % 2, 0) for n in range(choices))


def questions(*groups: str) -> list[Question]:
    """One of each group, named by its place."""
    return [Question("t", f"{n:03}", group, (Pair("", ""),)) for n, group in enumerate(groups)]


def names(blocks: list[Block], asked: list[Question]) -> list[Any]:
    """What is where."""
    return [[[(asked[leaf.question].item, leaf.pairs) for leaf in row] for row in block.rows] for block in blocks]


class TestGroups:
    """What is shared is found in tokens."""

    def test_shots(self) -> None:
        """A prefix that is long enough is shared by its group; the others are together."""
        texts = [[one.context for one in encoded(5 + n, behind=40 if n < 3 else 3)] for n in range(6)]
        groups = grouped(questions(*"aaabbb"), texts)
        assert [(len(group.prefix), group.members) for group in groups] == [(40, (0, 1, 2)), (0, (3, 4, 5))]

    def test_one_is_left(self) -> None:
        """Also of equal contexts the last token stays, since something is read behind it."""
        texts = [[encoded(50)[0].context]] * 3
        [group] = grouped(questions(*"aaa"), texts)
        assert len(group.prefix) == 49

    def test_alone(self) -> None:
        """One question shares its context with nobody."""
        assert [len(g.prefix) for g in grouped(questions("a"), [[encoded(PREFIX_TOKENS_MIN + 9)[0].context]])] == [0]


class TestBlocks:
    """Passes."""

    @given(
        st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 80), st.integers(1, 400), st.booleans()
    )
    def test_every_pair_once(self, lengths: list[int], row: int, block: int, share: bool) -> None:
        """Each pair is in one block, and no block of several rows is larger than it may be."""
        asked = questions(*("a" if n % 3 else "b" for n in range(len(lengths))))
        texts = [encoded(length, behind=40 * (n % 2)) for n, length in enumerate(lengths)]
        blocks = cut(asked, texts, Geometry(row, block, share=share))
        there = [(leaf.question, pair) for b in blocks for r in b.rows for leaf in r for pair in leaf.pairs]
        assert sorted(there) == [(n, pair) for n in range(len(lengths)) for pair in range(2)]
        for one in blocks:
            assert len(one.rows) == 1 or len(one.rows) * one.row_tokens <= block
        if share:
            assert all(len(row) == 1 or sum(len(leaf.tree) for leaf in row) <= one.row_tokens for row in one.rows)

    @given(st.permutations(range(12)))
    def test_any_order(self, order: list[int]) -> None:
        """The order in which questions are given changes nothing."""
        asked, texts = questions(*"aaaabbbbcccc"), [encoded(3 + n % 5, behind=40) for n in range(12)]
        again = [asked[n] for n in order]
        geometry = Geometry(20, 60)
        want = names(cut(asked, texts, geometry), asked)
        assert names(cut(again, [texts[n] for n in order], geometry), again) == want

    def test_work(self) -> None:
        """Tokens and pairs are those of the texts, each beginning once."""
        asked, texts = questions(*"aaa"), [encoded(5, behind=40, choices=1) for n in range(3)]
        blocks = cut(asked, texts, Geometry())
        work = sum((block.work for block in blocks), prefix_work(blocks))
        assert (work.tokens, work.pairs) == (44 + 3, 44 * 45 // 2 + 3 * 45)
        naive = cut(asked, texts, Geometry(share=False))
        work = sum((block.work for block in naive), prefix_work(naive))
        assert (work.tokens, work.pairs) == (3 * 45, 3 * 45 * 46 // 2)


class TestPromptBlocks:
    """Of completions."""

    def test_each_once(self) -> None:
        """Each prompt is in one block that has room for its answer."""
        asked = [Completion("t", f"{n:03}", "g", "", (), 10) for n in range(30)]
        prompts = [Prompt(encoded(5 + n, behind=40)[0].context, 0) for n in range(30)]
        blocks = cut_prompts(asked, prompts, Geometry(block_tokens=200))
        assert sorted(number for block in blocks for number in block.numbers) == list(range(30))
        for block in blocks:
            whole = [[*block.prefix, *text] for text in block.prompts]
            assert whole == [prompts[number].tokens.tolist() for number in block.numbers]
            assert len(whole) == 1 or len(whole) * (max(map(len, whole)) + 10) <= 200
