"""A run's end in Hugging Face layout: what other tools read, and what the next experiment starts from.

    export/config.json, tokenizer.json, …     byte for byte as the run found them
           model.safetensors                  the final checkpoint's weights, in the type that config.json names; last

It is made from the checkpoint by ranges, without a model in memory, and then verified: read back from the store, the
names, shapes and types are those of the model, and a batch costs what it cost in training (within 1e-3, for bf16).

Price: a temporary file of the size of the weights on rank 0, and one more model on it while verifying.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
import torch

from cpt_api.layout import EXPORT
from cpt_api.result import Output
from cpt_api.trial import Precision
from cpt_api.values import Digest
from cpt_trainer.base import Files, keep_files, type_of
from cpt_trainer.batches import Batch
from cpt_trainer.errors import DamagedError
from cpt_trainer.floats import rounded, widened
from cpt_trainer.manifest import Checkpoint
from cpt_trainer.model import Trainee, make, read_config
from cpt_trainer.parallel import parallelise
from cpt_trainer.peers import Alone
from cpt_trainer.process import Process
from cpt_trainer.state import load_weights
from cpt_trainer.store import sha256_of
from cpt_trainer.trial import Trial
from cpt_trainer.weights import SINGLE, Weights, layout, open_weights

log = structlog.get_logger()

TOLERANCE = 1e-3
"""Relative, of a batch's mean loss: what rounding to bf16 may change."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A batch, and what it costs by the model that is exported."""

    batch: Batch
    mean_nats: float


def export(trial: Trial, checkpoint: Checkpoint, files: Files, sample: Sample) -> tuple[Output, ...]:
    """Write and verify; what is there already is written again with the same bytes."""
    outputs = keep_files(trial, EXPORT, files)
    key = EXPORT + SINGLE
    with tempfile.NamedTemporaryFile() as file:
        path = Path(file.name)
        _write(path, checkpoint.tensors(), type_of(files))
        trial.store.put_file(trial.data + key, path)
        size = path.stat().st_size
    _verify(trial, files, sample)
    log.info("exported", key=trial.data + key, bytes=size)
    digest = Digest(sha256_of(trial.store, trial.data + key))
    return (*outputs, Output(key=key, bytes=size, sha256=digest))


def _write(path: Path, weights: Weights, dtype: str) -> None:
    names = sorted(weights.tensors)
    head, starts = layout([(name, dtype, weights.tensors[name].shape) for name in names])
    with path.open("wb") as file:
        file.write(head)
        for name, start in zip(names, starts, strict=False):
            file.seek(start)
            file.write(rounded(widened(weights.read(name), weights.tensors[name].dtype), dtype).tobytes())


def _verify(trial: Trial, files: Files, sample: Sample) -> None:
    """Read it back as anybody would."""
    device = sample.batch.tokens_BT.device
    alone = Process(0, 1, device, torch.get_num_threads(), Alone())
    config = read_config(files)
    trainee = Trainee(make(config, device))
    parallelise(trainee, config, alone, Precision.FLOAT32)
    load_weights(trainee.lm, open_weights(trial.store, trial.data + EXPORT))  # names and shapes strict
    mean_nats = mean_loss(trainee, sample.batch)
    if not np.isclose(mean_nats, sample.mean_nats, rtol=TOLERANCE):
        raise DamagedError(
            f"{trial.data}{EXPORT}{SINGLE} does not hold the model that was trained: read back, a batch costs "
            f"{mean_nats:.6f} nats per token, the model gives {sample.mean_nats:.6f}"
        )


@torch.no_grad()
def mean_loss(trainee: Trainee, batch: Batch) -> float:
    """Nats per token of one batch; a collective where the model is sharded."""
    return float(trainee(batch).double().mean())
