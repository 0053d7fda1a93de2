"""A prefix that was computed before is seen as if it stood before each row."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cpt_trainer.evaluate.attention import Memory, Use, attend

ROWS, TOKENS, BEFORE, WIDTH, LAYER = 3, 7, 40, 16, 2


def layer(groups: int) -> Any:
    """What the function asks of a layer of transformers."""
    return SimpleNamespace(layer_idx=LAYER, num_key_value_groups=groups, is_causal=True)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_two_parts(groups: int, dtype: torch.dtype) -> None:
    """Attention to the prefix and to the row, put together, is attention to both at once."""
    torch.manual_seed(groups)
    heads = 2
    key, value = (torch.randn(ROWS, heads, TOKENS, WIDTH, dtype=dtype) for _ in range(2))
    query = torch.randn(ROWS, heads * groups, TOKENS, WIDTH, dtype=dtype)
    before_key, before_value = (3 * torch.randn(1, heads, BEFORE, WIDTH, dtype=dtype) for _ in range(2))
    mask = torch.zeros(ROWS, 1, TOKENS, BEFORE + TOKENS, dtype=dtype)
    mask[..., BEFORE:].masked_fill_(~torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril(), float("-inf"))
    memory = Memory(Use.KEEP)
    memory.before(LAYER, before_key, before_value)
    found, _ = attend(layer(groups), query, key, value, mask, memory.branch(Use.LEND), scaling=0.3)
    whole_key, whole_value = (
        torch.cat([before.expand(ROWS, -1, -1, -1), own], dim=2)
        for before, own in ((before_key, key), (before_value, value))
    )
    want, _ = attend(layer(groups), query, whole_key, whole_value, mask, scaling=0.3)
    tolerance = 1e-6 if dtype is torch.float32 else 2e-2
    torch.testing.assert_close(found, want, rtol=tolerance, atol=tolerance)
