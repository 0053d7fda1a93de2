"""However many ranks answer, and whoever is killed in between: the same answers to the last bit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking import some_completions, some_questions
from cpt_trainer.errors import DamagedError, DataError, Hang, MissingError
from cpt_trainer.evaluate.blocks import Geometry
from cpt_trainer.evaluate.place import Placement
from cpt_trainer.evaluate.requests import Likelihood
from cpt_trainer.evaluate.shards import FOLDER, Shards
from cpt_trainer.peers import Alone
from cpt_trainer.store import Address, Store, open_address
from make import make_digest
from tiny_model import ALONE, scorer_of, tiny_llama

SMALL = Geometry(row_tokens=40, block_tokens=80)
PLAN = make_digest("plan")
PREFIX = "data/team/x/"


@dataclass(frozen=True)
class Lost(Alone):
    """The others of a rank whom it never hears again: it has done its part, and dies waiting."""

    def gather(self, value: Any) -> list[Any]:
        """No answer."""
        raise Hang(f"a rank did not answer to {value}")


@dataclass
class Faulty:
    """A store that dies at a write; all else is the real one's."""

    store: Store
    left: int
    """Writes."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """While there are some left."""
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return self.store.put_if_absent(key, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model."""
    return tiny_llama(tmp_path_factory.mktemp("model"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Empty."""
    return open_address(Address(str(tmp_path / "store")))


def shards(store: Store, rank: int = 0, size: int = 1, *, lost: bool = False) -> Shards:
    """Of one rank."""
    peers = Lost() if lost else Alone()
    return Shards(store, PREFIX, replace(ALONE, rank=rank, size=size, peers=peers), Placement.WHOLE)


def answer(folder: Path, keeper: Shards | None) -> list[tuple[Likelihood, ...]]:
    """All that is asked."""
    return scorer_of(folder, SMALL, keeper).likelihoods(some_questions())


class TestRanks:
    """Design 5: "the item table is identical for 1, 2, 3 or 8 shards"."""

    @pytest.mark.parametrize("size", [1, 2, 3, 8])
    def test_same_answers(self, folder: Path, store: Store, size: int) -> None:
        """Each rank answers its shards; the last one to come reads them all."""
        for rank in range(1, size):
            with pytest.raises(Hang):
                answer(folder, shards(store, rank, size, lost=True))
        written = len(list(store.list(PREFIX + FOLDER)))
        assert answer(folder, shards(store, 0, size)) == answer(folder, None)
        assert (written > 0) == (size > 1)
        assert len(list(store.list(PREFIX + FOLDER))) > written

    @given(st.integers(0, 60), st.integers(1, 9))
    def test_each_shard_once(self, count: int, size: int) -> None:
        """Every shard is somebody's, nobody's twice, and nobody has two more than another."""
        parts = [shards(open_address(Address("nowhere")), rank, size)._mine(PLAN, count) for rank in range(size)]
        assert sorted(number for part in parts for number in part) == list(range(count))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1

    def test_completions(self, folder: Path, store: Store) -> None:
        """Texts too."""
        with pytest.raises(Hang):
            scorer_of(folder, SMALL, shards(store, 1, 2, lost=True)).completions(some_completions())
        resumed = scorer_of(folder, SMALL, shards(store, 0, 3))
        with pytest.raises(MissingError, match="the answers of a shard are missing"):  # rank 2 of 3 never was
            resumed.completions(some_completions())
        alone, kept = scorer_of(folder, SMALL), scorer_of(folder, SMALL, shards(store))
        assert kept.completions(some_completions()) == alone.completions(some_completions())
        assert kept.observed == alone.observed


class TestResume:
    """A killed evaluation goes on."""

    @pytest.mark.parametrize("size", [1, 2, 3])
    def test_other_ranks(self, folder: Path, store: Store, size: int) -> None:
        """Killed half-way on one rank, resumed by others: identical, and nothing is answered twice."""
        total = len(_plan_of(folder, store))
        with pytest.raises(KeyboardInterrupt):
            answer(folder, replace(shards(store), store=Faulty(store, total // 2)))
        before = {entry.key: entry.etag for entry in store.list(PREFIX + FOLDER)}
        assert len(before) == total // 2
        for rank in range(1, size):
            with pytest.raises(Hang):
                answer(folder, shards(store, rank, size, lost=True))
        assert answer(folder, shards(store, 0, size)) == answer(folder, None)
        after = {entry.key: entry.etag for entry in store.list(PREFIX + FOLDER)}
        assert len(after) == total
        assert before.items() <= after.items()

    def test_other_questions(self, folder: Path, store: Store) -> None:
        """Answers to other questions, or with other passes, are not taken for these."""
        questions = some_questions()
        scorer_of(folder, SMALL, shards(store)).likelihoods(questions)
        for geometry, some in ((SMALL, questions[1:]), (Geometry(), questions)):
            kept, alone = scorer_of(folder, geometry, shards(store)), scorer_of(folder, geometry)
            assert kept.likelihoods(some) == alone.likelihoods(some)

    def test_forget(self, folder: Path, store: Store) -> None:
        """What is committed elsewhere needs no answers."""
        keeper = shards(store)
        answer(folder, keeper)
        keeper.forget()
        assert not list(store.list(PREFIX))


class TestFaults:
    """Issue 5: "a torn shard, a duplicated shard"."""

    @pytest.mark.parametrize(
        "damage", [lambda data: data[:-9], lambda data: data.replace(b"-", b"+", 1), lambda _: b""]
    )
    def test_torn(self, folder: Path, store: Store, damage: Any, capsys: pytest.CaptureFixture[str]) -> None:
        """A shard whose bytes are not those that were written is named, and answered again."""
        want = answer(folder, shards(store))
        key = next(entry.key for entry in store.list(PREFIX + FOLDER))
        store.put(key, damage(store.get(key)))
        assert answer(folder, shards(store)) == want
        assert f"{key} does not hold shard" in capsys.readouterr().out

    def test_duplicated(self, folder: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
        """A shard under another one's name is not taken for it."""
        want = answer(folder, shards(store))
        one, other, *_ = (entry.key for entry in store.list(PREFIX + FOLDER))
        store.put(other, store.get(one))
        assert answer(folder, shards(store)) == want
        assert f"{other} does not hold shard 1 of this evaluation: it holds shard 0" in capsys.readouterr().out

    def test_written_by_two(self, folder: Path, store: Store) -> None:
        """Of two that answer the same shard the first counts for both."""
        want = answer(folder, shards(store))
        assert not store.put_if_absent(next(entry.key for entry in store.list(PREFIX + FOLDER)), b"other")
        assert answer(folder, shards(store)) == want

    def test_torn_while_others_read(self, store: Store) -> None:
        """What is damaged at the very end is an error: the next attempt answers it again."""

        def late(_: int) -> list[Any]:
            store.put(f"{PREFIX}{FOLDER}{PLAN}/00000.json", b"torn")
            return []

        with pytest.raises(DamagedError, match="does not hold shard 0"):
            shards(store).answered(PLAN, range(8), late)

    def test_counted(self, folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """An answer that is there twice, or not at all, is an error and no mean over fewer."""
        keeper = shards(store)
        real = Shards.answered
        for change, words in (
            (lambda rows: rows[1:], "of 4 pairs were scored"),
            (lambda rows: rows + rows[:1], "twice"),
        ):
            monkeypatch.setattr(Shards, "answered", lambda *given, change=change: change(real(*given)))
            with pytest.raises(DataError, match=words):
                answer(folder, keeper)


def _plan_of(folder: Path, store: Store) -> list[str]:
    """The shards that there will be."""
    keeper = shards(store)
    answer(folder, keeper)
    keys = [entry.key for entry in store.list(PREFIX + FOLDER)]
    keeper.forget()
    return keys
