"""The model: mathematics from transformers, made without weights and filled by us; and what is wrapped around it.

    lm = make(read_config(files), device)     on the meta device: a 70B model takes no memory yet
    trainee = Trainee(lm)                     trainee(batch) -> nats_BT, the loss of each token in fp32
    parallelise(trainee, ...)                 parallel.py: shards it, and gives it memory
    initialise(lm, seed)                      or load_weights(lm, ...), or a checkpoint

transformers gives the blocks; the head and the loss are ours, since theirs is a mean of means with logits of the whole
batch. Families whose head does more than a product with a matrix (a scale, a soft cap) are not in FAMILIES.

Random weights are made from (seed, name of the tensor), so they are equal on any number of ranks.

Shapes: B rows, T tokens, D width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from cpt_trainer.base import CONFIG
from cpt_trainer.batches import Batch, make_batch
from cpt_trainer.errors import ConfigError, DataError
from cpt_trainer.loading import model_module
from cpt_trainer.loss import token_losses_BT
from cpt_trainer.process import Process
from cpt_trainer.state import local_rows, tensors_of

FAMILIES: Mapping[str, str] = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
"""By `model_type`: the names that transformers' classes begin with. Each has a parity test, tied and untied."""

Answer = TypeVar("Answer")


def read_config(files: Mapping[str, bytes]) -> Any:
    """The configuration of a family that we know, from config.json."""
    try:
        values = json.loads(files[CONFIG])
        family = values["model_type"]
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"the model has no readable {CONFIG} with a 'model_type': {error!r}") from error
    if family not in FAMILIES:
        raise ConfigError(f"model_type {family!r}: expected one of {', '.join(sorted(FAMILIES))}")
    config = getattr(model_module(family, "configuration"), f"{FAMILIES[family]}Config").from_dict(values)
    if getattr(config, "attention_dropout", 0):
        raise ConfigError(f"attention_dropout is {config.attention_dropout}: expected 0, a run must be repeatable")
    return config


def make(config: Any, device: torch.device) -> nn.Module:
    """The causal model on the meta device, in fp32, with the attention that goes with the device."""
    family = config.model_type
    module = model_module(family, "modeling")
    config._attn_implementation = "sdpa" if device.type == "cpu" else "flex_attention"  # noqa: SLF001 - no other way
    config.use_cache = False  # with a cache transformers does not look for documents in positions
    config.dtype = torch.float32
    with torch.device("meta"):
        lm: nn.Module = getattr(module, f"{FAMILIES[family]}ForCausalLM")(config)
    return lm


class Trainee(nn.Module):
    """A causal model that answers with the loss of each token. The root for sharding: always called as a whole."""

    def __init__(self, lm: nn.Module) -> None:
        super().__init__()
        self.lm = lm

    @property
    def attention(self) -> str:
        """Its implementation."""
        return str(config_of(self.lm)._attn_implementation)  # noqa: SLF001 - no other way

    @property
    def blocks(self) -> nn.ModuleList:
        """Of the decoder."""
        blocks = self._decoder.layers
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    def forward(self, batch: Batch) -> Tensor:
        """nats_BT, 0 where the target is IGNORED."""
        nats_BT = token_losses_BT(self.hidden_BTD(batch), self._head.weight, batch.targets_BT)
        return nats_BT.clone()  # a view would lose the hook of sharding when its receiver changes it

    def hidden_BTD(self, batch: Batch) -> Tensor:
        """What the head sees."""
        output = self._decoder(
            input_ids=batch.tokens_BT,
            attention_mask=_windowed(batch.mask_B1TT, config_of(self.lm)),
            position_ids=batch.positions_BT,
            use_cache=False,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def ask(self, question: Callable[[Any, Tensor], Answer]) -> Answer:
        """What it makes of the decoder and the head's weights; in hooks of sharding, like `forward`."""
        return question(self._decoder, self._head.weight)

    @property
    def _decoder(self) -> Any:
        return self.lm.get_decoder()  # type: ignore[operator]

    @property
    def _head(self) -> Any:
        return self.lm.get_output_embeddings()  # type: ignore[operator]


def _windowed(mask_B1TT: Tensor | None, config: Any) -> Tensor | dict[str, Tensor] | None:
    """A mask of documents for layers that see a window only: what we hand over transformers takes as it is."""
    window = getattr(config, "sliding_window", None)
    if mask_B1TT is None or window is None:
        return mask_B1TT
    far_TT = torch.ones(mask_B1TT.shape[-2:], dtype=torch.bool, device=mask_B1TT.device).tril_(-window)
    near_B1TT = mask_B1TT & ~far_TT
    if getattr(config, "layer_types", None):  # by layer: Qwen
        return {"full_attention": mask_B1TT, "sliding_attention": near_B1TT}
    return near_B1TT


def config_of(lm: nn.Module) -> Any:
    """As transformers keeps it."""
    return lm.config


def is_tied(lm: nn.Module) -> bool:
    """Whether the head is the embedding."""
    head, embedding = lm.get_output_embeddings(), lm.get_input_embeddings()  # type: ignore[operator]
    return head.weight is embedding.weight


def fill_buffers(lm: nn.Module, config: Any) -> None:
    """What no checkpoint holds (RoPE's frequencies) is computed from the configuration again."""
    for module in lm.modules():
        names = sorted(module._non_persistent_buffers_set)  # noqa: SLF001 - torch has no public name for it
        if names:
            fresh = type(module)(config=config)
            for name in names:
                getattr(module, name).copy_(getattr(fresh, name))


@torch.no_grad()
def initialise(lm: nn.Module, seed: int) -> None:
    """Random weights as transformers makes them for FAMILIES: normal matrices, biases of 0, norms of 1."""
    deviation = float(config_of(lm).initializer_range)
    for name, tensor in tensors_of(lm).items():
        row, local = local_rows(tensor)
        if name.endswith("bias"):
            local.zero_()
        elif tensor.dim() == 1:
            local.fill_(1.0)
        else:
            key = hashlib.sha256(f"{seed}/{name}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)
            whole = torch.empty(tensor.shape).normal_(0.0, deviation, generator=generator)
            local.copy_(whole[row : row + local.shape[0]])


@torch.no_grad()
def require_document_masks(trainee: Trainee, process: Process) -> None:
    """Change document A of a row, and see that document B, after it, does not notice.

    A mask that an attention implementation silently ignores changes what is learned, and nothing else shows it. A model
    that a rate far too high has flattened notices nothing at all: its documents are apart, and its loss says the rest.
    """
    eos, length, vocabulary = 0, 8, config_of(trainee.lm).vocab_size
    rows = np.arange(2 * (2 * length + 1)).reshape(2, -1) * 7 % (vocabulary - 1) + 1
    rows[1, length:] = rows[0, length:]
    rows[:, length - 1] = eos
    batch, _ = make_batch(rows, np.array([eos, eos]))
    nats_BT = trainee(batch.to(process.device)).float().cpu()
    b = nats_BT[:, length:]
    if not torch.allclose(b[0], b[1], rtol=1e-3, atol=1e-4):
        raise ConfigError(
            f"attention {trainee.attention!r} does not keep documents apart: changing one changed the losses of the "
            f"next by up to {(b[0] - b[1]).abs().max():.2g}; use documentMask: Disabled, or another image"
        )
