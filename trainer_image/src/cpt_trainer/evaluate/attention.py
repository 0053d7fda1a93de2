"""Attention in which all rows see one prefix that was computed before: its keys and values are kept, and lent to rows.

    prefix = Memory(Use.KEEP)
    decoder(prefix_1T, memory=prefix)           each layer keeps its keys and values: 1 H P d
    lent = prefix.branch(Use.LEND)
    decoder(rows_BT, mask_B1TK, memory=lent)    each layer sees those before its own: K = P + T
    own = prefix.branch(Use.KEEP)
    decoder(next_BT, mask_B1TK, memory=own)     sees them and keeps its own too: what greedy generation does

It is registered with transformers under NAME, through its public interface of attention functions: no cache object of
theirs is involved, so nothing is cropped, and the prefix is copied once for a layer that is being computed.

Price: 2 layers H d numbers for each token kept; a copy of the prefix's for each row while a layer is computed.

Shapes: B rows, T tokens, K seen tokens, P of them kept, H heads of keys and values, d width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

NAME = "cpt_prefix"
PLAIN = "sdpa"


class Use(Enum):
    """What a pass does with the memory."""

    KEEP = "keep"
    """Its own keys and values are kept, behind those that are there."""
    LEND = "lend"
    """It sees those that are there, and leaves nothing."""


class Memory:
    """Keys and values of tokens that were computed before, by layer."""

    def __init__(self, use: Use) -> None:
        self._use = use
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def branch(self, use: Use) -> Memory:
        """Another with the same beginning, which is not copied."""
        other = Memory(use)
        other._kept = dict(self._kept)
        return other

    def select(self, rows: Sequence[int]) -> None:
        """Forget all rows but these."""
        self._kept = {layer: (key[rows], value[rows]) for layer, (key, value) in self._kept.items()}

    def before(self, layer: int, key_BHTd: Tensor, value_BHTd: Tensor) -> tuple[Tensor, Tensor]:
        """All that the layer's tokens may see, with theirs at the end."""
        if layer in self._kept:
            rows = len(key_BHTd)
            key_BHTd, value_BHTd = (
                torch.cat([kept.expand(rows, -1, -1, -1), own], dim=2)
                for kept, own in zip(self._kept[layer], (key_BHTd, value_BHTd), strict=True)
            )
        if self._use is Use.KEEP:
            self._kept[layer] = (key_BHTd, value_BHTd)
        return key_BHTd, value_BHTd


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    memory: Memory | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if memory is not None:
        layer = module.layer_idx
        assert isinstance(layer, int)
        key, value = memory.before(layer, key, value)
    result: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
    return result


@contextmanager
def attending(config: Any, name: str) -> Iterator[None]:
    """The model uses that attention inside; it may be in training, and has its own again afterwards."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    before = config._attn_implementation  # noqa: SLF001 - no other way
    config._attn_implementation = name  # noqa: SLF001 - no other way
    try:
        yield
    finally:
        config._attn_implementation = before  # noqa: SLF001 - no other way


def keeps_all(config: Any) -> bool:
    """Whether keys and values of a token depend on nothing but the tokens before it, and are kept."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = {part.get("rope_type", "default") for part in (rope, *rope.values()) if isinstance(part, dict)}
    layers = set(getattr(config, "layer_types", None) or ())
    return layers <= {"full_attention", "sliding_attention"} and not kinds & {"dynamic", "longrope"}


def window_of(config: Any) -> int | None:
    """How many tokens a token sees in some layer; None for all that the model can have."""
    window: int | None = getattr(config, "sliding_window", None)
    return window if window is not None and window < config.max_position_embeddings else None
