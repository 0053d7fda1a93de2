"""Attention in which all rows see one prefix that was computed before: its keys and values are kept, and lent to rows.

    prefix = Memory(Use.KEEP)
    decoder(prefix_1T, memory=prefix)           each layer keeps its keys and values: 1 H P d
    lent = prefix.branch(Use.LEND)
    decoder(rows_BT, mask_B1TK, memory=lent)    each layer sees those before its own: K = P + T
    own = prefix.branch(Use.KEEP)
    decoder(next_BT, mask_B1TK, memory=own)     sees them and keeps its own too: what greedy generation does

It is registered with transformers under NAME, through its public interface of attention functions: no cache object of
theirs is involved, so nothing is cropped.

On a CPU what all rows see is not copied for each of them. Attention is a mean, so it can be taken in two parts, each
with the sum of its weights, and put together:

    to the prefix      all tokens of all rows as if they were one text: one large product, without a mask
    to its own row     T tokens, with the mask
    both               (sum of weights · mean of the one + the same of the other) / both sums

Price: 2 layers H d numbers for each token kept; on a GPU a copy of the prefix's for each row while a layer is computed,
since its kernels tell the sums of weights of some types only.

Shapes: B rows, T tokens, K seen tokens, P of them kept, H heads of keys and values, G heads of queries for each of
those, Q = H G of them, N = B T G of them as one text, d width of a head.
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

    def lent(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """What is seen and not added to: 1 H P d."""
        return self._kept.get(layer) if self._use is Use.LEND else None


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
        lent = memory.lent(layer)
        if lent is not None and attention_mask is not None and query.device.type == "cpu":
            return _in_two(query, key, value, attention_mask, lent, settings["scaling"]), None
        key, value = memory.before(layer, key, value)
    result: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
    return result


def _in_two(
    query: Tensor, key: Tensor, value: Tensor, mask_B1TK: Tensor, lent: tuple[Tensor, Tensor], scale: float
) -> Tensor:
    """Attention to the prefix, and to what is behind it: B T Q d."""
    rows, _, tokens, width = query.shape
    heads = key.shape[1]
    grouped_BHGTd = query.view(rows, heads, -1, tokens, width)
    groups = grouped_BHGTd.shape[2]
    # heads that share their keys are further texts to the prefix
    flat_1HNd = grouped_BHGTd.permute(1, 0, 3, 2, 4).flatten(1, 3)[None]
    before_1HNd, before_1HN = _summed(flat_1HNd, *lent, scale=scale)
    key, value = (own.repeat_interleave(groups, 1) for own in (key, value))
    own_BQTd, own_BQT = _summed(query, key, value, attn_mask=mask_B1TK[..., -tokens:], scale=scale)
    before_BTQd = before_1HNd.view(heads, rows, tokens, groups, width).permute(1, 2, 0, 3, 4).flatten(2, 3)
    before_BTQ = before_1HN.view(heads, rows, tokens, groups).permute(1, 2, 0, 3).flatten(2, 3)
    part_BTQ1 = torch.sigmoid(before_BTQ - own_BQT.transpose(1, 2))[..., None]
    mean_BTQd = torch.lerp(own_BQTd.transpose(1, 2).float(), before_BTQd.float(), part_BTQ1)
    return mean_BTQd.to(query.dtype)


def _summed(query: Tensor, key: Tensor, value: Tensor, **settings: Any) -> tuple[Tensor, Tensor]:
    """What SDPA does on a CPU, with the logarithm of the sum of weights, which its public form keeps to itself."""
    found: tuple[Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(  # noqa: SLF001 - see above
        query, key, value, **settings
    )
    return found


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
