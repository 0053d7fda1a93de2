"""Users' files: listing them, and seeing that they changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from corpus import Corpus
from cpt_api.digest import listing_digest
from cpt_api.trial import ModelRef, Source
from cpt_trainer.errors import MissingError, RefusedError, SourceChangedError
from cpt_trainer.sources import keep_listing, list_files, open_model, open_source


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.processes)])
def corpus(request: pytest.FixtureRequest, tmp_path: Path) -> Corpus:
    """Empty, of either kind."""
    if request.param == "folder":
        return Corpus.in_folder(tmp_path)
    return Corpus.in_s3(request.getfixturevalue("s3_uri"))


class TestList:
    """An address is a folder or an object."""

    def test_folder(self, corpus: Corpus) -> None:
        """All below it, and nothing beside it that begins alike."""
        for key in ("data/b", "data/a/c", "data2/x"):
            corpus.put(key, key.encode())
        for address in (corpus.uri("data"), corpus.uri("data/")):
            files = list_files(corpus.store, address)
            assert [(e.key, e.size) for e in files.entries] == [("a/c", 8), ("b", 6)]
            assert files.store.get("a/c") == b"data/a/c"
            assert files.bytes == 14

    def test_object(self, corpus: Corpus) -> None:
        """One object is listed under its name."""
        corpus.put("data/a.jsonl", b"{}")
        files = list_files(corpus.store, corpus.uri("data/a.jsonl"))
        assert [e.key for e in files.entries] == ["a.jsonl"]
        assert files.store.get("a.jsonl") == b"{}"

    def test_digest(self, corpus: Corpus) -> None:
        """The digest is that of keys, sizes and ETags: the same files elsewhere, or alone, have the same."""
        corpus.put("data/a", b"x")
        files = list_files(corpus.store, corpus.uri("data"))
        assert files.digest == listing_digest((e.key, e.size, e.etag) for e in files.entries)
        assert list_files(corpus.store, corpus.uri("data/a")).digest == files.digest

    @pytest.mark.parametrize("address", ["nothing", "nothing/", "data", "data/a/"])
    def test_missing(self, corpus: Corpus, address: str) -> None:
        """Where nothing is, the message has the address."""
        corpus.put("data2/a", b"")
        with pytest.raises(MissingError, match=corpus.uri(address)):
            list_files(corpus.store, corpus.uri(address))


@pytest.mark.processes
class TestS3:
    """What only S3 can answer."""

    def test_no_bucket(self, s3_uri: str) -> None:
        """A bucket that does not exist is missing."""
        with pytest.raises(MissingError, match="no-such-bucket"):
            list_files(Corpus.in_s3(s3_uri).store, "s3://no-such-bucket/data")

    def test_refused(self, s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Wrong credentials are told apart from missing files."""
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(RefusedError, match="check the credentials"):
            list_files(Corpus.in_s3(s3_uri).store, f"{s3_uri}/data")


class TestChanged:
    """Files that are not those of the spec are refused."""

    def test_same(self, corpus: Corpus) -> None:
        """Unchanged files are opened."""
        corpus.put("data/a", b"x")
        trial = corpus.preflight({"kind": "Dataset", "uri": "data"})
        source = Source.model_validate(corpus.source("data"))
        assert [e.key for e in open_source(trial, source).entries] == ["a"]

    @pytest.mark.parametrize(
        ("key", "want"),
        [
            pytest.param("data/a", "a has other content", id="changed"),
            pytest.param("data/c", "c is new", id="new"),
            pytest.param(None, "b is gone", id="gone"),
        ],
    )
    def test_named(self, corpus: Corpus, key: str | None, want: str) -> None:
        """The first key that changed since Preflight is named, and how."""
        for name in ("a", "b"):
            corpus.put(f"data/{name}", b"x")
        trial = corpus.preflight({"kind": "Dataset", "uri": "data"})
        keep_listing(trial, list_files(corpus.store, corpus.uri("data")))
        source = Source.model_validate(corpus.source("data"))
        if key is None:
            corpus.sources.delete("data/b")
        else:
            corpus.put(key, b"yy")
        with pytest.raises(SourceChangedError, match=f"{corpus.uri('data')} has changed: {want};"):
            open_source(trial, source)

    def test_without_listing(self, corpus: Corpus) -> None:
        """Where no Preflight left its listing, at least the address is named."""
        corpus.put("data/a", b"x")
        source = Source(uri=corpus.uri("data"), digest="0" * 64)
        with pytest.raises(SourceChangedError, match="another digest"):
            open_source(corpus.preflight({"kind": "Dataset", "uri": "data"}), source)


def test_model_of_a_trial(tmp_path: Path) -> None:
    """A model that a trial should have made is missed by that trial's name."""
    trial = Corpus.in_folder(tmp_path).preflight({"kind": "Dataset", "uri": "data"})
    with pytest.raises(MissingError, match="Train or Merge trial 000000000000… has no result"):
        open_model(trial, ModelRef.model_validate({"trial": {"digest": "0" * 64}}))
