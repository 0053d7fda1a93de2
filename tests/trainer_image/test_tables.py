"""Item tables: what is written is what is read, equal items are equal bytes, and scores know how sure they are."""

from __future__ import annotations

import hashlib
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_trainer.errors import DataError, MissingError
from cpt_trainer.store import FolderStore
from cpt_trainer.tables import (
    SCHEMA,
    UNKNOWN,
    Items,
    from_parquet,
    heldout_items,
    heldout_score,
    read_items,
    to_parquet,
    write_heldout,
    write_items,
)
from make import make_digest

TEXT = make_digest("text")
ROWS = st.lists(
    st.tuples(st.integers(0, 99), st.integers(0, 9), st.floats(0, 1e6), st.integers(1, 8192)),
    min_size=1,
    max_size=30,
    unique_by=lambda row: row[:2],
)


def make_items(rows: list[tuple[int, int, float, int]]) -> Items:
    """Sections of documents by number."""
    return heldout_items(
        TEXT,
        [f"{document:02d}/{section}" for document, section, _, _ in rows],
        [f"{document:02d}" for document, *_ in rows],
        [bits for *_, bits, _ in rows],
        [size for *_, size in rows],
    )


def multiple_choice() -> Items:
    """Two questions with choices, one of them without a scored answer."""
    return Items(
        suite=np.array(["mmlu", "mmlu"]),
        task=np.array(["letters", "letters"]),
        item=np.array(["q2", "q1"]),
        item_hash=np.array(["b", "a"]),
        prompt_hash=np.array(["p", "p"]),
        stratum=np.array(["law", "art"]),
        cluster=np.array(["q2", "q1"]),
        choice_logprobs=[[-1.5, -0.25], [-3.0, -2.0]],
        choice_tokens=[[1, 1], [2, 1]],
        choice_chars=[[1, 1], [4, 3]],
        choice_bytes=[[1, 1], [5, 3]],
        gold=np.array([1, 0]),
        bits=np.array([0.36, np.nan]),
        bytes=np.array([1, 0]),
        correct=np.array([1, 0]),
        margin=np.array([1.25, -1.0]),
    )


class TestParquet:
    """The file."""

    @given(ROWS, st.randoms())
    @settings(max_examples=30, deadline=None)
    def test_order_of_rows_changes_no_byte(self, rows: list[tuple[int, int, float, int]], random: Random) -> None:
        """Whoever writes the same items writes the same file."""
        shuffled = list(rows)
        random.shuffle(shuffled)
        assert to_parquet(make_items(shuffled)) == to_parquet(make_items(rows))

    @given(ROWS)
    @settings(max_examples=30, deadline=None)
    def test_what_is_written_is_read(self, rows: list[tuple[int, int, float, int]]) -> None:
        """Every number comes back with every bit, sorted by item."""
        items = from_parquet(to_parquet(make_items(rows)), "key")
        assert list(zip(items.item, items.bits, items.bytes, strict=True)) == sorted(
            (f"{document:02d}/{section}", bits, size) for document, section, bits, size in rows
        )

    def test_choices(self) -> None:
        """Choices and unknown values survive as well."""
        items = from_parquet(to_parquet(multiple_choice()), "key")
        assert items.item.tolist() == ["q1", "q2"]
        assert items.choice_logprobs == ((-3.0, -2.0), (-1.5, -0.25))
        assert items.choice_bytes == ((5, 3), (1, 1))
        assert items.gold.tolist() == [0, 1]
        assert items.correct.tolist() == [0, 1]
        assert np.isnan(items.bits).tolist() == [True, False]

    def test_what_is_unknown_is_null(self) -> None:
        """Other readers of the file are not told -1 or NaN."""
        table = pq.read_table(pa.BufferReader(to_parquet(make_items([(1, 0, 8.0, 4)]))))
        row = table.to_pylist()[0]
        assert (row["gold"], row["correct"], row["margin"], row["choiceLogprobs"]) == (None, None, None, [])
        assert table.schema.equals(SCHEMA)

    def test_twice(self) -> None:
        """A row that stands there twice would count twice: it is refused."""
        with pytest.raises(ValueError, match="stands twice"):
            to_parquet(make_items([(1, 0, 8.0, 4), (1, 0, 8.0, 4)]))

    def test_columns_of_one_length(self) -> None:
        """A column that lacks a row is our own mistake."""
        with pytest.raises(ValueError, match="'bits': 2"):
            heldout_items(TEXT, ["a"], ["a"], [1.0, 2.0], [1])

    @pytest.mark.parametrize(
        "data", [b"", b"PAR1 no", to_parquet(multiple_choice())[:-40]], ids=["empty", "text", "cut"]
    )
    def test_no_table(self, data: bytes) -> None:
        """Anything else is named, and is no crash."""
        with pytest.raises(DataError, match=r"tables/x\.parquet is no item table"):
            from_parquet(data, "tables/x.parquet")

    def test_other_columns(self) -> None:
        """A Parquet file of something else is refused."""
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"a": [1]}), sink)
        with pytest.raises(DataError, match="columns"):
            from_parquet(sink.getvalue().to_pybytes(), "key")

    def test_size(self) -> None:
        """About 100 bytes an item: names are hashes, bits have 64 random bits."""
        rows = 2000
        random = np.random.default_rng(0)
        documents = [make_digest(str(number // 4)) for number in range(rows)]
        sections = [f"{document}/{number % 4}" for number, document in enumerate(documents)]
        items = heldout_items(TEXT, sections, documents, random.random(rows), np.full(rows, 8000))
        assert len(to_parquet(items)) < 100 * rows


class TestStore:
    """Where tables lie."""

    def test_output(self, tmp_path: Path) -> None:
        """The result can name key, size and hash of what lies in the store."""
        store = FolderStore(tmp_path)
        output = write_items(store, "data/team/x/", "mmlu", multiple_choice())
        data = store.get("data/team/x/" + output.key)
        assert (output.bytes, output.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert output.key == f"tables/mmlu-{output.sha256[:12]}.parquet"
        assert read_items(store, "data/team/x/" + output.key).item.tolist() == ["q1", "q2"]

    def test_late_writer(self, tmp_path: Path) -> None:
        """Another attempt whose numbers differ does not touch the table of the first."""
        store = FolderStore(tmp_path)
        _, first = write_heldout(store, "d/", TEXT, make_items([(1, 0, 8.0, 4), (2, 0, 9.0, 4)]))
        _, second = write_heldout(store, "d/", TEXT, make_items([(1, 0, 8.1, 4), (2, 0, 9.0, 4)]))
        assert first.key != second.key
        assert read_items(store, "d/" + first.key).bits.tolist() == [8.0, 9.0]

    def test_missing(self, tmp_path: Path) -> None:
        """A table that is not there is missing, as any key."""
        with pytest.raises(MissingError):
            read_items(FolderStore(tmp_path), "d/tables/x.parquet")


class TestHeldoutScore:
    """Bits per byte."""

    def test_by_hand(self, tmp_path: Path) -> None:
        """A document counts by its bytes: (10 + 30) bits / (10 + 10) bytes, residuals of 10 bits each way."""
        items = make_items([(1, 0, 4.0, 5), (1, 1, 6.0, 5), (2, 0, 30.0, 10)])
        score, output = write_heldout(FolderStore(tmp_path), "d/", TEXT, items)
        assert (score.bits_per_byte, score.standard_error) == (2.0, 1.0)
        assert (score.documents, score.bytes, score.table) == (2, 20, output.key)

    @given(ROWS, st.floats(0.01, 100))
    @settings(max_examples=30, deadline=None)
    def test_scale(self, rows: list[tuple[int, int, float, int]], factor: float) -> None:
        """Twice the bits is twice the score and twice its standard error."""
        rows = [*rows, (100, 0, 5.0, 5), (101, 0, 6.0, 5)]
        scaled = [(document, section, bits * factor, size) for document, section, bits, size in rows]
        value, error = heldout_score(make_items(rows))
        assert heldout_score(make_items(scaled)) == pytest.approx((value * factor, error * factor), rel=1e-6, abs=1e-9)

    def test_sections_of_a_document_vary_together(self) -> None:
        """Cutting documents into more sections makes no score surer."""
        whole = [(document, 0, float(8 * document), 8) for document in range(1, 9)]
        halves = [(document, section, float(4 * document), 4) for document in range(1, 9) for section in (0, 1)]
        assert heldout_score(make_items(halves)) == heldout_score(make_items(whole))

    def test_one_document(self) -> None:
        """A single document says nothing about others."""
        with pytest.raises(DataError, match="one document"):
            heldout_score(make_items([(1, 0, 8.0, 4), (1, 1, 9.0, 4)]))

    @pytest.mark.parametrize("bits", [float("nan"), float("inf")])
    def test_not_finite(self, bits: float) -> None:
        """A model that gives no number has no score."""
        with pytest.raises(DataError, match="NaN or infinity"):
            heldout_score(make_items([(1, 0, bits, 4), (2, 0, 9.0, 4)]))

    def test_unknown_is_not_an_answer(self) -> None:
        """Held-out text has no gold choice and nothing to be correct about."""
        items = make_items([(1, 0, 8.0, 4)])
        assert items.gold.tolist() == items.correct.tolist() == [UNKNOWN]
