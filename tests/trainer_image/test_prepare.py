"""From texts to a dataset: what gets in, in which order, and what an attempt leaves to the next."""

from __future__ import annotations

import gzip
import itertools
import random
from pathlib import Path

import numpy as np
import pytest
import zstandard
from tokenizers import Tokenizer

from corpus import BOS_ID, EOS, EOS_ID, Corpus, jsonl, tokenizer_json, words
from cpt_api.layout import progress_key
from cpt_api.result import Progress, Result
from cpt_trainer import prepare
from cpt_trainer.dataset import Prepared
from cpt_trainer.errors import DamagedError, DataError, SourceChangedError, UnreachableError
from cpt_trainer.prepare.documents import key_of
from cpt_trainer.prepare.read import Sizes
from cpt_trainer.store import FaultyStore, sha256_of
from cpt_trainer.trial import Trial

MANY = [words(n) for n in range(200)]
NO_HOLDOUT = {"share": "0"}
USUAL = Sizes()
SMALL = Sizes(piece_bytes=1000, part_bytes=3000, shard_bytes=1000)
"""Several pieces to a part, several parts and shards."""


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """A tokenizer at 'base'."""
    corpus = Corpus.in_folder(tmp_path)
    corpus.put_tokenizer("base")
    return corpus


def prepared(trial: Trial, sizes: Sizes = USUAL) -> tuple[Prepared, Result]:
    """What a Prepare leaves."""
    prepare.run(trial, sizes)
    result = trial.result()
    assert result is not None
    return Prepared.open(trial.store, trial.data), result


def documents(dataset: Prepared) -> list[list[int]]:
    """The stream, cut where documents end."""
    stream = dataset.read(0, dataset.tokens)
    ends = np.flatnonzero(stream == dataset.eos) + 1
    assert dataset.tokens == (ends[-1] if len(ends) else 0), "the last document has an end"
    return [piece.tolist() for piece in np.split(stream, ends)[:-1]]


def decoded(ids: list[int]) -> str:
    """The text of some tokens, special ones as they are written."""
    decoder = Tokenizer.from_str(tokenizer_json())
    return "".join(decoder.id_to_token(token) or "?" for token in ids).replace("Ġ", " ")


def texts(dataset: Prepared) -> list[str]:
    """The documents of the stream, decoded."""
    return [decoded(ids[:-1]) for ids in documents(dataset)]


class TestStream:
    """The training stream."""

    def test_every_document_once(self, corpus: Corpus) -> None:
        """All documents are there, in another order, each with its tokens and one EOS."""
        corpus.put("data/a.jsonl", jsonl(*MANY))
        dataset, result = prepared(corpus.prepare("data", holdout=NO_HOLDOUT))
        assert sorted(texts(dataset)) == sorted(MANY)
        assert texts(dataset) != MANY
        assert result.numbers["trainDocuments"] == 200
        assert result.numbers["trainTokens"] == dataset.tokens
        assert result.numbers["trainBytes"] == sum(len(text.encode()) for text in MANY)

    def test_order(self, corpus: Corpus) -> None:
        """The order is that of the keys of the texts."""
        corpus.put("data/a.jsonl", jsonl(*MANY))
        dataset, _ = prepared(corpus.prepare("data", holdout=NO_HOLDOUT))
        assert texts(dataset) == sorted(MANY, key=lambda text: key_of(text.encode()))

    def test_files_mean_nothing(self, corpus: Corpus) -> None:
        """Whatever the files are called and how they are packed, the same texts are the same dataset."""
        shuffled = random.Random(7).sample(MANY, len(MANY))
        corpus.put("one/all.jsonl", jsonl(*MANY))
        corpus.put("two/1.jsonl.gz", gzip.compress(jsonl(*shuffled[:50])) + gzip.compress(jsonl(*shuffled[50:60])))
        corpus.put("two/2/x.jsonl.zst", zstandard.compress(jsonl(*shuffled[60:140])))
        corpus.put("two/3.jsonl", b"\xef\xbb\xbf" + jsonl(*shuffled[140:]).replace(b"\n", b"\r\n\r\n"))
        corpus.put("two/4.jsonl", b"")
        one, two = (prepared(corpus.prepare(name))[0] for name in ("one", "two"))
        assert one.manifest.shards == two.manifest.shards
        assert one.manifest.held_out == two.manifest.held_out

    @pytest.mark.processes
    def test_processes_mean_nothing(self, corpus: Corpus) -> None:
        """Two processes with many pieces and parts give the same bytes as one."""
        corpus.put("data/a.jsonl", jsonl(*MANY))
        one, _ = prepared(corpus.prepare("data"), SMALL)
        two, _ = prepared(corpus.elsewhere().prepare("data", cpu="1500m"), SMALL)
        assert one.manifest == two.manifest

    def test_shards(self, corpus: Corpus) -> None:
        """Shards divide the stream, and change nothing in it."""
        corpus.put("data/a.jsonl", jsonl(*MANY))
        one, _ = prepared(corpus.prepare("data"))
        stream = one.read(0, one.tokens)
        two, _ = prepared(corpus.elsewhere().prepare("data"), SMALL)
        assert len(two.manifest.shards) > 3
        assert np.array_equal(two.read(0, two.tokens), stream)

    def test_duplicates(self, corpus: Corpus) -> None:
        """An equal text is in once, wherever it stands; the others are counted."""
        corpus.put("data/a.jsonl", jsonl(*MANY, *MANY[:3]))
        corpus.put("data/b.jsonl", jsonl(MANY[0]))
        dataset, result = prepared(corpus.prepare("data", holdout=NO_HOLDOUT))
        assert sorted(texts(dataset)) == sorted(MANY)
        assert result.numbers["duplicates"] == 4

    def test_max_tokens(self, corpus: Corpus) -> None:
        """The stream ends with the last document that fits, and begins as the whole one does."""
        corpus.put("data/a.jsonl", jsonl(*MANY))
        whole, _ = prepared(corpus.prepare("data", holdout=NO_HOLDOUT))
        dataset, _ = prepared(corpus.prepare("data", holdout=NO_HOLDOUT, maxTokens="500"))
        assert 400 < dataset.tokens <= 500
        assert documents(dataset) == documents(whole)[: dataset.manifest.documents]
        assert dataset.manifest.left_out["beyondMaxTokens"] == 200 - dataset.manifest.documents

    def test_text_file(self, corpus: Corpus) -> None:
        """A text file is one document."""
        corpus.put("data/a.txt", b"first line\n\nsecond line\n")
        corpus.put("data/b.txt.gz", gzip.compress(b"another"))
        dataset, _ = prepared(corpus.prepare("data", holdout=NO_HOLDOUT))
        assert dataset.manifest.documents == 2
        assert dataset.manifest.source_bytes == 31


class TestEnds:
    """Each document ends with EOS exactly once."""

    @pytest.mark.parametrize("adds", [False, True])
    def test_special_tokens_in_text(self, corpus: Corpus, *, adds: bool) -> None:
        """What looks like EOS in a text is text."""
        corpus.put_tokenizer("base", adds=adds)
        corpus.put("data/a.jsonl", jsonl(f"before {EOS} after"))
        [ids] = documents(prepared(corpus.prepare("data", holdout=NO_HOLDOUT))[0])
        assert ids.count(EOS_ID) == 1
        assert decoded(ids).endswith(f" </s> after{EOS}")

    def test_bos(self, corpus: Corpus) -> None:
        """Where the tokenizer adds BOS, every document and every held-out section begins with it."""
        corpus.put_tokenizer("base", adds=True)
        corpus.put("data/a.jsonl", jsonl(*MANY))
        dataset, _ = prepared(corpus.prepare("data", holdout={"share": "0.5"}))
        assert dataset.manifest.bos == BOS_ID
        for ids in [*documents(dataset), *(section.tokens.tolist() for section in dataset.held_out().sections)]:
            assert (ids[0], ids[-1]) == (BOS_ID, EOS_ID)
            assert not {BOS_ID, EOS_ID} & set(ids[1:-1])

    def test_bos_is_a_setting(self, corpus: Corpus) -> None:
        """`add_bos_token` has the last word."""
        corpus.put_tokenizer("base", adds=True, add_bos_token=False)
        corpus.put("data/a.jsonl", jsonl(*MANY))
        assert prepared(corpus.prepare("data"))[0].manifest.bos is None

    def test_no_eos(self, corpus: Corpus) -> None:
        """A tokenizer without an end is refused."""
        corpus.put_tokenizer("base", eos_token=None)
        corpus.put("base/config.json", b"{}")
        corpus.put("data/a.jsonl", jsonl(*MANY))
        with pytest.raises(DataError, match="no end-of-text token"):
            prepare.run(corpus.prepare("data"))


class TestHeldOut:
    """Held-out text."""

    def test_apart(self, corpus: Corpus) -> None:
        """No held-out document is trained on, no copy of one either, and none is lost."""
        corpus.put("data/a.jsonl", jsonl(*MANY, *MANY))
        dataset, result = prepared(corpus.prepare("data", holdout={"share": "0.3"}))
        held_out = dataset.held_out()
        kept = {section.document for section in held_out.sections}
        trained = {key_of(text.encode()).hex() for text in texts(dataset)}
        assert kept | trained == {key_of(text.encode()).hex() for text in MANY}
        assert not kept & trained
        assert 30 < len(kept) < 90
        assert result.numbers["heldOutDocuments"] == len(kept) == held_out.documents

    def test_at_most(self, corpus: Corpus) -> None:
        """Documents beyond the maximum are trained on, those with the smallest keys are held out."""
        corpus.put("data/a.jsonl", jsonl(*MANY))
        dataset, result = prepared(corpus.prepare("data", holdout={"share": "0.5", "maxDocuments": 5}))
        keys = sorted(key_of(text.encode()).hex() for text in MANY)
        assert sorted({section.document for section in dataset.held_out().sections}) == keys[:5]
        assert result.numbers["trainDocuments"] == 195

    def test_all(self, corpus: Corpus) -> None:
        """With share 1 nothing is trained on."""
        corpus.put("data/a.jsonl", jsonl(*MANY))
        dataset, result = prepared(corpus.prepare("data", holdout={"share": "1"}))
        assert result.numbers["heldOutDocuments"] == 200
        assert (dataset.tokens, dataset.manifest.shards) == (0, ())

    def test_bytes(self, corpus: Corpus) -> None:
        """Byte counts are those of the source's UTF-8; a long document is several sections of one cluster."""
        paragraph = "ö" * 1999 + "\n\n"
        corpus.put("data/a.jsonl", jsonl(paragraph * 5))
        held_out = prepared(corpus.prepare("data", holdout={"share": "1"}))[0].held_out()
        assert [section.bytes for section in held_out.sections] == [8000, 8000, 4000]
        assert (held_out.bytes, held_out.documents) == (20_000, 1)

    def test_few(self, corpus: Corpus) -> None:
        """Fewer than 40 documents are a warning in the result."""
        corpus.put("data/a.jsonl", jsonl(*MANY))
        _, few = prepared(corpus.prepare("data", holdout={"share": "1", "maxDocuments": 39}))
        _, enough = prepared(corpus.prepare("data", holdout={"share": "1", "maxDocuments": 40}))
        assert [finding.reason for finding in few.findings] == ["FewHeldOutDocuments"]
        assert enough.findings == ()


class TestBadInput:
    """Mistakes are counted and named, or end it."""

    def test_lines(self, corpus: Corpus) -> None:
        """Bad lines are left out, counted, and the first named by file and line."""
        bad = [
            b'{"text": "\xe9t\xe9"}',
            b"{",
            b'{"body": "x"}',
            b'{"text": "\\ud800"}',
            b'{"text": 7}',
            b'{"text": " "}',
        ]
        corpus.put("data/a.jsonl", jsonl(*MANY) + b"\n".join(bad))
        dataset, result = prepared(corpus.prepare("data"))
        assert result.numbers["badLines"] == 5
        assert dataset.manifest.left_out == {"empty": 1, "noText": 2, "notJson": 1, "notUtf8": 2}
        assert dataset.manifest.bad_lines[0] == "a.jsonl line 201: byte 11 is 0xe9, which is not UTF-8"
        warning = next(finding for finding in result.findings if finding.reason == "BadLines")
        assert "line 205" in warning.message

    def test_text_line(self, corpus: Corpus) -> None:
        """In a text file the line that is not UTF-8 is left out."""
        corpus.put("data/a.txt", b"good\nb\xe4d\nalso good")
        dataset, _ = prepared(corpus.prepare("data", holdout=NO_HOLDOUT))
        assert dataset.manifest.source_bytes == len("good\nalso good")
        assert dataset.manifest.bad_lines == ("a.txt line 2: byte 2 is 0xe4, which is not UTF-8",)

    @pytest.mark.parametrize(
        ("data", "say"),
        [
            pytest.param(b"", "all its files are empty", id="empty"),
            pytest.param(jsonl("x", field="body"), "no line has a text in field 'text': a.jsonl line 1", id="field"),
        ],
    )
    def test_no_document(self, corpus: Corpus, data: bytes, say: str) -> None:
        """An empty dataset is named, with the reason."""
        corpus.put("data/a.jsonl", data)
        with pytest.raises(DataError, match=f"dataset {corpus.uri('data')} is empty: {say}"):
            prepare.run(corpus.prepare("data"))

    def test_nothing_to_train_on(self, corpus: Corpus) -> None:
        """A stream without a document is refused."""
        corpus.put("data/a.jsonl", jsonl(*MANY))
        with pytest.raises(DataError, match="200 do not fit into maxTokens 1"):
            prepare.run(corpus.prepare("data", holdout=NO_HOLDOUT, maxTokens="1"))

    def test_damaged(self, corpus: Corpus) -> None:
        """A compressed file that was cut is refused."""
        corpus.put("data/a.jsonl.gz", gzip.compress(jsonl(*MANY))[:-10])
        with pytest.raises(DamagedError, match="ends in the middle"):
            prepare.run(corpus.prepare("data"))

    def test_changed_before(self, corpus: Corpus) -> None:
        """Files that changed since Preflight are not read."""
        corpus.put("data/a.jsonl", jsonl(*MANY))
        trial = corpus.prepare("data")
        corpus.put("data/a.jsonl", jsonl(*MANY[1:]))
        with pytest.raises(SourceChangedError):
            prepare.run(trial)


class TestAttempts:
    """What one attempt leaves, the next takes."""

    def test_cut_anywhere(self, corpus: Corpus) -> None:
        """Cut at any write, the next attempt ends with the same bytes, and nothing else is left."""
        corpus.put("data/a.jsonl", jsonl(*MANY))
        corpus.put("data/b.jsonl.gz", gzip.compress(jsonl(*MANY[:7])))
        prepared(corpus.prepare("data"), SMALL)
        want = everything(corpus)
        for fail_at in itertools.count(1):
            again = corpus.elsewhere()
            trial = again.prepare("data")
            faulty = FaultyStore(trial.store, fail_at=fail_at)
            try:
                prepare.run(Trial(trial.document, faulty), SMALL)
            except UnreachableError:
                prepared(again.prepare("data", attempt=2), SMALL)
                assert everything(again) == want, f"cut at write {fail_at}"
            else:
                break
        assert fail_at > 20

    def test_nothing_twice(self, corpus: Corpus) -> None:
        """Text of finished parts is not tokenised again: the next attempt writes less."""
        corpus.put("data/a.jsonl", jsonl(*MANY))
        trial = corpus.prepare("data")
        whole = FaultyStore(trial.store, fail_at=0)
        prepare.run(Trial(trial.document, whole), SMALL)
        again = corpus.elsewhere()
        trial = again.prepare("data")
        with pytest.raises(UnreachableError):
            prepare.run(Trial(trial.document, FaultyStore(trial.store, fail_at=16)), SMALL)
        rest = FaultyStore(trial.store, fail_at=0)
        prepare.run(Trial(trial.document, rest), SMALL)
        assert rest.writes < whole.writes - 10

    def test_progress(self, corpus: Corpus) -> None:
        """Progress ends at what was planned, with a step for every part."""
        corpus.put("data/a.jsonl", jsonl(*MANY))
        trial = corpus.prepare("data")
        prepared(trial, SMALL)
        progress = Progress.believed(trial.store.get(progress_key(trial.namespace, trial.digest)), trial.digest)
        assert progress.tokens == progress.planned_tokens == progress.committed_tokens
        assert progress.step == progress.committed_step > 2

    def test_outputs(self, corpus: Corpus) -> None:
        """Every object that is left stands in the result with its size and hash."""
        corpus.put("data/a.jsonl", jsonl(*MANY))
        trial = corpus.prepare("data")
        dataset, result = prepared(trial, SMALL)
        left = {entry.key.removeprefix(trial.data): entry.size for entry in trial.store.list(trial.data)}
        assert {output.key: output.bytes for output in result.outputs} == left
        for output in result.outputs:
            assert sha256_of(trial.store, trial.data + output.key) == output.sha256
        assert dataset.manifest.source in result.inputs


@pytest.mark.processes
def test_s3(s3_uri: str) -> None:
    """The same in a real S3."""
    corpus = Corpus.in_s3(s3_uri)
    corpus.put_tokenizer("base")
    corpus.put("data/a.jsonl", jsonl(*MANY))
    dataset, result = prepared(corpus.prepare("data", holdout=NO_HOLDOUT), SMALL)
    assert sorted(texts(dataset)) == sorted(MANY)
    assert result.numbers["trainDocuments"] == 200


def everything(corpus: Corpus) -> dict[str, bytes]:
    """All that trials have left, but for what differs between attempts."""
    found = {entry.key: corpus.store.get(entry.key) for entry in corpus.store.list("data/")}
    assert all("/parts/" not in key for key in found)
    return found
