"""A model on this rank, to be asked and not trained: whole on each rank, or sharded over all where it does not fit.

    placement    each rank holds       ranks then
    WHOLE        all of the model      have shards of the items of their own, and nothing to wait for
    SHARDED      its rows              make the same passes, since weights are gathered in each

Whole models hold the products' type and no masters: half the memory of what training holds, and the same scores bit
for bit, as sharding casts to that type before it computes.

Blocks are not compiled: each pass has a shape of its own.

Price: SHARDED sends the weights to each rank in each pass.
"""

from __future__ import annotations

import math
from dataclasses import replace
from enum import Enum

import torch

from cpt_api.trial import Precision
from cpt_trainer.base import Files
from cpt_trainer.model import Trainee, make, read_config
from cpt_trainer.parallel import TYPES, parallelise
from cpt_trainer.peers import Alone
from cpt_trainer.process import Process
from cpt_trainer.state import load_weights
from cpt_trainer.weights import Readable


class Placement(Enum):
    """Where a model's weights are."""

    WHOLE = "whole"
    SHARDED = "sharded"


_OF_MEMORY = 0.6
"""Part of a GPU's free memory that weights may take: the rest is for passes."""


def placement_of(weights: Readable, process: Process, precision: Precision) -> Placement:
    """Whole wherever it fits."""
    if process.size == 1 or process.device.type != "cuda":
        return Placement.WHOLE
    numbers = sum(math.prod(tensor.shape) for tensor in weights.tensors.values())
    free, _ = torch.cuda.mem_get_info(process.device)
    fits = numbers * TYPES[precision].itemsize <= _OF_MEMORY * free
    return Placement.WHOLE if process.sum([float(fits)])[0] == process.size else Placement.SHARDED


def place(files: Files, weights: Readable, process: Process, precision: Precision, placement: Placement) -> Trainee:
    """Read it. Nothing of it wants a gradient."""
    config = read_config(files)
    trainee = Trainee(make(config, process.device))
    if placement is Placement.SHARDED:
        parallelise(trainee, config, process, precision, compiled=False)
    else:
        for parameter in trainee.parameters():  # not the buffers: RoPE's frequencies stay in fp32
            parameter.data = parameter.data.to(TYPES[precision])
        alone = replace(process, rank=0, size=1, peers=Alone())
        parallelise(trainee, config, alone, Precision.FLOAT32, compiled=False)
    trainee.requires_grad_(requires_grad=False)
    load_weights(trainee.lm, weights)
    return trainee.eval()
