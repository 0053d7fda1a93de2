"""Everything that a training loop works with, opened in one visible order; `train.py` does the rest.

    files -> configuration -> datasets -> order -> model, sharded, still without weights -> optimizer -> checkpoints

What is wrong with a spec or with data is found here, before anything is computed.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cpt_api.trial import Observe, TrainWork
from cpt_trainer.base import Files, model_files, require_tokenizer
from cpt_trainer.batches import Cut, Reader, open_datasets
from cpt_trainer.checkpoint import Checkpointer, Writer
from cpt_trainer.flops import Cost, cost_of
from cpt_trainer.flush import Flusher
from cpt_trainer.heldout import Texts, open_prepared
from cpt_trainer.manifest import BLOCK_BYTES
from cpt_trainer.memory import micro_batch
from cpt_trainer.model import Trainee, make, read_config
from cpt_trainer.parallel import parallelise, reshard
from cpt_trainer.peers import lead
from cpt_trainer.process import Process, join
from cpt_trainer.segment import Segment
from cpt_trainer.state import State, state_of
from cpt_trainer.telemetry import Past, Telemetry
from cpt_trainer.trial import Trial
from cpt_trainer.update import Update
from cpt_trainer.watch import Watch

if TYPE_CHECKING:
    from cpt_trainer.curves import Curves

CHECKPOINTS = "checkpoints/"
"""Below a trial's data prefix."""
INTERVAL_SECONDS = 600.0
"""Between periodic checkpoints: with a machine lost every 6 hours and 5 s of staging, Young's rule gives 8 minutes."""


@dataclass(slots=True)
class Run:
    """What the loop works with; made once by `open_run`."""

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
    curves: Curves | None
    past: dict[int, Past] = field(default_factory=dict)
    """Steps of this trial, also of attempts before this one."""
    started: float = field(default_factory=time.monotonic)
    trained_seconds: float = 0.0
    trained_steps: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which writes."""
        return self.process.rank == 0

    def state(self) -> State:
        """What this rank has to save."""
        reshard(self.trainee)
        return state_of(self.trainee.lm, self.update.optimizer, self.process.rank)


def open_run(trial: Trial, watch: Watch, closing: ExitStack) -> Run:
    """Everything, with weights of no meaning yet."""
    work = trial.spec.train
    assert work is not None
    observe = trial.spec.run.observe or Observe()
    process = join(trial.spec.run.resources)
    files = lead(process.peers, lambda: model_files(trial, work.start))
    config = read_config(files)
    trained_on = open_prepared(trial, (part.dataset for phase in work.phases for part in phase.mixture))
    scored_on = open_prepared(trial, observe.held_out)
    require_tokenizer(files, trained_on | scored_on, config.vocab_size)
    segment = Segment.of(work, open_datasets(trained_on, work.sequence_length))
    share = -(-work.global_batch_size // process.size)
    rows = lead(process.peers, lambda: micro_batch(trial, share, work.sequence_length))
    trainee = Trainee(make(config, process.device))
    parallelise(trainee, config, process, work.precision)
    curves = _curves(trial, observe, files, trainee, process)
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
        curves=curves,
    )


def _curves(trial: Trial, observe: Observe, files: Files, trainee: Trainee, process: Process) -> Curves | None:
    """Few runs have some: what asks is loaded for those alone."""
    if not observe.suites:
        return None
    from cpt_trainer.curves import open_curves

    assert trial.spec.train is not None
    return open_curves(trial, observe.suites, files, trainee, process, trial.spec.train.precision)
