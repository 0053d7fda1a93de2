"""`train`: one segment of a run, from where it starts to `result.json`.

    open        files of the model, datasets, order, model, optimizer, checkpoints
    begin       this trial's newest checkpoint; else the start that the spec names, gated and saved at once
    loop        read, forward and backward, one reduction, update, note; save and score when it is time
    end         final checkpoint, scores, export, result

All counts begin at token zero of the run, so a segment that starts at step 200 makes step 200, 201, … with the samples
and the rates that one long run would have had there.

A step has one reduction besides those of sharding: loss, valid tokens, squared gradient norm, and the wishes to stop
and to save. So all ranks divide by the same count, skip the same steps, and stop and save after the same step.

Price: nothing is hidden behind computation but reading ahead and uploading.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, NoReturn

import numpy as np
import structlog

from cpt_api.result import CheckpointRef, Flops, HeldOutScore, Outcome
from cpt_api.trial import DocumentMask, TrainWork, TrialType
from cpt_api.values import Digest
from cpt_trainer.base import MODEL, keep_files, segment_end, start_origin
from cpt_trainer.batches import Share, make_batch, shares
from cpt_trainer.checkpoint import DEADLINE_SECONDS
from cpt_trainer.errors import DataError, Diverged, StorageError
from cpt_trainer.export import Sample, export, mean_loss
from cpt_trainer.flops import TRAINING
from cpt_trainer.heldout import bits_per_byte, is_finite, publish, require_equal, score_texts
from cpt_trainer.manifest import Checkpoint, Kind, read_checkpoint
from cpt_trainer.memory import halving
from cpt_trainer.model import initialise, require_document_masks
from cpt_trainer.peers import lead
from cpt_trainer.process import communicating
from cpt_trainer.run import INTERVAL_SECONDS, Run, open_run
from cpt_trainer.schedule import learning_rate
from cpt_trainer.score import Scored
from cpt_trainer.sources import open_model
from cpt_trainer.state import load_into, load_weights
from cpt_trainer.tally import Tally
from cpt_trainer.telemetry import Past, Step, earlier_steps
from cpt_trainer.trial import Trial, commit_result
from cpt_trainer.watch import Phase, Watch
from cpt_trainer.weights import open_weights

log = structlog.get_logger()

_LAST_SAVE_SECONDS = 150.0
"""Of the save after SIGTERM: a pod's grace is 180 s."""
_LAST_LINES_SECONDS = 10.0
"""Of what is written after that save."""
_PATIENCE_SECONDS = 10.0
_SKIPPED_MAX, _SKIPPED_WINDOW = 10, 100
"""More skipped steps than that among the last so many: the run has diverged."""


def run(trial: Trial) -> None:
    """Train the segment and commit its result."""
    with Watch() as watch, ExitStack() as closing:
        run = open_run(trial, watch, closing)
        with communicating(), halving(trial, run.cut.micro_batch):
            step = _begin(run)
            _loop(run, step)
            _end(run)
        run.process.leave()


# --- begin ----------------------------------------------------------------------------------------------------------


def _begin(run: Run) -> int:
    """Fill the model, and return how many steps lie behind it."""
    found = run.checkpointer.restore(lambda checkpoint: _load(run, checkpoint, "the checkpoint"))
    if found is None:
        step = run.segment.first_step
        expected, whose = _start(run)
    else:
        step = found.manifest.at.step
        run.past = earlier_steps(run.trial, step) if run.leads else {}
    log.info("begins", step=step, of=run.segment.last_step, restored=found.key if found else None)
    if run.work.document_mask is DocumentMask.ENABLED:
        require_document_masks(run.trainee, run.process)
    run.telemetry.tokens = step * run.segment.batch_tokens
    if run.leads:
        run.telemetry.start()
    if found is None:
        scores = _score(run, step)
        if whose:
            require_equal(bits_per_byte(scores), expected, whose)
        elif run.texts:
            log.info("gate_skipped", why="nothing else has scored this start")
        _save(run, step, Kind.WARM_START)
    return step


def _start(run: Run) -> tuple[Sequence[HeldOutScore], str]:
    """Read what the spec names; what was said about it before, and who said so."""
    start, trial = run.work.start, run.trial
    if start.random is not None:
        initialise(run.trainee.lm, start.random.seed)
        return (), ""
    if start.segment is not None:
        end = segment_end(trial, start.segment)
        _load(run, end.checkpoint, f"the end of trial {end.result.digest.short}…")
        return end.result.held_out, f"trial {end.result.digest.short}…"
    assert start.model is not None
    folder = open_model(trial, start.model)
    load_weights(run.trainee.lm, open_weights(folder.store, folder.prefix))
    baseline = run.observe.baseline
    if baseline is None or baseline.digest is None:
        return (), ""
    return trial.result_of(baseline.digest, TrialType.EVALUATE).held_out, f"evaluation {baseline.digest.short}…"


def _load(run: Run, checkpoint: Checkpoint, what: str) -> None:
    """Weights and optimizer, of a run that has read what this one would have read."""
    at, segment = checkpoint.manifest.at, run.segment
    if not segment.first_step <= at.step <= segment.last_step:
        raise DataError(
            f"{what} is at step {at.step}, this segment goes from {segment.first_step} to {segment.last_step}"
        )
    want = segment.at(at.step)
    if at != want:
        raise DataError(
            f"{what} is not of this run: it has read {at.samples} sequences in order {at.order.short}…, here it would "
            f"be {want.samples} in {want.order.short}…: seed, lengths, mixture or data differ"
        )
    load_into(run.trainee.lm, run.update.optimizer, checkpoint)


# --- loop -----------------------------------------------------------------------------------------------------------


def _loop(run: Run, step: int) -> None:
    """Until the last step, or an end before it."""
    work, segment, watch = run.work, run.segment, run.watch
    steps = range(step, segment.last_step)
    ahead = shares(segment.order, run.reader, run.cut, steps, masked=work.document_mask is DocumentMask.ENABLED)
    skipped: deque[bool] = deque(maxlen=_SKIPPED_WINDOW)
    saved = time.monotonic()
    watch.enter(Phase.TRAINING)
    for step, future in zip(steps, ahead, strict=True):
        began = time.monotonic()
        share = _wait(run, future)
        data_seconds = time.monotonic() - began

        tally = Tally.of(run.trainee, share, run.reader.datasets, run.process)
        tally.square = run.update.square()
        tally.stop = watch.is_stopping
        tally.save = run.leads and time.monotonic() - saved >= INTERVAL_SECONDS
        tally = tally.summed(run.process)

        first, end = step * segment.batch_tokens, (step + 1) * segment.batch_tokens
        rate = learning_rate(work.schedule, first, end)
        norm = run.update.apply(tally.square, sum(tally.valid), rate)

        watch.step()
        seconds = time.monotonic() - began
        flops = run.cost.training(segment.batch_tokens, int(tally.pairs)).total
        loss = tally.loss if math.isfinite(tally.loss) else None
        _note(run, Step(step + 1, end, loss, rate, norm, tally.losses(), flops, seconds, data_seconds))
        skipped.append(norm is None)
        if sum(skipped) > _SKIPPED_MAX:
            _give_up(run, step + 1, f"{sum(skipped)} of the last {len(skipped)} gradients were not finite")
        if step + 1 == segment.last_step:
            break
        if tally.stop:
            _stop(run, step + 1)
        if tally.save:
            saved = time.monotonic()
            _save(run, step + 1, Kind.PERIODIC)
        run.checkpointer.poll()
        every = run.observe.every_tokens
        if every and end // every > first // every:
            watch.enter(Phase.SCORING)
            _score(run, step + 1)
            watch.enter(Phase.TRAINING)


def _wait(run: Run, future: Future[Share]) -> Share:
    """For data: an outage of the store that is ridden out is no hang."""
    while True:
        try:
            return future.result(timeout=_PATIENCE_SECONDS)
        except TimeoutError:
            run.watch.beat()  # an answer that *is* a TimeoutError cannot come: the store has errors of its own


def _note(run: Run, step: Step) -> None:
    run.trained_seconds += step.seconds
    run.trained_steps += 1
    run.watch.committed_step = run.checkpointer.statistics().committed_step
    if not run.leads:
        return
    run.past[step.step] = Past(step.loss, step.flops, step.gradient_norm is None)
    run.telemetry.note_committed(run.checkpointer.statistics())
    counts = run.segment.order.counts(step.step * run.segment.batch)
    run.telemetry.epochs = {name: count / run.reader.sequences(name) for name, count in counts.items()}
    run.telemetry.mfu = run.cost.mfu_full_attention(
        run.work.sequence_length, run.segment.batch_tokens / step.seconds, run.process.gpus, run.process.device_name
    )
    run.telemetry.note(step, run.segment.batch_tokens)


def _score(run: Run, step: int) -> dict[Digest, Scored]:
    """Held-out text, in the loop's own precision."""
    scores = score_texts(run.trainee, run.texts, run.work.sequence_length, run.process)
    if run.leads and scores:
        found, _ = publish(run.trial, scores)
        run.telemetry.note_scores(step, found)
    _draw(run, step)
    return scores


def _draw(run: Run, step: int) -> None:
    """The next point of each curve."""
    if run.curves is None:
        return
    points = run.curves.points()
    if run.leads:
        run.telemetry.note_suites(step, points)


def _save(run: Run, step: int, kind: Kind) -> None:
    run.checkpointer.save(run.state(), run.segment.at(step), kind)
    run.telemetry.flush_soon()


# --- ends -----------------------------------------------------------------------------------------------------------


def _stop(run: Run, step: int) -> NoReturn:
    """On request: save what there is, if there is time."""
    run.watch.enter(Phase.SAVING)
    try:
        run.checkpointer.save_now(run.state(), run.segment.at(step), Kind.PERIODIC, _LAST_SAVE_SECONDS)
    except StorageError as error:
        log.warning("not_saved", step=step, error=str(error))
    run.watch.committed_step = run.checkpointer.statistics().committed_step
    run.telemetry.note_committed(run.checkpointer.statistics())
    if run.leads:
        run.telemetry.flush_within(_LAST_LINES_SECONDS)
    raise run.watch.terminated(f"asked to end after step {step}")


def _end(run: Run) -> None:
    """Save, score, export, commit."""
    segment, trial = run.segment, run.trial
    run.watch.enter(Phase.SAVING)
    at = segment.at(segment.last_step)
    run.checkpointer.save_now(run.state(), at, _kind_of_end(run.work), DEADLINE_SECONDS)
    _tell(run)
    run.watch.enter(Phase.OPEN)
    if run.watch.is_stopping:
        raise run.watch.terminated("asked to end after the last step")

    scores = score_texts(run.trainee, run.texts, run.work.sequence_length, run.process)
    last = run.past.get(segment.last_step)
    if not all(is_finite(scored) for scored in scores.values()) or (last and last.loss is None):
        _give_up(run, segment.last_step, "its end gives no finite loss")
    _draw(run, segment.last_step)
    sample = _sample(run) if run.work.start.random else None

    def finish() -> None:
        manifest = run.checkpointer.statistics().manifest
        assert manifest is not None
        found, outputs = publish(trial, scores)
        outputs += keep_files(trial, MODEL, run.files)
        if sample is not None:
            outputs += export(trial, read_checkpoint(trial.store, manifest), run.files, sample)
        run.telemetry.note_scores(segment.last_step, found)
        run.telemetry.put_progress()
        run.telemetry.flush()
        reference = CheckpointRef(manifest=manifest.removeprefix(trial.data), step=at.step, tokens=at.tokens)
        commit_result(
            trial,
            outputs=tuple(outputs),
            held_out=tuple(found),
            checkpoint=reference,
            origin=start_origin(trial, run.work.start),
            **_figures(run),
        )

    lead(run.process.peers, finish)


def _kind_of_end(work: TrainWork) -> Kind:
    """Where the rate has come to its end nothing goes on."""
    cooled = work.schedule.cooldown is not None and work.schedule.cooldown.end_tokens <= work.stop_tokens
    return Kind.FINAL if cooled else Kind.SEGMENT_END


def _sample(run: Run) -> Sample:
    """One sequence and its loss, by which an export is verified."""
    place = run.segment.order.at(0)
    batch, _ = make_batch(run.reader.read(place)[None], np.array([run.reader.eos(place.dataset)]))
    batch = batch.to(run.process.device)
    return Sample(batch, mean_loss(run.trainee, batch))


def _give_up(run: Run, step: int, why: str) -> NoReturn:
    """Diverged: a result, not a failure."""
    if run.leads:
        run.telemetry.flush()
    lead(run.process.peers, lambda: commit_result(run.trial, outcome=Outcome.DIVERGED, **_figures(run)))
    raise Diverged(f"diverged at step {step}: {why}")


def _tell(run: Run) -> None:
    """Readers of progress learn what is committed."""
    run.watch.committed_step = run.checkpointer.statistics().committed_step
    run.telemetry.note_committed(run.checkpointer.statistics())
    if run.leads:
        run.telemetry.put_progress()
        run.telemetry.flush()


def _figures(run: Run) -> dict[str, Any]:
    """Numbers, cost and time of a result."""
    segment, past = run.segment, run.past
    losses = [step.loss for _, step in sorted(past.items()) if step.loss is not None]
    done = max(past, default=segment.first_step) - segment.first_step
    tokens = done * segment.batch_tokens
    numbers: dict[str, float] = {
        "tokens": tokens,
        "steps": done,
        "skippedSteps": sum(step.skipped for step in past.values()),
        "microBatch": run.cut.micro_batch,
        "worldSize": run.process.size,
        "torchThreads": run.process.threads,
        "attemptSeconds": time.monotonic() - run.started,
        "dataWaitSeconds": run.telemetry.data_seconds,
    }
    if losses:
        numbers |= {"finalLoss": losses[-1], "meanLoss": math.fsum(losses) / len(losses)}
    if run.trained_seconds:
        numbers["tokensPerSecond"] = run.trained_steps * segment.batch_tokens / run.trained_seconds
    known = [step.flops for step in past.values()]
    flops = Flops(total=math.fsum(known) / max(1, len(known)) * done, convention=TRAINING)
    return {"numbers": numbers, "flops": flops, "gpu_seconds": run.process.gpus * (time.monotonic() - run.started)}
