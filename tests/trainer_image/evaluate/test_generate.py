"""Greedy answers: those of transformers, whoever else is asked at the same time."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from asking import SHOTS, make_completion, some_completions
from cpt_trainer.errors import ConfigError, DataError
from cpt_trainer.evaluate.blocks import Geometry
from cpt_trainer.evaluate.scorer import Scorer
from tiny_model import scorer_of, tiny_llama


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model."""
    return tiny_llama(tmp_path_factory.mktemp("model"))


def by_hand(scorer: Scorer, context: str, tokens: int) -> str:
    """The whole text anew for each token."""
    [prompt] = scorer._encoder.prompts([make_completion(context)])
    ids = prompt.tokens.tolist()
    before = len(ids)
    for _ in range(tokens):
        with torch.no_grad():
            ids.append(int(scorer._trainee.lm(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return scorer._encoder.decode(ids[before:])


class TestTexts:
    """What comes out."""

    @pytest.mark.parametrize("context", ["the model", SHOTS, ""])
    def test_without_us(self, folder: Path, context: str) -> None:
        """An answer is what transformers finds likeliest, token by token."""
        scorer = scorer_of(folder)
        [text] = scorer.completions([make_completion(context, tokens_max=12)])
        assert text == by_hand(scorer, context, 12)

    @pytest.mark.parametrize("geometry", [Geometry(), Geometry(block_tokens=300), Geometry(share=False)])
    def test_together(self, folder: Path, geometry: Geometry) -> None:
        """Who else is asked, and what is shared, plays no part; nor does the order."""
        asked = some_completions()
        alone = [scorer_of(folder).completions([one])[0] for one in asked]
        assert scorer_of(folder, geometry).completions(asked) == alone
        order = random.Random(1).sample(range(len(asked)), len(asked))
        assert scorer_of(folder, geometry).completions([asked[n] for n in order]) == [alone[n] for n in order]

    def test_stop(self, folder: Path) -> None:
        """An answer ends before the first stop string that comes, also one that spans tokens."""
        scorer = scorer_of(folder)
        [text] = scorer.completions([make_completion("the model", tokens_max=12)])
        middle = text[len(text) // 2 :][:3]
        [cut] = scorer.completions([make_completion("the model", stop=("never", middle), tokens_max=12)])
        assert cut == text[: text.index(middle)]

    def test_end_of_text(self, folder: Path) -> None:
        """Nor does it go on behind the end of the text."""
        scorer = scorer_of(folder)
        whole = by_hand(scorer, "the model", 6)
        with torch.no_grad():
            head = scorer._trainee.lm.get_output_embeddings().weight  # type: ignore[operator]
            head[scorer._tokenizer.eos] = 100 * head[scorer._tokenizer.eos]  # now EOS is likeliest, or the last
        [text] = scorer.completions([make_completion("the model", tokens_max=6)])
        assert len(text) <= len(whole)
        assert "<eos>" not in text

    def test_tokens(self, folder: Path) -> None:
        """Shots go through the model once, answers token by token."""
        asked = [
            make_completion(f"{SHOTS} {word}", str(n), tokens_max=5) for n, word in enumerate(("the", "it", "page"))
        ]
        shared, alone = scorer_of(folder), scorer_of(folder)
        shared.completions(asked)
        for one in asked:
            alone.completions([one])
        assert shared.observed.work.tokens < 0.5 * alone.observed.work.tokens


class TestFaults:
    """Named."""

    def test_not_finite(self, folder: Path) -> None:
        """A model that answers NaN is an error that names the item."""
        scorer = scorer_of(folder)
        with torch.no_grad():
            scorer._trainee.lm.get_output_embeddings().weight.fill_(float("nan"))  # type: ignore[operator]
        with pytest.raises(DataError, match="c/5: the model does not give finite numbers"):
            scorer.completions([make_completion("the", "5")])

    def test_window(self, tmp_path: Path) -> None:
        """An answer that would reach beyond a model's window is refused: its memory would not be right."""
        scorer = scorer_of(tiny_llama(tmp_path, model_type="mistral", sliding_window=32))
        assert len(scorer.completions([make_completion("the model reads")])) == 1
        with pytest.raises(ConfigError, match="has a window of 32"):
            scorer.completions([make_completion(SHOTS)])
