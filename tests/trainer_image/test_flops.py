"""The formula against what torch counts."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cpt_trainer.batches import Batch
from cpt_trainer.flops import Cost, cost_of
from cpt_trainer.model import Trainee, make, read_config
from trainer_image.kit import CONFIG

T = 32


def make_trainee(**changes: Any) -> Trainee:
    """With weights of no meaning: operations are only counted."""
    config = read_config({"config.json": json.dumps(CONFIG | changes).encode()})
    return Trainee(make(config, torch.device("cpu"))).to_empty(device="cpu")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_formula(tied: bool, kv_heads: int) -> None:
    """It equals the operations that torch counts, which takes every pair for seen."""
    trainee = make_trainee(tie_word_embeddings=tied, num_key_value_heads=kv_heads)
    cost = cost_of(trainee.lm)
    tokens = torch.zeros(2, T, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        nats = trainee(Batch(tokens, tokens, tokens, None))
        forward = counter.get_total_flops()
        nats.sum().backward()
    # torch counts backward attention as 2.5 forward ones, since flash attention computes the scores again
    attention = cost.per_pair * 2 * T * T
    assert forward == cost.forward_operations(2 * T, 2 * T * T)
    assert counter.get_total_flops() in (3 * forward, 3 * forward + attention // 2)


def test_convention() -> None:
    """The convention stands beside the number."""
    assert "head counted" in cost_of(make_trainee().lm).training(T, T).convention


@pytest.mark.parametrize(
    ("device", "gpus", "want"),
    [
        ("NVIDIA H100 80GB HBM3", 8, 0.25),
        ("NVIDIA H100 PCIe", 8, 0.25 * 989 / 756),
        ("NVIDIA GB200", 8, 0.25 * 989 / 2500),
        ("Some other device", 8, None),
        ("cpu", 0, None),
    ],
)
def test_mfu(device: str, gpus: int, want: float | None) -> None:
    """The longest name that fits counts, and an unknown device has no figure."""
    cost = Cost(per_token=2 * 10**9, per_pair=10**6)  # 3 * (2 + 1) = 9 GF per token at a length of 1000
    tokens_per_second = 0.25 * 8 * 989e12 / 9e9
    found = cost.mfu_full_attention(1000, tokens_per_second, gpus, device)
    assert found == (pytest.approx(want) if want else None)
