"""The verb `evaluate`: a model, a segment's end or a merge on held-out texts and on suites, a table for each.

On held-out text the windows, the blocks and the loss are those of the training loop, so the two agree to the last digit
in fp32. Suites are asked task by task; an attempt goes on where the one before it was killed. What it costs stands in
the result.

A merge need not be written for that: its values are made as they are read, by the code that would write them, so its
table is that of the written model. Price: each tensor of the inputs is read once, and eight are held at a time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import structlog

from cpt_api.trial import EvaluateWork
from cpt_api.values import Digest
from cpt_trainer.base import Files, read_files, require_tokenizer, segment_end, segment_files
from cpt_trainer.dataset import Prepared
from cpt_trainer.errors import ConfigError
from cpt_trainer.evaluate.place import place, placement_of
from cpt_trainer.evaluate.scorer import Scorer
from cpt_trainer.evaluate.shards import Shards
from cpt_trainer.evaluate.suite_score import Asked, ask, open_suite
from cpt_trainer.evaluate.suite_score import publish as publish_suite
from cpt_trainer.flops import cost_of
from cpt_trainer.heldout import open_prepared, publish, score_texts
from cpt_trainer.manifest import CACHED_BLOCKS
from cpt_trainer.merge.inputs import open_merge
from cpt_trainer.model import Trainee, read_config, require_document_masks
from cpt_trainer.parallel import TYPES
from cpt_trainer.process import Process, join
from cpt_trainer.score import Scored
from cpt_trainer.sources import open_model
from cpt_trainer.tokenizer import tokenizer_of
from cpt_trainer.trial import Trial, commit_result
from cpt_trainer.weights import Readable, open_weights

log = structlog.get_logger()


def run(trial: Trial) -> None:
    """Score and commit."""
    started = time.monotonic()
    work = trial.spec.evaluate
    assert work is not None
    opened = [open_suite(trial, wanted) for wanted in work.suites or ()]
    process = join(trial.spec.run.resources)
    files, weights = _opened(trial, work)
    prepared = open_prepared(trial, work.texts)
    require_tokenizer(files, prepared, read_config(files).vocab_size)
    placement = placement_of(weights, process, work.precision)
    trainee = place(files, weights, process, work.precision, placement)
    scores = _on_texts(trainee, prepared, work, process)
    kept = Shards(trial.store, trial.data, process, placement)
    scorer = Scorer(trainee, tokenizer_of(files), process.device, TYPES[work.precision], keeper=kept)
    asked = [ask(suite, scorer) for suite in opened]
    process.peers.gather(None)  # all have read what is kept, which goes when the result is there
    if process.rank == 0:
        _commit(trial, scores, asked, scorer, trainee, process, started)
        kept.forget()


def _on_texts(
    trainee: Trainee, prepared: Mapping[Digest, Prepared], work: EvaluateWork, process: Process
) -> dict[Digest, Scored]:
    if work.sequence_length is None:
        return {}
    require_document_masks(trainee, process)
    texts = {digest: data.held_out() for digest, data in prepared.items()}
    return score_texts(trainee, texts, work.sequence_length, process)


def _commit(
    trial: Trial,
    scores: Mapping[Digest, Scored],
    asked: Sequence[Asked],
    scorer: Scorer,
    trainee: Trainee,
    process: Process,
    started: float,
) -> None:
    found, outputs = publish(trial, scores)
    suites = [publish_suite(trial, answers, scorer) for answers in asked]
    observed = scorer.observed
    tokens = sum(scored.tokens for scored in scores.values()) + observed.work.tokens
    pairs = sum(scored.pairs for scored in scores.values()) + observed.work.pairs
    seconds = time.monotonic() - started
    log.info(
        "evaluated",
        bits_per_byte={score.text.short: score.bits_per_byte for score in found},
        suites={score.suite: score.groups[0].value for score, _ in suites},
        seconds=seconds,
    )
    commit_result(
        trial,
        outputs=(*outputs, *(output for _, written in suites for output in written)),
        held_out=tuple(found),
        suites=tuple(score for score, _ in suites),
        numbers={
            "tokens": tokens,
            "cutPrompts": observed.cut_prompts,
            "attemptSeconds": seconds,
            "torchThreads": process.threads,
            "worldSize": process.size,
            "parameters": sum(parameter.numel() for parameter in trainee.lm.parameters()),  # tied ones once
        },
        flops=cost_of(trainee.lm).forward(tokens, pairs),
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
