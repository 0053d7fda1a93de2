"""`evaluate`: bits per byte of a model, a segment's end or a merge on held-out texts, with an item table for each.

The windows, the blocks and the loss are those of the training loop, so the two agree to the last digit in fp32. A trial
runs on one process; what it costs stands in its result.

A merge need not be written for that: its values are made as they are read, by the code that would write them, so its
table is that of the written model. Price: each tensor of the inputs is read once, and eight are held at a time.
"""

from __future__ import annotations

import time

import structlog

from cpt_api.trial import EvaluateWork
from cpt_trainer.base import Files, read_files, require_tokenizer, segment_end, segment_files
from cpt_trainer.errors import ConfigError
from cpt_trainer.flops import cost_of
from cpt_trainer.heldout import open_prepared, publish, score_texts
from cpt_trainer.manifest import CACHED_BLOCKS
from cpt_trainer.merge.inputs import open_merge
from cpt_trainer.model import Trainee, make, read_config, require_document_masks
from cpt_trainer.parallel import parallelise
from cpt_trainer.process import join
from cpt_trainer.sources import open_model
from cpt_trainer.state import load_weights
from cpt_trainer.trial import Trial, commit_result
from cpt_trainer.weights import Readable, open_weights

log = structlog.get_logger()


def run(trial: Trial) -> None:
    """Score and commit."""
    started = time.monotonic()
    work = trial.spec.evaluate
    assert work is not None
    process = join(trial.spec.run.resources)
    files, weights = _opened(trial, work)
    config = read_config(files)
    prepared = open_prepared(trial, work.held_out)
    require_tokenizer(files, prepared, config.vocab_size)
    trainee = Trainee(make(config, process.device))
    parallelise(trainee, config, process, work.precision)
    load_weights(trainee.lm, weights)
    require_document_masks(trainee, process)
    texts = {digest: data.held_out() for digest, data in prepared.items()}
    scores = score_texts(trainee, texts, work.sequence_length, process)
    found, outputs = publish(trial, scores)
    tokens = sum(scored.tokens for scored in scores.values())
    flops = cost_of(trainee.lm).forward(tokens, sum(scored.pairs for scored in scores.values()))
    seconds = time.monotonic() - started
    log.info("held_out", bits_per_byte={score.text.short: score.bits_per_byte for score in found}, seconds=seconds)
    commit_result(
        trial,
        outputs=tuple(outputs),
        held_out=tuple(found),
        numbers={
            "tokens": tokens,
            "attemptSeconds": seconds,
            "torchThreads": process.threads,
            "parameters": sum(parameter.numel() for parameter in trainee.lm.parameters()),  # tied ones once
        },
        flops=flops,
        gpu_seconds=process.gpus * seconds,
    )


def _opened(trial: Trial, work: EvaluateWork) -> tuple[Files, Readable]:
    """Config and tokenizer, and where the weights are read from."""
    if work.model is not None:
        folder = open_model(trial, work.model)
        return read_files(folder.store, folder.prefix), open_weights(folder.store, folder.prefix)
    if work.segment is not None:
        return segment_files(trial, work.segment), segment_end(trial, work.segment).checkpoint.tensors()
    if work.merge is not None:
        merge = open_merge(trial, work.merge, CACHED_BLOCKS)
        return merge.files, merge.blend
    raise ConfigError("nothing to evaluate: expected exactly one of model, segment and merge")
