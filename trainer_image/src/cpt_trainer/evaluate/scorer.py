"""What a model says to the questions of a suite: the one place where requests, tokens and the model meet.

    scorer = Scorer(trainee, tokenizer_of(files), process.device)
    scorer.likelihoods(questions)       [(Likelihood(-1.31, tokens=1, greedy=True), ...), ...] in their order
    scorer.completions(completions)     [" 42", ...]
    scorer.fingerprint                  what must be equal for tables to be compared
    scorer.observed                     what there was: tokenizer, BOS, cut prompts, tokens

A score that is not finite, a prompt with two BOS and a prompt that the model does not see whole are errors that name
the item. Scores of a question are those that it has alone, to 1e-5 in fp32; whole tables are equal to the last bit,
since passes are cut by what is asked alone.

Price: a forward pass for each 8,192 tokens that differ; the prefix of the last group stays in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from cpt_api.values import Digest
from cpt_trainer.errors import DataError
from cpt_trainer.evaluate.attention import NAME, PLAIN, Memory, Use, attending, is_shareable
from cpt_trainer.evaluate.blocks import Block, Geometry, PromptBlock, cut, cut_prompts
from cpt_trainer.evaluate.encode import Encoder, Tokens
from cpt_trainer.evaluate.generate import Voice, complete
from cpt_trainer.evaluate.likelihood import answers, likelihoods, pass_of
from cpt_trainer.evaluate.requests import Completion, Likelihood, Question
from cpt_trainer.model import Trainee, config_of
from cpt_trainer.tokenizer import TokenizerFiles

METHOD = "scorer/1"
"""Raised when scores of the same questions may become others."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """How scores were computed, as far as it shows in their last digits."""

    method: str
    dtype: str
    """Of the model's products."""
    attention: str
    row_tokens: int
    block_tokens: int
    share: bool


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen while scoring."""

    tokenizer: Digest
    bos: int | None
    """The token that begins prompts; None where none is added."""
    cut_prompts: int
    """Whose beginning the model did not see."""
    tokens: int
    """That went through the model, without padding."""
    pairs: int
    """Of tokens that saw each other."""


@dataclass
class _Counts:
    cut_prompts: int = 0
    tokens: int = 0
    pairs: int = 0


@dataclass
class _Prefix:
    """The one that was computed last."""

    tokens: bytes = b""
    memory: Memory = field(default_factory=lambda: Memory(Use.LEND))


class Scorer:
    """Of one model. Sharded models are asked by all ranks with the same questions."""

    def __init__(
        self,
        trainee: Trainee,
        tokenizer: TokenizerFiles,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        geometry: Geometry | None = None,
        *,
        truncate: bool = False,
    ) -> None:
        config = config_of(trainee.lm)
        asked = geometry or Geometry()
        self._trainee = trainee
        self._device, self._dtype = device, dtype
        self._geometry = asked if is_shareable(config) else Geometry(asked.row_tokens, asked.block_tokens, share=False)
        self._tokenizer = tokenizer
        self._encoder = Encoder(tokenizer, config.max_position_embeddings, truncate=truncate)
        self._prefix = _Prefix()
        self._counts = _Counts()

    @property
    def fingerprint(self) -> Fingerprint:
        """As it will be for all questions."""
        geometry, dtype = self._geometry, str(self._dtype).removeprefix("torch.")
        return Fingerprint(
            METHOD, dtype, self._attention, geometry.row_tokens, geometry.block_tokens, share=geometry.share
        )

    @property
    def observed(self) -> Observed:
        """So far."""
        counts = self._counts
        return Observed(self._tokenizer.digest, self._tokenizer.bos, counts.cut_prompts, counts.tokens, counts.pairs)

    def likelihoods(self, questions: Sequence[Question]) -> list[tuple[Likelihood, ...]]:
        """Of each pair of each question, in their order."""
        found: list[list[Likelihood | None]] = [[None] * len(question.pairs) for question in questions]
        for block in self.blocks(questions):
            for number, pair, likelihood in self.score(block, questions):
                found[number][pair] = likelihood
        return [tuple(one for one in row if one is not None) for row in found]

    def completions(self, completions: Sequence[Completion]) -> list[str]:
        """The answer to each, in their order."""
        texts = [""] * len(completions)
        for block in self.prompt_blocks(completions):
            for number, text in self.complete(block, completions):
                texts[number] = text
        return texts

    def blocks(self, questions: Sequence[Question]) -> list[Block]:
        """The passes that answer them."""
        encoded = self._encoder.questions(questions)
        self._counts.cut_prompts += sum(any(pair.dropped for pair in pairs) for pairs in encoded)
        return cut(questions, encoded, self._geometry)

    @torch.no_grad()
    def score(self, block: Block, questions: Sequence[Question]) -> list[tuple[int, int, Likelihood]]:
        """Number of the question, number of its pair, and its score."""
        given, asked = pass_of(block, self._dtype, self._device)
        masked = self._geometry.share
        with attending(config_of(self._trainee.lm), self._attention):
            memory = self._memory(block.prefix)
            found_2A = self._trainee.ask(
                lambda decoder, head_VD: answers(given, decoder, head_VD, memory, masked=masked)
            )
        self._count(block)
        scores = [(one.question, one.pair, likelihood) for one, likelihood in likelihoods(asked, found_2A)]
        for number, pair, likelihood in scores:
            if not math.isfinite(likelihood.logprob):
                name = f"{questions[number].task}/{questions[number].item}"
                raise DataError(
                    f"{name}: the log-probability of choice {pair} is {likelihood.logprob}: this model does not give "
                    "finite numbers; its training diverged, or its weights are damaged"
                )
        return scores

    def prompt_blocks(self, completions: Sequence[Completion]) -> list[PromptBlock]:
        """Completions that are made together."""
        prompts = self._encoder.prompts(completions)
        self._counts.cut_prompts += sum(prompt.dropped > 0 for prompt in prompts)
        return cut_prompts(completions, prompts, self._geometry)

    @torch.no_grad()
    def complete(self, block: PromptBlock, completions: Sequence[Completion]) -> list[tuple[int, str]]:
        """Number of the completion, and its text."""
        voice = Voice(self._trainee.ask, self._encoder.decode, self._tokenizer.eos, self._dtype, self._device)
        asked = [completions[number] for number in block.numbers]
        with attending(config_of(self._trainee.lm), NAME):
            memory = self._memory(block.prefix).branch(Use.KEEP)
            texts, tokens, pairs = complete(voice, asked, block.prompts, len(block.prefix), memory)
        self._counts.tokens += tokens
        self._counts.pairs += pairs
        return list(zip(block.numbers, texts, strict=True))

    @property
    def _attention(self) -> str:
        return NAME if self._geometry.share else PLAIN

    def _memory(self, prefix: Tokens) -> Memory:
        """Keys and values of a prefix, which has a pass of its own where it is another than before."""
        name = prefix.tobytes()
        if name != self._prefix.tokens:
            memory = Memory(Use.KEEP)
            if len(prefix):
                tokens_1T = torch.from_numpy(prefix.astype("int64"))[None].to(self._device)
                self._trainee.ask(lambda decoder, _: _keep(decoder, tokens_1T, memory))
                self._counts.tokens += len(prefix)
                self._counts.pairs += len(prefix) * (len(prefix) + 1) // 2
            self._prefix = _Prefix(name, memory.branch(Use.LEND))
        return self._prefix.memory

    def _count(self, block: Block) -> None:
        trees = [leaf.tree for row in block.rows for leaf in row]
        self._counts.tokens += sum(map(len, trees))
        self._counts.pairs += sum(tree.pairs + len(block.prefix) * len(tree) for tree in trees)


def _keep(decoder: Any, tokens_1T: torch.Tensor, memory: Memory) -> None:
    positions_1T = torch.arange(tokens_1T.shape[1], device=tokens_1T.device)[None]
    decoder(input_ids=tokens_1T, position_ids=positions_1T, use_cache=False, memory=memory)
