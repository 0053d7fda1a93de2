"""What a model says to the questions of a task: the one place where requests, tokens, the model and ranks meet.

    scorer = Scorer(place(files, weights, process, precision, placement), tokenizer_of(files), process.device)
    scorer.likelihoods(questions)       [(Likelihood(-1.31, tokens=1, greedy=True), ...), ...] in their order
    scorer.completions(completions)     [" 42", ...]
    scorer.fingerprint                  what must be equal for tables to be compared
    scorer.observed                     what there was: tokenizer, BOS, cut prompts, tokens

With `Shards` as keeper ranks share the work, and an attempt goes on where the one before it ended. A score that is not
finite, a prompt with two BOS and a prompt that the model does not see whole are errors that name the item.

A question's scores are those that it has alone, to 1e-5 in fp32. A whole task's are equal to the last bit in any order
and on any number of ranks, since passes are cut by what is asked alone.

Price: a forward pass for each 8,192 tokens that differ; a task's tokens are held, 12 bytes each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from cpt_api.model import canonical_json, sha256
from cpt_api.values import Digest
from cpt_trainer.errors import ConfigError, DataError
from cpt_trainer.evaluate.alike import Tokens
from cpt_trainer.evaluate.attention import NAME, PLAIN, Memory, Use, attending, keeps_all, window_of
from cpt_trainer.evaluate.blocks import Block, Geometry, PromptBlock, Work, cut, cut_prompts, prefix_work
from cpt_trainer.evaluate.encode import Encoder
from cpt_trainer.evaluate.generate import Voice, complete
from cpt_trainer.evaluate.likelihood import answers, likelihoods, pass_of
from cpt_trainer.evaluate.requests import Completion, Likelihood, Question
from cpt_trainer.evaluate.shards import Keeper, Row, Unkept
from cpt_trainer.model import Trainee, config_of
from cpt_trainer.tokenizer import TokenizerFiles

METHOD = "scorer/2"
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
    work: Work
    """Of all ranks and attempts, a shared prefix counted once."""


@dataclass(frozen=True, slots=True)
class _Prefix:
    """The one that was computed last."""

    tokens: bytes = b""
    memory: Memory = field(default_factory=lambda: Memory(Use.LEND))


class Scorer:
    """Of one model. All ranks ask it the same."""

    def __init__(
        self,
        trainee: Trainee,
        tokenizer: TokenizerFiles,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        geometry: Geometry | None = None,
        keeper: Keeper | None = None,
        *,
        truncate: bool = False,
    ) -> None:
        self._config = config_of(trainee.lm)
        wanted = geometry or Geometry()
        self._trainee = trainee
        self._device, self._dtype = device, dtype
        self._geometry = replace(
            wanted, share=wanted.share and keeps_all(self._config) and window_of(self._config) is None
        )
        self._keeper: Keeper = keeper or Unkept()
        self._tokenizer = tokenizer
        self._encoder = Encoder(tokenizer, self._config.max_position_embeddings, truncate=truncate)
        self._prefix = _Prefix()
        self._cut_prompts, self._work = 0, Work(0, 0)

    @property
    def fingerprint(self) -> Fingerprint:
        """The same for all questions."""
        geometry, dtype = self._geometry, str(self._dtype).removeprefix("torch.")
        return Fingerprint(
            METHOD, dtype, self._attention, geometry.row_tokens, geometry.block_tokens, share=geometry.share
        )

    @property
    def observed(self) -> Observed:
        """So far."""
        return Observed(self._tokenizer.digest, self._tokenizer.bos, self._cut_prompts, self._work)

    # --- log-probabilities ------------------------------------------------------------------------------------------

    def likelihoods(self, questions: Sequence[Question]) -> list[tuple[Likelihood, ...]]:
        """Of each pair of each question, in their order."""
        encoded = self._encoder.questions(questions)
        blocks = cut(questions, encoded, self._geometry)
        rows = self._keeper.answered(self._plan(questions), blocks, lambda block: self._score(block, questions))
        found: list[dict[int, Likelihood]] = [{} for _ in questions]
        for number, pair, logprob, tokens, greedy in rows:
            if pair in found[number]:
                raise DataError(f"{questions[number].name}: pair {pair} was scored twice")
            found[number][pair] = Likelihood(logprob, tokens, greedy)
        for question, scores in zip(questions, found, strict=True):
            if len(scores) != len(question.pairs):
                raise DataError(f"{question.name}: {len(scores)} of {len(question.pairs)} pairs were scored")
        self._cut_prompts += sum(any(pair.dropped for pair in pairs) for pairs in encoded)
        self._work += sum((block.work for block in blocks), prefix_work(blocks))
        return [tuple(scores[pair] for pair in range(len(scores))) for scores in found]

    @torch.no_grad()
    def _score(self, block: Block, questions: Sequence[Question]) -> Iterator[Row]:
        """Number of the question, number of its pair, and its score."""
        given, asked = pass_of(block, self._dtype, self._device)
        masked = self._geometry.share
        with attending(self._config, self._attention):
            memory = self._memory(block.prefix)
            found_2A = self._trainee.ask(
                lambda decoder, head_VD: answers(given, decoder, head_VD, memory, masked=masked)
            )
        for one, likelihood in likelihoods(asked, found_2A):
            if not math.isfinite(likelihood.logprob):
                raise DataError(
                    f"{questions[one.question].name}: the log-probability of choice {one.pair} is "
                    f"{likelihood.logprob}: this model does not give finite numbers; its training diverged, or its "
                    "weights are damaged"
                )
            yield [one.question, one.pair, likelihood.logprob, likelihood.tokens, likelihood.greedy]

    # --- texts ------------------------------------------------------------------------------------------------------

    def completions(self, completions: Sequence[Completion]) -> list[str]:
        """The answer to each, in their order."""
        prompts = self._encoder.prompts(completions)
        self._require_memory(
            max((len(p.tokens) + c.tokens_max for p, c in zip(prompts, completions, strict=True)), default=0)
        )
        blocks = cut_prompts(completions, prompts, self._geometry)
        rows = self._keeper.answered(self._plan(completions), blocks, lambda block: self._complete(block, completions))
        texts = {number: text for number, text, _, _ in rows}
        if len(rows) != len(completions) or len(texts) != len(completions):
            raise DataError(f"{len(rows)} answers to {len(texts)} of {len(completions)} prompts were given")
        self._cut_prompts += sum(prompt.dropped > 0 for prompt in prompts)
        self._work += sum((Work(tokens, pairs) for _, _, tokens, pairs in rows), prefix_work(blocks))
        return [texts[number] for number in range(len(texts))]

    @torch.no_grad()
    def _complete(self, block: PromptBlock, completions: Sequence[Completion]) -> Iterable[Row]:
        """Number of the completion, its text, and what it took."""
        voice = Voice(self._trainee.ask, self._encoder.decode, self._tokenizer.eos, self._dtype, self._device)
        asked = [completions[number] for number in block.numbers]
        with attending(self._config, NAME):
            memory = self._memory(block.prefix).branch(Use.KEEP)
            written = complete(voice, asked, block.prompts, len(block.prefix), memory)
        return [
            [number, text, work.tokens, work.pairs] for number, (text, work) in zip(block.numbers, written, strict=True)
        ]

    def _require_memory(self, tokens: int) -> None:
        """Answers are written with keys and values that were computed before; not all models can do that."""
        window = window_of(self._config)
        if not keeps_all(self._config) or (window is not None and tokens > window):
            raise ConfigError(
                f"a prompt and its answer have {tokens} tokens, and this model's attention has a window of {window} or "
                "positions that depend on what comes later: leave out tasks that are answered in words"
            )

    # --- both -------------------------------------------------------------------------------------------------------

    @property
    def _attention(self) -> str:
        return NAME if self._geometry.share else PLAIN

    def _plan(self, asked: Sequence[Question] | Sequence[Completion]) -> Digest:
        """Of all that answers depend on, but for the model."""
        how = {"fingerprint": asdict(self.fingerprint), "tokenizer": self._tokenizer.digest, "bos": self._tokenizer.bos}
        return sha256(canonical_json([how, [asdict(request) for request in asked]]))

    def _memory(self, prefix: Tokens) -> Memory:
        """Keys and values of a prefix, which has a pass of its own where it is another than before."""
        name = prefix.tobytes()
        if name != self._prefix.tokens:
            memory = Memory(Use.KEEP)
            if name:
                tokens_1T = torch.from_numpy(prefix.astype("int64"))[None].to(self._device)
                self._trainee.ask(lambda decoder, _: _keep(decoder, tokens_1T, memory))
            self._prefix = _Prefix(name, memory.branch(Use.LEND))
        return self._prefix.memory


def _keep(decoder: Any, tokens_1T: torch.Tensor, memory: Memory) -> None:
    positions_1T = torch.arange(tokens_1T.shape[1], device=tokens_1T.device)[None]
    decoder(input_ids=tokens_1T, position_ids=positions_1T, use_cache=False, memory=memory)
