"""Greedy answers: the likeliest token, again and again, until a stop string, the end of the text or enough tokens.

    prompts of 31, 30 and 12 tokens     one pass of 3 rows; padding is seen by nobody
    " 4", "2", "\\n\\n"                   a pass of one token for each row
    stop "\\n\\n"                         -> " 42"

Keys and values of the rows are kept; those of the shots in front of all rows were computed before. When half of the
rows have ended the others go on without them.

Price: a pass for each token of a block's longest answer, and a copy of all keys and values in each.

Shapes: B rows, T tokens of a pass, K tokens that were computed, those of the prefix first, V vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cpt_trainer.errors import DataError
from cpt_trainer.evaluate.alike import Tokens
from cpt_trainer.evaluate.attention import Memory
from cpt_trainer.evaluate.blocks import Work, work_of
from cpt_trainer.evaluate.requests import Completion

_NOT_FINITE = -1
"""Instead of a token."""


@dataclass(frozen=True, slots=True)
class Step:
    """A forward pass that chooses one token for each row."""

    tokens_BT: Tensor
    positions_BT: Tensor
    mask_B1TK: Tensor
    """0 where a token is seen, minus infinity where not."""
    last_B: Tensor
    """The token of each row behind which the next one comes."""
    memory: Memory

    def __call__(self, decoder: Any, head_VD: Tensor) -> Tensor:
        """The likeliest token of each row."""
        output = decoder(
            input_ids=self.tokens_BT,
            attention_mask=self.mask_B1TK,
            position_ids=self.positions_BT,
            use_cache=False,
            memory=self.memory,
        )
        hidden_BD = output.last_hidden_state[torch.arange(len(self.last_B)), self.last_B]
        best_B = functional.linear(hidden_BD, head_VD).float().max(dim=1)
        return best_B.indices.where(best_B.values.isfinite(), _NOT_FINITE)


@dataclass(frozen=True, slots=True)
class Voice:
    """Who answers: a model, and how its tokens are read."""

    ask: Callable[[Step], Tensor]
    text: Callable[[Sequence[int]], str]
    """Of tokens."""
    eos: int
    dtype: torch.dtype
    device: torch.device


@dataclass
class _Writing:
    """Answers that are being written."""

    rows: list[int]
    """The prompts whose rows are computed."""
    answers: list[list[int]]
    """Tokens behind each prompt."""
    texts: dict[int, str]
    """Of the answers that have ended."""
    seen_BK: Tensor
    """Which of the tokens that were computed later ones see: all but padding."""


def complete(
    voice: Voice, completions: Sequence[Completion], prompts: Sequence[Tokens], before: int, memory: Memory
) -> list[tuple[str, Work]]:
    """The answer to each prompt, all of which stand behind `before` tokens of memory, and what was computed for it."""
    first, seen_BK = _first(voice, prompts, before, memory)
    rows = list(range(len(prompts)))
    state = _Writing(rows, [[] for _ in rows], {}, seen_BK)
    _write(state, voice, first, completions)
    while len(state.texts) < len(prompts):
        _drop_ended(state, memory)
        _write(state, voice, _next(voice, state, prompts, before, memory), completions)
    return [
        (state.texts[number], work_of(len(prompt) + len(state.answers[number]) - 1, before))
        for number, prompt in enumerate(prompts)
    ]


def _write(state: _Writing, voice: Voice, step: Step, completions: Sequence[Completion]) -> None:
    """One token more for each row."""
    for row, token in zip(state.rows, voice.ask(step).tolist(), strict=True):
        if row in state.texts:
            continue
        if token == _NOT_FINITE:
            raise DataError(
                f"{completions[row].name}: the model does not give finite numbers; its "
                "training diverged, or its weights are damaged"
            )
        state.answers[row].append(token)
        text = _ended(state.answers[row], completions[row], voice)
        if text is not None:
            state.texts[row] = text


def _ended(answer: Sequence[int], asked: Completion, voice: Voice) -> str | None:
    """Its text, where it goes no further."""
    is_over = answer[-1] == voice.eos
    text = voice.text(answer[:-1] if is_over else answer)
    ends = [place for stop in asked.stop if (place := text.find(stop)) >= 0]
    if ends:
        return text[: min(ends)]
    return text if is_over or len(answer) >= asked.tokens_max else None


def _drop_ended(state: _Writing, memory: Memory) -> None:
    """When they are half of the rows."""
    going = [place for place, row in enumerate(state.rows) if row not in state.texts]
    if 2 * len(going) <= len(state.rows):
        memory.select(going)
        state.rows = [state.rows[place] for place in going]
        state.seen_BK = state.seen_BK[going]


def _first(voice: Voice, prompts: Sequence[Tokens], before: int, memory: Memory) -> tuple[Step, Tensor]:
    """All prompts, and what later tokens will see of them."""
    length = max(map(len, prompts))
    tokens_BT = torch.zeros(len(prompts), length, dtype=torch.int64)
    seen_BK = torch.ones(len(prompts), before + length, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        tokens_BT[row, : len(prompt)] = torch.from_numpy(prompt)
        seen_BK[row, before + len(prompt) :] = False
    places_T = torch.arange(length)
    causal_TK = torch.arange(before + length) <= before + places_T[:, None]  # padding sees, and is seen by padding
    step = Step(
        tokens_BT.to(voice.device),
        (before + places_T).expand_as(tokens_BT).to(voice.device),
        _added(causal_TK.expand(len(prompts), -1, -1), voice),
        torch.tensor([len(prompt) - 1 for prompt in prompts], device=voice.device),
        memory,
    )
    return step, seen_BK


def _next(voice: Voice, state: _Writing, prompts: Sequence[Tokens], before: int, memory: Memory) -> Step:
    """The newest token of each row."""
    own = torch.ones(len(state.rows), 1, dtype=torch.bool)
    state.seen_BK = torch.cat([state.seen_BK, own], dim=1)
    answered = max(len(state.answers[row]) for row in state.rows)  # a row that has ended stands still
    return Step(
        torch.tensor([[state.answers[row][-1]] for row in state.rows], device=voice.device),
        torch.tensor([[before + len(prompts[row]) + answered - 1] for row in state.rows], device=voice.device),
        _added(state.seen_BK[:, None], voice),
        torch.zeros(len(state.rows), dtype=torch.int64, device=voice.device),
        memory,
    )


def _added(seen_BTK: Tensor, voice: Voice) -> Tensor:
    """As it is added to products of queries and keys."""
    mask_B1TK = torch.zeros(seen_BTK.shape, dtype=voice.dtype).masked_fill_(~seen_BTK, float("-inf"))[:, None]
    return mask_B1TK.to(voice.device)
