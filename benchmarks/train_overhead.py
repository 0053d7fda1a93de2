"""What the training loop costs: tokens per CPU second against Hugging Face's Trainer and against a bare loop.

    make bench NAME=train_overhead

One model (the demo's Llama with a vocabulary of 8,192: 1.9M parameters), one batch (8 sequences of 256), one thread,
fp32. All three read the same sequences in the same order from the same weights, with the same optimizer and rates, and
must end with the same mean loss. All three run at the same time on one CPU, so that a busy machine disturbs all alike;
each makes FEW and then MANY steps, and the difference is the loop without imports, start, checkpoint and export:

    tokens per CPU second = (MANY - FEW) · 2,048 / (CPU seconds of MANY - CPU seconds of FEW)

Two goals: the ratio to the Trainer, and above it that to the bare loop, which does nothing but what every training
must, with torch's own loss. On a model this small the loop and the loss show; with 1,024 words the Trainer is 1.05
times slower than ours, and on a large model with few words all three are the same.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from benchmarks.corpus import NAMESPACE, Bench, corpus, data_of
from benchmarks.outcome import Outcome, measured, spread, together

from cpt_api.layout import result_key
from cpt_api.result import Result
from cpt_api.trial import CPTTrialSpec
from cpt_api.values import Digest, Tokens
from cpt_trainer.batches import Reader, open_datasets
from cpt_trainer.dataset import Prepared
from cpt_trainer.schedule import learning_rate
from cpt_trainer.segment import Segment

PEER = ()
"""transformers and torch are ours too: the same versions on both sides."""
VOCABULARY = 8192
LENGTH, BATCH = 256, 8
FEW, MANY = 5, 45
ROUNDS = 3
NAMES = ("ours", "hf_trainer", "bare_loop")
GOAL = 1.1
BARE_GOAL = 0.97
SAME_LOSS = 1e-4
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def run(folder: Path, peer: Path) -> Outcome:
    """Some rounds; ratios are medians of the rounds' ratios."""
    shutil.rmtree(folder / "store", ignore_errors=True)
    bench = Bench(corpus(folder / "corpus", VOCABULARY), folder / "store")
    data = bench.run("prepare", bench.prepare_spec())
    _write_samples(bench, data, folder)
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cpus)})  # programs that are started inherit it
    speeds: dict[str, list[float]] = {name: [] for name in NAMES}
    for number in range(ROUNDS):
        few, many = (_together(bench, data, peer, folder, steps) for steps in (FEW, MANY))
        for name, values in speeds.items():
            values.append((MANY - FEW) * LENGTH * BATCH / (many[name] - few[name]))
        print(f"round {number + 1}: " + ", ".join(f"{name} {values[-1]:,.0f}" for name, values in speeds.items()))
    os.sched_setaffinity(0, cpus)
    ratios = {name: _ratio(speeds["ours"], values) for name, values in speeds.items()}
    unit = "tokens per CPU second"
    print(f"bare loop: ours={spread(speeds['ours'])} {unit} bare={spread(speeds['bare_loop'])} {unit} "
          f"ratio={ratios['bare_loop']:.3f} goal=≥ {BARE_GOAL}")  # fmt: skip
    return Outcome(
        f"{spread(speeds['ours'])} {unit}", f"{spread(speeds['hf_trainer'])} {unit}", ratios["hf_trainer"], f"≥ {GOAL}x"
    )


def _together(bench: Bench, data: Digest, peer: Path, folder: Path, steps: int) -> dict[str, float]:
    """CPU seconds of each, for so many steps."""
    digest, ours = bench.command(f"train-{steps}", _spec(bench, data, steps))
    shutil.rmtree(bench.folder / data_of(digest), ignore_errors=True)
    (bench.folder / result_key(NAMESPACE, digest)).unlink(missing_ok=True)
    theirs: list[list[str | Path]] = [
        [peer, "-m", f"benchmarks.peers.{name}", folder, str(steps)] for name in NAMES[1:]
    ]
    runs = dict(zip(NAMES, together([ours, *theirs], bench.environment | ENVIRONMENT), strict=True))
    losses = {name: run.answer["meanLoss"] for name, run in runs.items() if name in NAMES[1:]}
    _require_same(losses | {"ours": _mean_loss(bench, digest)})
    return {name: run.cpu_seconds for name, run in runs.items()}


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return median(a / b for a, b in zip(ours, theirs, strict=True))


def _require_same(losses: dict[str, float]) -> None:
    want = losses["ours"]
    if any(not math.isclose(loss, want, rel_tol=SAME_LOSS) for loss in losses.values()):
        sys.exit(f"mean losses differ: {losses}; they did not train the same thing, and the comparison is void")


def _spec(bench: Bench, data: Digest, steps: int) -> dict[str, Any]:
    """A run from random weights; documents see each other, since the peers have no masks."""
    work = {
        "start": {"random": {"config": bench.source("model"), "seed": 1}},
        "stopTokens": str(steps * LENGTH * BATCH),
        "phases": [{"mixture": [{"dataset": {"digest": data}, "weight": "1"}]}],
        "schedule": {"peakLearningRate": "1e-3", "warmupTokens": str(FEW * LENGTH * BATCH)},
        "sequenceLength": LENGTH,
        "globalBatchSize": BATCH,
        "precision": "Float32",
        "documentMask": "Disabled",
    }
    return {"type": "Train", "train": work}


def _mean_loss(bench: Bench, digest: Digest) -> float:
    result = Result.model_validate_json(bench.store.get(result_key(NAMESPACE, digest)))
    return result.numbers["meanLoss"]


def _write_samples(bench: Bench, data: Digest, folder: Path) -> None:
    """For the peers: what ours reads in each step, at which rate, and from which weights."""
    work = CPTTrialSpec.model_validate(_spec(bench, data, MANY)).train
    assert work is not None
    datasets = {data: Prepared.open(bench.store, data_of(data))}
    order = Segment.of(work, open_datasets(datasets, LENGTH)).order
    reader = Reader(datasets, LENGTH)
    rows = [reader.read(place) for step in range(MANY) for place in order.batch_places(step, 0, BATCH)]
    np.save(folder / "rows.npy", np.stack(rows))
    tokens = Tokens(LENGTH * BATCH)
    rates = [learning_rate(work.schedule, step * tokens, (step + 1) * tokens) for step in range(MANY)]
    np.save(folder / "rates.npy", np.array(rates))
    measured([sys.executable, "-m", "benchmarks.peers.first_weights", folder, str(1)], {})
