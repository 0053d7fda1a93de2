"""`merge`: the weighted mean of models, from the store to the store, without torch and without a model in memory.

    headers  ->  do they belong together?  ->  shards, one after another  ->  index  ->  result.json
                                               read, averaged, uploaded, read back

The output is a model in Hugging Face layout below export/, as a Train trial's is. A shard that is there is not made
again, so a killed attempt costs at most one; a model without its index is none.

Price: every input is read once, and so is the output; 200 MB of memory, and 32 MB for each checkpoint after the second.
"""

from __future__ import annotations

import ctypes
import math
import time

import structlog

from cpt_api.layout import EXPORT
from cpt_trainer.base import keep_files
from cpt_trainer.merge.inputs import open_merge, require_unchanged
from cpt_trainer.merge.write import SHARD_BYTES, write_index, write_shards
from cpt_trainer.trial import Trial, commit_result

log = structlog.get_logger()

_M_MMAP_THRESHOLD = -3  # mallopt(3)
_LARGE_BYTES = 8 * 1024 * 1024


def run(trial: Trial, shard_bytes: int = SHARD_BYTES) -> None:
    """Write, verify, commit."""
    started = time.monotonic()
    _free_at_once()
    work = trial.spec.merge
    assert work is not None, "main has seen the type"
    merge = open_merge(trial, work)
    tensors = merge.blend.tensors
    log.info("merges", inputs=len(work.inputs), tensors=len(tensors))
    files = keep_files(trial, EXPORT, merge.files)
    shards = write_shards(trial, merge.blend, shard_bytes)
    require_unchanged(trial, work)
    index = write_index(trial, merge.blend, shards)
    seconds = time.monotonic() - started
    written = sum(shard.output.bytes for shard in shards)
    log.info("merged", key=trial.data + EXPORT, bytes=written, seconds=seconds)
    commit_result(
        trial,
        outputs=(*files, *(shard.output for shard in shards), index),
        origin=merge.origin,
        numbers={
            "inputs": len(work.inputs),
            "tensors": len(tensors),
            "parameters": sum(math.prod(info.shape) for info in tensors.values()),
            "weightBytes": written,
            "attemptSeconds": seconds,
        },
    )


def _free_at_once() -> None:
    """Large blocks go back to the system when they are freed: glibc would keep them, with holes of 40 MB between."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
