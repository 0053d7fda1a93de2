"""How many sequences a forward pass takes, when nobody knows what fits: start large, and halve at a new attempt.

    attempt 1 of 16 sequences     out of memory on rank 3: micro-batch-8.json, exit 212
    attempt 2 of 8                fits

Trying again in place would leave the other ranks inside a collective; a marker in the store reaches all ranks of the
next attempt. The result is the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cpt_trainer.errors import DoesNotFit, HalveMicroBatch
from cpt_trainer.trial import Trial

_PASS_TOKENS = 16384
"""Of a first try."""
_PREFIX = "micro-batch-"


def micro_batch(trial: Trial, share: int, sequence_tokens: int) -> int:
    """Rows of a pass: the smallest that an attempt before this one asked for, else a first try."""
    prefix = trial.data + _PREFIX
    asked = [int(entry.key.removeprefix(prefix).removesuffix(".json")) for entry in trial.store.list(prefix)]
    return min([max(1, min(share, _PASS_TOKENS // sequence_tokens)), *asked])


@contextmanager
def halving(trial: Trial, rows: int) -> Iterator[None]:
    """When memory is over inside, ask for half the rows."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        if rows == 1:
            raise DoesNotFit(f"not even one sequence fits into memory: {error}") from error
        trial.store.put_if_absent(f"{trial.data}{_PREFIX}{rows // 2}.json", b"{}")
        raise HalveMicroBatch(f"{rows} sequences do not fit into memory, {rows // 2} come next: {error}") from error


def _is_out_of_memory(error: Exception) -> bool:
    # the CPU's allocator has no type of error of its own
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)
