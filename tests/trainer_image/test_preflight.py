"""What Preflight finds, and what it says about it."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from corpus import CONFIG, Corpus, jsonl
from cpt_api.result import Outcome, Result
from cpt_api.trial import InputKind
from cpt_trainer import preflight
from cpt_trainer.errors import UnreachableError
from cpt_trainer.evaluate.items import Item, write_items, write_manifest
from cpt_trainer.preflight import Why
from cpt_trainer.sources import list_files
from cpt_trainer.store import FaultyStore
from cpt_trainer.trial import Trial
from cpt_trainer.weights import INDEX, SINGLE


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """A good dataset at 'data' and a good model at 'base'."""
    corpus = Corpus.in_folder(tmp_path)
    corpus.put("data/a.jsonl", jsonl("one", "two"))
    corpus.put_tokenizer("base")
    corpus.put(f"base/{SINGLE}", safetensors.numpy.save({"w": np.zeros(4, np.float32)}))
    return corpus


def look(trial: Trial) -> Result:
    """What a Preflight commits."""
    preflight.run(trial)
    result = trial.result()
    assert result is not None
    return result


def look_at(corpus: Corpus, kind: InputKind, uri: str, **wanted: str | list[str]) -> list[tuple[str, str]]:
    """Reasons and messages about one input."""
    result = look(corpus.preflight({"kind": kind, "uri": uri, **wanted}))
    assert (result.outcome is Outcome.FINDINGS) == bool(result.findings)
    assert all(finding.input == "input-0" for finding in result.findings)
    return [(finding.reason, finding.message) for finding in result.findings]


def test_good(corpus: Corpus) -> None:
    """Good inputs are resolved to the digest, files and bytes of their listings."""
    result = look(
        corpus.preflight(
            {"kind": "Model", "uri": "base"}, {"kind": "Tokenizer", "uri": "base"}, {"kind": "Dataset", "uri": "data"}
        )
    )
    assert (result.outcome, result.findings) == (Outcome.COMPLETED, ())
    files = list_files(corpus.store, corpus.uri("data"))
    assert [(r.digest, r.files, r.bytes) for r in result.resolved[2:]] == [(files.digest, 1, files.bytes)]


@pytest.mark.processes
def test_good_s3(s3_uri: str) -> None:
    """The same in a real S3."""
    corpus = Corpus.in_s3(s3_uri)
    corpus.put("data/a.jsonl", jsonl("one"))
    result = look(corpus.preflight({"kind": "Dataset", "uri": "data"}, {"kind": "Dataset", "uri": "nothing"}))
    assert [item.name for item in result.resolved] == ["input-0"]
    assert [(finding.input, finding.reason) for finding in result.findings] == [("input-1", Why.NOT_FOUND)]


class TestDataset:
    """Findings about texts."""

    @pytest.mark.parametrize(
        ("key", "data", "why", "say"),
        [
            pytest.param("x/a.jsonl", b"", Why.NO_DOCUMENT, "files are empty", id="empty file"),
            pytest.param("x/_SUCCESS", b"", Why.NO_DOCUMENT, "files are empty", id="only a marker"),
            pytest.param("x/a.parquet", b"PAR1", Why.UNKNOWN_FILES, "parquet is not read yet", id="parquet"),
            pytest.param("x/a.csv", b"1,2", Why.UNKNOWN_FILES, r"a\.csv.*expected \.jsonl or \.txt", id="csv"),
            pytest.param("x/a.jsonl", b"1\n", Why.NO_DOCUMENT, "line 1.*found a int", id="no object"),
            pytest.param("x/a.jsonl", b"{\n", Why.NO_DOCUMENT, "line 1: it is not JSON", id="no json"),
            pytest.param("x/a.jsonl", jsonl("a", field="body"), Why.NO_DOCUMENT, "found fields 'body'", id="field"),
            pytest.param("x/a.jsonl", b'{"text": "\xff"}\n', Why.NO_DOCUMENT, "line 1: byte 11 is 0xff", id="latin-1"),
            pytest.param("x/a.jsonl.gz", b"plain", Why.NO_DOCUMENT, "cannot be decompressed", id="no gzip"),
            pytest.param("x/a.jsonl", jsonl(" "), Why.NO_DOCUMENT, "begins with empty documents", id="empty document"),
        ],
    )
    def test_bad(self, corpus: Corpus, key: str, data: bytes, why: Why, say: str) -> None:
        """What is wrong is named with file and line."""
        corpus.put(key, data)
        [(reason, message)] = look_at(corpus, InputKind.DATASET, "x")
        assert reason == why
        assert re.search(say, message), message

    @pytest.mark.parametrize(
        ("key", "data"),
        [
            pytest.param("x/a.txt", b"some text", id="text"),
            pytest.param("x/a.jsonl.gz", gzip.compress(jsonl("one")), id="gzip"),
            pytest.param("x/a.jsonl", b"\xef\xbb\xbf" + jsonl("one"), id="byte order mark"),
            pytest.param("x/a.jsonl", b"{\n" + jsonl("one"), id="a bad line before a good one"),
            pytest.param("x/a.jsonl", jsonl("long " * 100_000), id="first line longer than what is looked at"),
        ],
    )
    def test_good(self, corpus: Corpus, key: str, data: bytes) -> None:
        """Whatever `prepare` can read is fine."""
        corpus.put(key, data)
        assert look_at(corpus, InputKind.DATASET, "x") == []

    def test_field(self, corpus: Corpus) -> None:
        """The text may stand in another field."""
        corpus.put("x/a.jsonl", jsonl("one", field="body"))
        assert look_at(corpus, InputKind.DATASET, "x", textField="body") == []

    def test_missing(self, corpus: Corpus) -> None:
        """An address where nothing is has no digest, and the finding has the address."""
        result = look(corpus.preflight({"kind": "Dataset", "uri": "nothing"}))
        [finding] = result.findings
        assert (finding.reason, result.resolved) == (Why.NOT_FOUND, ())
        assert corpus.uri("nothing") in finding.message

    def test_pin(self, corpus: Corpus) -> None:
        """Files that are not those of the pin are named with both digests."""
        [(reason, message)] = look_at(corpus, InputKind.DATASET, "data", pin="0" * 64)
        assert reason == Why.PIN_DIFFERS
        assert list_files(corpus.store, corpus.uri("data")).digest in message


class TestModel:
    """Findings about models."""

    @pytest.mark.parametrize(
        ("key", "data", "why", "say"),
        [
            pytest.param("tokenizer.json", b"{}", Why.TOKENIZER_UNREADABLE, "cannot be read by tokenizers", id="json"),
            pytest.param("config.json", b"[]", Why.CONFIG_UNREADABLE, "expected a JSON object", id="config"),
            pytest.param("config.json", b"{}", Why.CONFIG_UNREADABLE, "no model_type", id="no type"),
            pytest.param(
                "config.json",
                json.dumps(CONFIG | {"vocab_size": 10}).encode(),
                Why.VOCABULARY_TOO_LARGE,
                "the model embeds 10",
                id="vocabulary",
            ),
            pytest.param(SINGLE, b"12345678", Why.WEIGHTS_UNREADABLE, SINGLE, id="weights"),
            pytest.param(
                INDEX,
                json.dumps({"weight_map": {"w": SINGLE, "gone": SINGLE}}).encode(),
                Why.WEIGHTS_UNREADABLE,
                "lists gone",
                id="index",
            ),
            pytest.param(
                INDEX,
                json.dumps({"weight_map": {"w": "b.safetensors"}}).encode(),
                Why.WEIGHTS_UNREADABLE,
                r"b\.safetensors",
                id="file of the index",
            ),
        ],
    )
    def test_bad(self, corpus: Corpus, key: str, data: bytes, why: Why, say: str) -> None:
        """Each part that cannot be used is named."""
        corpus.put(f"base/{key}", data)
        found = dict(look_at(corpus, InputKind.MODEL, "base"))
        assert re.search(say, found[why]), found

    @pytest.mark.parametrize(
        ("gone", "why"),
        [
            ("tokenizer.json", Why.NO_TOKENIZER),
            ("config.json", Why.CONFIG_UNREADABLE),
            (SINGLE, Why.WEIGHTS_UNREADABLE),
        ],
    )
    def test_missing(self, corpus: Corpus, gone: str, why: Why) -> None:
        """Each part that is missing is one finding, which says what to do."""
        corpus.sources.delete(f"base/{gone}")
        assert [reason for reason, _ in look_at(corpus, InputKind.MODEL, "base")] == [why]

    def test_tokenizer_alone(self, corpus: Corpus) -> None:
        """Where weights are not wanted, none are missed."""
        corpus.sources.delete(f"base/{SINGLE}")
        assert look_at(corpus, InputKind.TOKENIZER, "base") == []

    def test_pickled(self, corpus: Corpus) -> None:
        """Pickled weights are not read, and the message says what to do."""
        corpus.sources.delete(f"base/{SINGLE}")
        corpus.put("base/pytorch_model.bin", b"")
        [(_, message)] = look_at(corpus, InputKind.MODEL, "base")
        assert "pickled weights are never read" in message


class TestItems:
    """Findings about what suites ask."""

    def test_good(self, corpus: Corpus) -> None:
        """A manifest and its files."""
        put_items(corpus)
        assert look_at(corpus, InputKind.ITEMS, "items") == []

    def test_no_manifest(self, corpus: Corpus) -> None:
        """It says how to make one."""
        ((why, text),) = look_at(corpus, InputKind.ITEMS, "data")
        assert why == Why.NO_ITEMS
        assert "make some with cpt-trainer evaluate --fetch-items" in text

    def test_half_a_copy(self, corpus: Corpus) -> None:
        """A file that the manifest names is not there."""
        put_items(corpus)
        corpus.sources.delete("items/qa.jsonl.gz")
        ((why, text),) = look_at(corpus, InputKind.ITEMS, "items")
        assert why == Why.NO_ITEMS
        assert "the manifest names qa.jsonl.gz and 0 other files that are not there" in text

    def test_suites(self, corpus: Corpus) -> None:
        """A suite that is none, and one whose items are not there; the user's own lies beside the items."""
        put_items(corpus)
        task = "{name: t, items: qa, format: Cloze, metric: Accuracy, prompt: '{question}'}"
        group = "{name: g, categories: [{name: all, benchmarks: [{task: t}]}]}"
        suite = f"{{name: ours, version: 1, description: d, tasks: [{task}], groups: [{group}]}}"
        corpus.put("items/ours.yaml", suite.encode())
        assert look_at(corpus, InputKind.ITEMS, "items", suites=["ours"]) == []
        found = look_at(corpus, InputKind.ITEMS, "items", suites=["mmlu", "ours", "theirs"])
        assert [why for why, _ in found] == [Why.NO_ITEMS, Why.NO_SUITE]
        assert "1 of 1 tasks lack items" in found[0][1]
        assert "there is no suite 'theirs'" in found[1][1]


def put_items(corpus: Corpus) -> None:
    """One question."""
    item = Item(id="1", fields={"question": "?"}, choices=("a", "b"), gold=0)
    write_manifest(corpus.sources, "items/", [write_items(corpus.sources, "items/", "qa", [item], "made up")])


class TestAll:
    """Findings that concern every input."""

    def test_batch(self, corpus: Corpus) -> None:
        """A batch that its processes cannot share equally, with the next sizes that they can."""
        batch = {"sequenceLength": 64, "globalBatchSize": 10, "processes": 4}
        [finding] = look(corpus.preflight({"kind": "Dataset", "uri": "data"}, batch=batch)).findings
        assert (finding.input, finding.reason) == (None, Why.BATCH_NOT_DIVISIBLE)
        assert "8 or 12" in finding.message

    def test_sequence(self, corpus: Corpus) -> None:
        """Sequences longer than the model has positions for."""
        corpus.put("base/config.json", json.dumps(CONFIG | {"max_position_embeddings": 64}).encode())
        for length, want in ((64, []), (65, [Why.SEQUENCE_TOO_LONG])):
            batch = {"sequenceLength": length, "globalBatchSize": 4, "processes": 1}
            found = look(corpus.preflight({"kind": "Model", "uri": "base"}, batch=batch)).findings
            assert [finding.reason for finding in found] == want

    def test_conditional_writes(self, corpus: Corpus) -> None:
        """A store where two attempts could both be first concerns all."""
        trial = corpus.preflight({"kind": "Dataset", "uri": "data"})
        deaf = Trial(trial.document, DeafStore(trial.store, fail_at=0))
        findings = look(deaf).findings
        assert [(finding.input, finding.reason) for finding in findings] == [(None, Why.NO_CONDITIONAL_WRITES)]

    def test_no_answer(self, corpus: Corpus) -> None:
        """A store that does not answer is no finding: the attempt ends, and another one looks again."""
        trial = corpus.preflight({"kind": "Dataset", "uri": "data"})
        with pytest.raises(UnreachableError):
            preflight.run(Trial(trial.document, FaultyStore(trial.store, fail_at=1)))

    def test_many(self, corpus: Corpus) -> None:
        """256 inputs with long addresses still fit into a result that is read."""
        long = "/".join(["x" * 50] * 8)
        result = look(corpus.preflight(*({"kind": "Dataset", "uri": f"{long}/{n}"} for n in range(256))))
        assert len(result.findings) == 256


class DeafStore(FaultyStore):
    """Replaces objects in spite of `If-None-Match`."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """As `put`."""
        self.inner.put(key, data)
        return True
