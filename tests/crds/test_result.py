"""Documents of the store are written under a user's identity: nothing is believed before it was checked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cpt_api.digest import trial_digest
from cpt_api.layout import PROGRESS_MAX_BYTES, RESULT_MAX_BYTES, data_prefix, progress_key, result_key
from cpt_api.result import Decision, DocumentError, Progress, RateChoice, Result
from cpt_api.trial import CPTTrialSpec, Question
from make import make_digest, make_result

SPEC = CPTTrialSpec.model_validate(
    {
        "type": "Prepare",
        "prepare": {
            "source": {"uri": "s3://cpt/sources/python.jsonl", "digest": make_digest("python")},
            "tokenizer": {"source": {"uri": "s3://cpt/sources/base", "digest": make_digest("base")}},
        },
        "protocol": 1,
    }
)
DIGEST = trial_digest(SPEC)
SCORE = {"text": make_digest("text"), "standardError": 0.1, "documents": 40, "bytes": 1000, "table": "t.parquet"}
OUTPUT = {"key": "tokens.bin", "bytes": 3, "sha256": make_digest("bytes")}


def result_bytes(**changes: Any) -> bytes:
    return json.dumps(make_result(SPEC).to_dict() | changes).encode()


def progress_bytes(**changes: Any) -> bytes:
    document = {"protocol": 1, "digest": DIGEST, "attempt": 2, "tokens": "1M", "plannedTokens": "4M", "step": 10}
    return json.dumps(document | {"time": "2026-01-01T00:00:00Z"} | changes).encode()


class TestResult:
    def test_own_result_is_believed(self) -> None:
        """What a trial of this spec commits comes back equal."""
        assert Result.believed(result_bytes(outputs=[OUTPUT]), DIGEST, SPEC).outputs[0].key == "tokens.bin"

    def test_an_answer_without_a_choice_is_believed(self) -> None:
        """Where every rate of a dataset diverged, none is chosen: absent in the document, None in the model."""
        choice = RateChoice(
            dataset=make_digest("a"), arms=(), survivors=(), verdict="AllDiverged", reason="all diverged"
        )
        decision = Decision(question=Question.LEARNING_RATE, method="test-1", rates=(choice,), sentence="decided")
        found = Result.believed(result_bytes(decision=decision.to_dict()), DIGEST, SPEC)
        assert found.decision == decision

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            pytest.param({"digest": make_digest("other")}, "it names digest", id="another trial's"),
            pytest.param({"inputs": [make_digest("foreign")]}, "made from other inputs", id="foreign inputs"),
            pytest.param({"inputs": []}, "made from other inputs", id="no inputs"),
            pytest.param({"type": "Train"}, "of type Train", id="another type"),
            pytest.param({"type": "Wish"}, "^type:", id="an unknown type"),
            pytest.param({"protocol": 2}, "has protocol 2", id="another protocol"),
            pytest.param({"numbers": {"tokens": float("nan")}}, "finite", id="NaN"),
            pytest.param({"gpuSeconds": float("inf")}, "finite", id="infinity"),
            pytest.param({"checkpoint": {"manifest": "m", "step": 10**30, "tokens": "1"}}, "step", id="a huge count"),
            pytest.param({"heldOut": [SCORE | {"bitsPerByte": 1e300}]}, "bitsPerByte", id="a huge score"),
            pytest.param({"note": "hello"}, "note: Extra inputs", id="an unknown field"),
            pytest.param(
                {"outputs": [OUTPUT | {"key": "../other/x"}]}, "leaves the trial's own prefix", id="traversal"
            ),
            pytest.param({"outputs": [OUTPUT | {"key": "/etc/x"}]}, "leaves the trial's own prefix", id="absolute key"),
            pytest.param({"outputs": [OUTPUT | {"key": "a//b"}]}, "leaves the trial's own prefix", id="empty part"),
            pytest.param({"outputs": [OUTPUT | {"sha256": "../x"}]}, "SHA-256", id="digest that is none"),
        ],
    )
    def test_not_believed(self, changes: dict[str, Any], why: str) -> None:
        """Each with its reason."""
        with pytest.raises(DocumentError, match=why):
            Result.believed(result_bytes(**changes), DIGEST, SPEC)

    def test_large_document_is_not_parsed(self) -> None:
        """One megabyte is refused by its size alone."""
        with pytest.raises(DocumentError, match=f"at most {RESULT_MAX_BYTES} are read"):
            Result.believed(b"{" * 1_000_000, DIGEST, SPEC)

    @pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 100_000])
    def test_rubbish_is_not_believed(self, data: bytes) -> None:
        """Bytes that are no document raise nothing else."""
        with pytest.raises(DocumentError):
            Result.believed(data, DIGEST, SPEC)

    def test_message_is_short(self) -> None:
        """A planted document cannot flood a condition with its own text."""
        planted = result_bytes(type="x" * 100_000)
        with pytest.raises(DocumentError) as refused:
            Result.believed(planted, DIGEST, SPEC)
        assert len(str(refused.value)) < 1000


class TestProgress:
    def test_own_progress_is_believed(self) -> None:
        """Tokens are read as a quantity."""
        assert Progress.believed(progress_bytes(), DIGEST).tokens == 1_000_000

    def test_another_trials_is_not(self) -> None:
        """It must name the digest under whose key it lies."""
        with pytest.raises(DocumentError, match="it names digest"):
            Progress.believed(progress_bytes(digest=make_digest("other")), DIGEST)

    def test_large_document_is_not_parsed(self) -> None:
        """16 KiB at most."""
        with pytest.raises(DocumentError, match=f"at most {PROGRESS_MAX_BYTES}"):
            Progress.believed(b" " * (PROGRESS_MAX_BYTES + 1), DIGEST)


class TestLayout:
    """Prefixes alone make the rights."""

    def test_operator_reads_below_trials(self) -> None:
        """The two small documents."""
        assert {result_key("team", DIGEST), progress_key("team", DIGEST)} == {
            f"trials/team/{DIGEST}/result.json",
            f"trials/team/{DIGEST}/progress.json",
        }

    def test_bulk_lies_apart(self) -> None:
        """The operator needs no right to it."""
        assert data_prefix("team", DIGEST) == f"data/team/{DIGEST}/"
