"""What is put on a model from outside, in this order, each step with its reason:

    1. compile each block (GPU)          before sharding, so that hooks of sharding stay outside of graphs
    2. fully_shard each block            its weights are gathered when it runs, and freed after it
    3. fully_shard the embedding         alone, unless it is also the head: then both must be one unit with the norm
    4. fully_shard the root              norm and head, gathered for the whole step
    5. memory                            every rank only for its rows
    6. buffers, ties                     what no checkpoint holds

The loss is a sum, so gradients are summed over ranks, never averaged: the division by the valid tokens of the global
batch comes with the clipping, in `Update`. Alone and in fp32 nothing is sharded, as there is nothing to gain; alone and
in bf16 it is, because sharding is what keeps fp32 masters and bf16 copies.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from cpt_api.trial import Precision
from cpt_trainer.model import Trainee, fill_buffers, is_tied
from cpt_trainer.process import Process

TYPES = {Precision.BFLOAT16: torch.bfloat16, Precision.FLOAT32: torch.float32}


def parallelise(
    trainee: Trainee, config: Any, process: Process, precision: Precision, *, compiled: bool = True
) -> None:
    """Give a model on the meta device its place on this rank; weights come after."""
    if process.device.type == "cuda" and compiled:
        for block in trainee.blocks:
            block.compile()
    if process.size > 1 or precision is not Precision.FLOAT32:
        _shard(trainee, process, precision)
    trainee.to_empty(device=process.device)
    fill_buffers(trainee.lm, config)
    trainee.lm.tie_weights()  # type: ignore[operator]


def reshard(trainee: Trainee) -> None:
    """Let go of gathered weights: after a forward pass without a backward one the root keeps them."""
    for module in trainee.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _shard(trainee: Trainee, process: Process, precision: Precision) -> None:
    mesh = process.mesh()
    policy = MixedPrecisionPolicy(param_dtype=TYPES[precision], reduce_dtype=torch.float32)
    for block in trainee.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    if not is_tied(trainee.lm):
        fully_shard(trainee.lm.get_input_embeddings(), mesh=mesh, mp_policy=policy)  # type: ignore[operator]
    fully_shard(trainee, mesh=mesh, mp_policy=policy)
    register_fsdp_forward_method(trainee, "ask")
    for module in trainee.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo cannot scale while it sums
