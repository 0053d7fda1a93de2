"""Text to tokens: where a continuation begins, what begins a prompt, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from asking import make_completion, make_question
from cpt_trainer.errors import DataError
from cpt_trainer.evaluate.encode import Encoder
from cpt_trainer.tokenizer import Tokenizer, TokenizerFiles, tokenizer_of
from trainer_image.kit import EOS, tokenizer

FILES = tokenizer_of(
    {"tokenizer.json": tokenizer().to_str().encode(), "tokenizer_config.json": json.dumps({"eos_token": EOS}).encode()}
)
BOS = 5
"""Any token: which one it is plays no part."""


def tokens(context: str, continuation: str, files: TokenizerFiles = FILES) -> tuple[list[int], list[int]]:
    """Context and continuation."""
    [[pair]] = Encoder(files, 100).questions([make_question(pairs=[(context, continuation)])])
    assert pair.tokens.tolist() == [*pair.inputs.tolist(), pair.targets.tolist()[-1]]
    return pair.context.tolist(), pair.targets.tolist()


def ids(text: str) -> list[int]:
    """Of a text alone."""
    found: list[int] = tokenizer().encode(text).ids
    return found


class TestPairs:
    """As lm-eval 0.4.13 does it."""

    def test_together(self) -> None:
        """Both are encoded together and cut behind the context's tokens."""
        assert tokens("the model", " reads a page") == (ids("the model"), ids(" reads a page"))

    def test_across_the_border(self) -> None:
        """Where the tokenizer joins both sides it is cut by number all the same."""
        context, whole = ids("the model reads a pa"), ids("the model reads a page and then it writes")
        assert whole[: len(context)] != context
        assert tokens("the model reads a pa", "ge and then it writes") == (whole[: len(context)], whole[len(context) :])

    def test_white_space(self) -> None:
        """What the context ends with belongs to the continuation."""
        assert tokens("the model ", "reads") == tokens("the model", " reads")

    def test_empty_context(self) -> None:
        """It is EOS where the tokenizer has no BOS, and BOS where it has one, added or not."""
        assert tokens("", " reads") == ([FILES.eos], ids(" reads"))
        assert tokens("", " reads", replace(FILES, start=BOS)) == ([BOS], ids(" reads"))
        assert tokens("", " reads", replace(FILES, start=BOS, bos=BOS)) == ([BOS], ids(" reads"))

    def test_begins_itself(self) -> None:
        """A text that is encoded to that very token is not begun twice."""
        [first, *rest] = ids(" reads a page")
        assert tokens("", " reads a page", replace(FILES, start=first)) == ([first], rest)

    def test_bos(self) -> None:
        """It begins every prompt where the tokenizer adds it, and none where not."""
        assert tokens("the", " page", replace(FILES, start=BOS, bos=BOS)) == ([BOS, *ids("the")], ids(" page"))
        assert tokens("the", " page", replace(FILES, start=BOS)) == (ids("the"), ids(" page"))

    def test_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A context that several choices share is encoded once."""
        seen: list[str] = []
        plain = Tokenizer.plain

        def watched(self: Tokenizer, texts: Sequence[str]) -> list[Any]:
            seen.extend(texts)
            return plain(self, texts)

        monkeypatch.setattr(Tokenizer, "plain", watched)
        question = make_question(pairs=[("the model", f" {word}") for word in ("reads", "writes", "reads")])
        Encoder(FILES, 100).questions([question])
        assert seen == ["the model", "the model reads", "the model writes"]


class TestPrompts:
    """Of completions."""

    def test_as_it_is(self) -> None:
        """White space at the end stays; nothing is an empty prompt's only token."""
        encoder = Encoder(replace(FILES, start=BOS, bos=BOS), 100)
        prompts = encoder.prompts([make_completion("the model "), make_completion("")])
        assert [prompt.tokens.tolist() for prompt in prompts] == [[BOS, *ids("the model ")], [BOS]]

    def test_room(self) -> None:
        """A prompt leaves room for its answer, or is refused; cut, where that is allowed."""
        asked = make_completion("the model reads a page and then it writes", "3", tokens_max=8)
        length = len(ids(asked.context))
        assert Encoder(FILES, length + 8).prompts([asked])[0].dropped == 0
        with pytest.raises(DataError, match=f"c/3: {length + 8} tokens, the model sees {length + 7}"):
            Encoder(FILES, length + 7).prompts([asked])
        [prompt] = Encoder(FILES, length + 5, truncate=True).prompts([asked])
        assert prompt.tokens.tolist() == ids(asked.context)[3:]
        with pytest.raises(DataError, match="the model sees 8"):
            Encoder(FILES, 8, truncate=True).prompts([asked])


@pytest.mark.parametrize(
    ("settings", "bos", "start"),
    [
        pytest.param({}, None, 0, id="EOS alone"),
        pytest.param({"bos_token": "the"}, None, "the", id="a BOS that is not added"),
        pytest.param({"bos_token": "the", "add_bos_token": True}, "the", "the", id="a BOS that is added"),
        pytest.param({"bos_token": {"content": "the"}, "add_bos_token": False}, None, "the", id="as an object"),
    ],
)
def test_beginnings(settings: dict[str, object], bos: str | None, start: str | int) -> None:
    """What begins a text follows from the tokenizer's own settings."""
    content = json.dumps({"eos_token": EOS} | settings).encode()
    files = tokenizer_of({"tokenizer.json": tokenizer().to_str().encode(), "tokenizer_config.json": content})
    numbers = {text: tokenizer().token_to_id(text) for text in (bos, start) if isinstance(text, str)}
    assert (files.bos, files.start) == (numbers.get(bos or ""), numbers.get(str(start), start))
