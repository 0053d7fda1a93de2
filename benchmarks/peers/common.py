"""What both peers of `train_overhead` start from: model, optimizer, sequences and rates, as our trainer has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_model
from transformers import AutoConfig, AutoModelForCausalLM

BATCH = 8


@dataclass(frozen=True, slots=True)
class Given:
    """The same for all."""

    lm: Any
    optimizer: torch.optim.Optimizer
    rows: npt.NDArray[np.int64]
    """Sequences of L + 1 tokens; BATCH of them a step."""
    rates: npt.NDArray[np.float64]
    """Of each step."""


def given(folder: Path) -> Given:
    """Read it."""
    config = AutoConfig.from_pretrained(folder / "corpus" / "model")
    config.use_cache = False
    lm = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32)  # type: ignore[no-untyped-call]
    load_model(lm, folder / "weights.safetensors")
    embedding = lm.get_input_embeddings().weight
    decayed = [p for p in lm.parameters() if p.dim() > 1 and p is not embedding]
    plain = [p for p in lm.parameters() if p.dim() <= 1 or p is embedding]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.95), eps=1e-8, fused=True)
    return Given(lm, optimizer, np.load(folder / "rows.npy"), np.load(folder / "rates.npy"))
