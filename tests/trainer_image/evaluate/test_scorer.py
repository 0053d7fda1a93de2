"""Scores do not depend on how they are computed, and what cannot be scored is named."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from asking import SHOTS, make_question, some_questions
from cpt_api.trial import Precision
from cpt_trainer.errors import DataError
from cpt_trainer.evaluate.blocks import Geometry
from cpt_trainer.evaluate.requests import Likelihood
from cpt_trainer.evaluate.scorer import Scorer
from tiny_model import scorer_of, tiny_llama
from trainer_image.kit import EOS, text

SMALL = Geometry(row_tokens=40, block_tokens=256)
NAIVE = Geometry(share=False)
Table = list[tuple[Likelihood, ...]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model."""
    return tiny_llama(tmp_path_factory.mktemp("model"))


def require_close(one: Table, other: Table, tolerance: float = 1e-5) -> None:
    """Log-probabilities to that, and the same of all else."""
    for ours, theirs in zip(one, other, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=tolerance)
            assert (a.tokens, a.greedy) == (b.tokens, b.greedy)


def best(table: Table) -> list[int]:
    """The choice that is most likely."""
    return [max(range(len(row)), key=lambda n: row[n].logprob) for row in table]


class TestSharing:
    """Design 5: what questions share is computed once."""

    @pytest.mark.parametrize("geometry", [Geometry(), SMALL, Geometry(1, 1)], ids=["default", "small", "one by one"])
    def test_same_scores(self, folder: Path, geometry: Geometry) -> None:
        """Scores are those of each text alone, to 1e-5, with the same best choice."""
        questions = some_questions()
        shared, naive = (scorer_of(folder, g).likelihoods(questions) for g in (geometry, NAIVE))
        require_close(shared, naive)
        assert best(shared) == best(naive)

    def test_without_us(self, folder: Path) -> None:
        """A score is what transformers itself says about the tokens."""
        scorer = scorer_of(folder)
        [question] = [make_question(pairs=[(SHOTS, " the model reads")])]
        [[found]] = scorer.likelihoods([question])
        [[encoded]] = scorer._encoder.questions([question])
        tokens = torch.from_numpy(encoded.tokens).long()[None]
        with torch.no_grad():
            logprobs = scorer._trainee.lm(input_ids=tokens).logits.log_softmax(-1)[0, :-1]
        want = logprobs.gather(1, tokens[0, 1:, None])[-encoded.scored :].sum().item()
        assert found.logprob == pytest.approx(want, abs=1e-5)
        assert found.tokens == encoded.scored > 1

    @pytest.mark.parametrize("seed", range(3))
    def test_order(self, folder: Path, seed: int) -> None:
        """The order of the questions changes no bit."""
        questions = some_questions()
        shuffled = random.Random(seed).sample(questions, len(questions))
        first, again = (scorer_of(folder, SMALL).likelihoods(some) for some in (questions, shuffled))
        names = [(q.task, q.item) for q in questions]
        assert [again[[(q.task, q.item) for q in shuffled].index(name)] for name in names] == first

    def test_work(self, folder: Path) -> None:
        """Shots go through the model once for all questions of a group."""
        questions = some_questions()
        shared, naive = scorer_of(folder), scorer_of(folder, NAIVE)
        for scorer in (shared, naive):
            scorer.likelihoods(questions)
        assert shared.observed.work.tokens * 5 < naive.observed.work.tokens

    def test_windows(self, tmp_path: Path) -> None:
        """A model whose tokens do not see all before them is asked text by text, with transformers' own masks."""
        folder = tiny_llama(tmp_path / "mistral", model_type="mistral", sliding_window=16)
        scorer = scorer_of(folder)
        assert (scorer.fingerprint.share, scorer.fingerprint.attention) == (False, "sdpa")
        wide = scorer_of(tiny_llama(tmp_path / "wide", model_type="mistral", sliding_window=4096))
        assert wide.fingerprint.share
        questions = [make_question(pairs=[(SHOTS, " page"), (SHOTS, " the")])]
        assert scorer.likelihoods(questions) != wide.likelihoods(questions)

    @pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3"])
    def test_families(self, tmp_path: Path, family: str) -> None:
        """Sharing is right for every family that can be trained."""
        folder = tiny_llama(tmp_path, model_type=family, sliding_window=None)
        questions = some_questions()[::5]
        assert scorer_of(folder).fingerprint.share
        shared, naive = (scorer_of(folder, g).likelihoods(questions) for g in (SMALL, NAIVE))
        require_close(shared, naive)

    def test_attention_is_put_back(self, folder: Path) -> None:
        """A model that is asked in the middle of its training goes on as before."""
        scorer = scorer_of(folder)
        scorer.likelihoods([make_question()])
        assert scorer._trainee.attention == "sdpa"


class TestPrecision:
    """Products in bf16, sums in fp32."""

    def test_bfloat16(self, folder: Path) -> None:
        """Scores are near those in fp32, and the fingerprint is another."""
        questions = some_questions()[::3]
        fine, coarse = scorer_of(folder), scorer_of(folder, precision=Precision.BFLOAT16)
        require_close_rounded(fine.likelihoods(questions), coarse.likelihoods(questions))
        assert (fine.fingerprint.dtype, coarse.fingerprint.dtype) == ("float32", "bfloat16")


def require_close_rounded(one: Table, other: Table) -> None:
    """As far as bf16 goes."""
    for ours, theirs in zip(one, other, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert a.logprob == pytest.approx(b.logprob, rel=0.1, abs=0.3)


class TestFaults:
    """Issue 5: "each caught and named"."""

    def test_too_long(self, tmp_path: Path) -> None:
        """A prompt that the model does not see whole is an error that names the item."""
        scorer = scorer_of(tiny_llama(tmp_path, max_position_embeddings=50))
        with pytest.raises(DataError, match=r"t/7: 6\d tokens, the model sees 50: fewer shots"):
            scorer.likelihoods([make_question("7", [(SHOTS, " page")])])

    def test_cut(self, tmp_path: Path) -> None:
        """Where it is allowed the beginning is cut off, and counted."""
        scorer = scorer_of(tiny_llama(tmp_path, max_position_embeddings=50), truncate=True)
        long, short = make_question("0", [(SHOTS, " page")]), make_question("1")
        [[found], _] = scorer.likelihoods([long, short])
        [encoded] = scorer._encoder.questions([long])
        assert len(encoded[0].inputs) == 50
        assert scorer.observed.cut_prompts == 1
        assert found.tokens == 1

    def test_not_finite(self, folder: Path) -> None:
        """A model that answers NaN is an error that names the first item."""
        scorer = scorer_of(folder)
        with torch.no_grad():
            scorer._trainee.lm.get_input_embeddings().weight.fill_(float("nan"))  # type: ignore[operator]
        with pytest.raises(DataError, match="t/0: the log-probability of choice 0 is nan"):
            scorer.likelihoods([make_question()])

    @pytest.mark.parametrize("context", ["the", ""])
    def test_no_token(self, folder: Path, context: str) -> None:
        """A continuation that is no token of its own is an error."""
        with pytest.raises(DataError, match="t/0: its continuation '' has no token"):
            scorer_of(folder).likelihoods([make_question(pairs=[(context, "")])])

    def test_two_beginnings(self, folder: Path) -> None:
        """A prompt that brings its own beginning-of-text is refused."""
        with pytest.raises(DataError, match=f"t/0: its prompt begins with '{EOS}'"):
            scorer_of(folder).likelihoods([make_question(pairs=[(f"{EOS}the", " page")])])

    def test_a_question_twice(self, folder: Path) -> None:
        """Two questions of one name are two rows: nothing is dropped."""
        scorer = scorer_of(folder)
        one, other = scorer.likelihoods([make_question(), make_question(pairs=[(text(5, 9), " the")])])
        assert one != other


class TestFingerprint:
    """What must be equal for tables to be compared."""

    def test_geometry(self, folder: Path) -> None:
        """How passes are cut is part of it; who computes is not."""
        prints = {scorer_of(folder, geometry).fingerprint for geometry in (None, Geometry(), SMALL, NAIVE)}
        assert len(prints) == 3

    def test_observed(self, folder: Path) -> None:
        """The tokenizer's hash and BOS are told."""
        scorer: Scorer = scorer_of(folder)
        assert scorer.observed.bos is None
        assert len(scorer.observed.tokenizer) == 64
