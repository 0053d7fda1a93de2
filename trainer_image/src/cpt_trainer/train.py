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
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import structlog

from cpt_api.result import CheckpointRef, Flops, HeldOutScore, Outcome
from cpt_api.trial import DocumentMask, Observe, TrainWork, TrialType
from cpt_api.values import Digest
from cpt_trainer.base import MODEL, Files, keep_files, model_files, require_tokenizer, segment_end
from cpt_trainer.batches import Cut, Reader, Share, make_batch, open_datasets, shares
from cpt_trainer.checkpoint import DEADLINE_SECONDS, Checkpointer, Writer
from cpt_trainer.errors import DataError, Diverged, StorageError
from cpt_trainer.export import Sample, export, mean_loss
from cpt_trainer.flops import TRAINING, Cost, cost_of
from cpt_trainer.flush import Flusher
from cpt_trainer.heldout import Texts, bits_per_byte, is_finite, open_prepared, publish, require_equal, score_texts
from cpt_trainer.loss import IGNORED
from cpt_trainer.manifest import BLOCK_BYTES, Checkpoint, Kind, read_checkpoint
from cpt_trainer.memory import halving, micro_batch
from cpt_trainer.model import Trainee, initialise, make, read_config, require_document_masks
from cpt_trainer.parallel import parallelise, reshard
from cpt_trainer.peers import lead
from cpt_trainer.process import Process, join
from cpt_trainer.schedule import learning_rate
from cpt_trainer.score import Scored
from cpt_trainer.segment import Segment
from cpt_trainer.sources import open_model
from cpt_trainer.state import State, load_into, load_weights, state_of
from cpt_trainer.telemetry import Past, Step, Telemetry, earlier_steps
from cpt_trainer.trial import Trial, commit_result
from cpt_trainer.update import Update
from cpt_trainer.watch import Phase, Watch
from cpt_trainer.weights import open_weights

log = structlog.get_logger()

CHECKPOINTS = "checkpoints/"
"""Below a trial's data prefix."""
INTERVAL_SECONDS = 600.0
"""Between periodic checkpoints: with a machine lost every 6 hours and 5 s of staging, Young's rule gives 8 minutes."""
_LAST_SAVE_SECONDS = 150.0
"""Of the save after SIGTERM: a pod's grace is 180 s."""
_PATIENCE_SECONDS = 10.0
_SKIPPED_MAX, _SKIPPED_WINDOW = 10, 100
"""More skipped steps than that among the last so many: the run has diverged."""


@dataclass(slots=True)
class Run:
    """What the loop works with; made once by `_open`."""

    trial: Trial
    work: TrainWork
    observe: Observe
    process: Process
    watch: Watch
    files: Files
    segment: Segment
    reader: Reader
    texts: Texts
    trainee: Trainee
    cost: Cost
    update: Update
    cut: Cut
    checkpointer: Checkpointer
    telemetry: Telemetry
    past: dict[int, Past] = field(default_factory=dict)
    """Steps of this trial, also of attempts before this one."""
    started: float = field(default_factory=time.monotonic)
    trained_seconds: float = 0.0
    trained_steps: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which writes."""
        return self.process.rank == 0


def run(trial: Trial) -> None:
    """Train the segment and commit its result."""
    with Watch() as watch, ExitStack() as closing:
        run = _open(trial, watch, closing)
        with halving(trial, run.cut.micro_batch):
            step = _begin(run)
            _loop(run, step)
            _end(run)
        run.process.leave()


# --- open -----------------------------------------------------------------------------------------------------------


def _open(trial: Trial, watch: Watch, closing: ExitStack) -> Run:
    """Everything, with weights of no meaning yet."""
    work = trial.spec.train
    assert work is not None
    observe = trial.spec.run.observe or Observe()
    process = join(trial.spec.run.resources)
    files = model_files(trial, work.start, process.peers)
    config = read_config(files)
    trained_on = open_prepared(trial, (part.dataset for phase in work.phases for part in phase.mixture))
    scored_on = open_prepared(trial, observe.held_out)
    require_tokenizer(files, trained_on | scored_on, config.vocab_size)
    segment = Segment.of(work, open_datasets(trained_on, work.sequence_length))
    share = -(-work.global_batch_size // process.size)
    rows = lead(process.peers, lambda: micro_batch(trial, share, work.sequence_length))
    trainee = Trainee(make(config, process.device))
    parallelise(trainee, config, process, work.precision)
    telemetry = Telemetry(trial, work.stop_tokens, rows)
    closing.callback(telemetry.close)
    flusher = Flusher(trial.store.address, BLOCK_BYTES)
    closing.callback(flusher.close)
    writer = Writer(trial.digest, trial.document.attempt, trial.pod_uid)
    checkpointer = Checkpointer(trial.store, trial.data + CHECKPOINTS, writer, process.peers, flusher, INTERVAL_SECONDS)
    closing.callback(checkpointer.close)
    return Run(
        trial=trial,
        work=work,
        observe=observe,
        process=process,
        watch=watch,
        files=files,
        segment=segment,
        reader=Reader(trained_on, work.sequence_length),
        texts={digest: prepared.held_out() for digest, prepared in scored_on.items()},
        trainee=trainee,
        cost=cost_of(trainee.lm),
        update=Update(trainee.lm, work.optimizer),
        cut=Cut(work.global_batch_size, process.rank, process.size, rows, work.sequence_length),
        checkpointer=checkpointer,
        telemetry=telemetry,
    )


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
    at = checkpoint.manifest.at
    if at.step == run.segment.first_step or run.segment.first_step < at.step <= run.segment.last_step:
        want = run.segment.at(at.step)
        if at == want:
            load_into(run.trainee.lm, run.update.optimizer, checkpoint)
            return
        why = f"it has read {at.samples} sequences in order {at.order.short}…, here it would be {want.samples} in "
        raise DataError(f"{what} is not of this run: {why}{want.order.short}…: seed, lengths, mixture or data differ")
    raise DataError(
        f"{what} is at step {at.step}, this segment goes from {run.segment.first_step} to {run.segment.last_step}"
    )


# --- loop -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """What a step found: on this rank, then summed over all."""

    datasets: Sequence[Digest]
    """In the order of the lists."""
    nats: list[float]
    """Loss of each dataset."""
    valid: list[float]
    """Targets that count, of each dataset."""
    square: float = 0.0
    """Squared norm of the gradient of the summed loss."""
    pairs: float = 0.0
    stop: float = 0.0
    """Ranks that were asked to end."""
    save: float = 0.0
    """1 where rank 0 wants a checkpoint."""

    def summed(self, process: Process) -> Tally:
        """Over all ranks: the one reduction of a step."""
        count = len(self.datasets)
        found = process.sum([*self.nats, *self.valid, self.square, self.pairs, self.stop, self.save])
        return Tally(self.datasets, found[:count], found[count : 2 * count], *found[2 * count :])

    def losses(self) -> dict[Digest, float]:
        """Mean of each dataset that was in the batch."""
        parts = zip(self.datasets, self.nats, self.valid, strict=True)
        return {name: nats / valid for name, nats, valid in parts if valid and math.isfinite(nats)}


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

        tally = _forward_backward(run, share)
        tally.square = run.update.square()
        tally.stop = watch.is_stopping
        tally.save = run.leads and time.monotonic() - saved >= INTERVAL_SECONDS
        tally = tally.summed(run.process)

        valid = sum(tally.valid)
        first, end = step * segment.batch_tokens, (step + 1) * segment.batch_tokens
        rate = learning_rate(work.schedule, first, end)
        norm = run.update.apply(tally.square, valid, rate)

        watch.step()
        loss = sum(tally.nats) / valid
        seconds = time.monotonic() - began
        flops = run.cost.training(segment.batch_tokens, int(tally.pairs)).total
        mean = loss if math.isfinite(loss) else None
        _note(run, Step(step + 1, end, mean, rate, norm, tally.losses(), flops, seconds, data_seconds))
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
            _score(run, step + 1)
            watch.beat()


def _wait(run: Run, future: Future[Share]) -> Share:
    """For data: an outage of the store that is ridden out is no hang."""
    while True:
        try:
            return future.result(timeout=_PATIENCE_SECONDS)
        except TimeoutError:
            run.watch.beat()


def _forward_backward(run: Run, share: Share) -> Tally:
    """Gradients of the summed loss of this rank's share."""
    names = run.reader.datasets
    nats, valid = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for batch, datasets in zip(share.batches, share.datasets, strict=True):
        nats_BT = run.trainee(batch.to(run.process.device))
        nats_BT.sum().backward()
        sums = nats_BT.detach().double().sum(dim=1).tolist()
        counts = (batch.targets_BT != IGNORED).sum(dim=1).tolist()
        for dataset, found, count in zip(datasets, sums, counts, strict=True):
            if dataset is not None:
                nats[dataset] += found
                valid[dataset] += count
    return Tally(names, list(nats.values()), list(valid.values()), pairs=share.pairs)


def _note(run: Run, step: Step) -> None:
    run.trained_seconds += step.seconds
    run.trained_steps += 1
    run.watch.committed_step = run.checkpointer.statistics().committed_step
    if not run.leads:
        return
    run.past[step.step] = Past(step.loss, step.flops, step.gradient_norm is None)
    run.telemetry.committed = run.checkpointer.statistics()
    counts = run.segment.order.counts(step.step * run.segment.batch)
    run.telemetry.epochs = {name: count / run.reader.sequences(name) for name, count in counts.items()}
    run.telemetry.note(step, run.segment.batch_tokens)


def _score(run: Run, step: int) -> dict[Digest, Scored]:
    """Held-out text, in the loop's own precision."""
    scores = score_texts(run.trainee, run.texts, run.work.sequence_length, run.process)
    if run.leads and scores:
        found, _ = publish(run.trial, scores)
        run.telemetry.note_scores(step, found)
    return scores


def _save(run: Run, step: int, kind: Kind) -> None:
    run.checkpointer.save(_state(run), run.segment.at(step), kind)
    run.telemetry.flush_soon()


def _state(run: Run) -> State:
    reshard(run.trainee)
    return state_of(run.trainee.lm, run.update.optimizer, run.process.rank)


# --- ends -----------------------------------------------------------------------------------------------------------


def _stop(run: Run, step: int) -> NoReturn:
    """On request: save what there is, if there is time."""
    run.watch.enter(Phase.SAVING)
    try:
        run.checkpointer.save_now(_state(run), run.segment.at(step), Kind.PERIODIC, _LAST_SAVE_SECONDS)
        _tell(run)
    except StorageError as error:
        log.warning("not_saved", step=step, error=str(error))
    raise run.watch.terminated(f"asked to end after step {step}")


def _end(run: Run) -> None:
    """Save, score, export, commit."""
    segment, trial = run.segment, run.trial
    run.watch.enter(Phase.SAVING)
    at = segment.at(segment.last_step)
    run.checkpointer.save_now(_state(run), at, _kind_of_end(run.work), DEADLINE_SECONDS)
    _tell(run)
    run.watch.enter(Phase.OPEN)
    if run.watch.is_stopping:
        raise run.watch.terminated("asked to end after the last step")

    scores = score_texts(run.trainee, run.texts, run.work.sequence_length, run.process)
    last = run.past.get(segment.last_step)
    if not all(is_finite(scored) for scored in scores.values()) or (last and last.loss is None):
        _give_up(run, segment.last_step, "its end gives no finite loss")
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
        commit_result(trial, outputs=tuple(outputs), held_out=tuple(found), checkpoint=reference, **_figures(run))

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
    run.telemetry.committed = run.checkpointer.statistics()
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
