"""Tokenising: MB of text per second against llm-foundry's converter, on the same text with the same tokenizer.

    make bench NAME=prepare

Ours is timed as a user waits: the whole process, start and result included, as many worker processes as there are
CPUs. The peer is timed without its imports; its converter has no option for more than one process. Documents must come
out with the same token ids. Ours are shuffled and the peer drops the last incomplete sample, so what is compared is the
set of whole documents. CPU seconds are printed too: they say how much of the gain is parallelism.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from benchmarks.corpus import END, Bench, Corpus, corpus, data_of
from benchmarks.outcome import Outcome, measured, spread

from cpt_trainer.dataset import Prepared

PEER = ("llm-foundry==0.22.0",)
VOCABULARY = 32_000
ROUNDS = 3
GOAL = 5.0
SAMPLE_TOKENS = 2048


def run(folder: Path, peer: Path) -> Outcome:
    """Both in turn, some rounds; the ratio is the median of the rounds' ratios."""
    texts = corpus(folder / "corpus", VOCABULARY)
    megabytes = texts.source_bytes / 1e6
    ours, theirs = [], []
    for number in range(ROUNDS):
        ours.append(megabytes / _ours(texts, folder / "ours"))
        theirs.append(megabytes / _theirs(texts, folder / "peer", peer))
        print(f"round {number + 1}: ours {ours[-1]:.2f} MB/s, peer {theirs[-1]:.2f} MB/s")
    _compare(texts, folder)
    ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
    return Outcome(f"{spread(ours)} MB/s", f"{spread(theirs)} MB/s", ratio, f"≥ {GOAL:.0f}x")


def _ours(texts: Corpus, folder: Path) -> float:
    """Seconds."""
    shutil.rmtree(folder, ignore_errors=True)
    bench = Bench(texts, folder)
    _, command = bench.command("prepare", bench.prepare_spec())
    begin = time.perf_counter()
    done = measured(command, bench.environment)
    seconds = time.perf_counter() - begin
    print(f"  ours: {seconds:.1f} s, {done.cpu_seconds:.1f} CPU s")
    return seconds


def _theirs(texts: Corpus, folder: Path, python: Path) -> float:
    """Seconds."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    # an empty cache: text is converted once
    environment = {"HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    answer = measured(
        [python, "-m", "benchmarks.peers.llm_foundry", texts.texts, texts.model, folder, END], environment
    ).answer
    print(f"  peer: {answer['seconds']:.1f} s, {answer['cpuSeconds']:.1f} CPU s")
    return float(answer["seconds"])


def _compare(texts: Corpus, folder: Path) -> None:
    """The same documents, but for those that the peer's dropped tail holds."""
    bench = Bench(texts, folder / "ours")
    digest, _ = bench.command("prepare", bench.prepare_spec())
    dataset = Prepared.open(bench.store, data_of(digest))
    ours = np.asarray(dataset.read(0, dataset.tokens))
    theirs = np.fromfile(folder / "peer" / "tokens.bin", "<i4")
    missing = _documents(theirs, dataset.eos) - _documents(ours, dataset.eos)
    tail_tokens = len(ours) - len(theirs)
    if missing or not 0 <= tail_tokens < SAMPLE_TOKENS:
        sys.exit(
            f"{missing.total()} documents of the peer are not ours, and ours has {tail_tokens} tokens more than the "
            f"peer (0 to {SAMPLE_TOKENS - 1} are dropped by it): the comparison is void"
        )
    print(f"same token ids: {len(ours):,d} tokens, {dataset.manifest.documents:,d} documents")


def _documents(tokens: npt.NDArray[Any], eos: int) -> Counter[bytes]:
    """Whole documents by the hash of their tokens."""
    ends = np.flatnonzero(tokens == eos)
    starts = np.concatenate([[0], ends[:-1] + 1])
    whole = tokens.astype("<i4")
    return Counter(sha256(whole[a:b].tobytes()).digest() for a, b in zip(starts, ends, strict=True))
