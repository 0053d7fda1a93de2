"""How a trial's process ends, and what the operator makes of it (design of the trainer, "Ends")."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """Exit codes of `cpt-trainer`; each is also the code of the pod."""

    COMMITTED = 0
    """`result.json` is committed."""
    UNCLASSIFIED = 1
    """An unexpected exception: a few retries."""
    CONFIG = 3
    """The trial's spec cannot be carried out as written."""
    DATA = 4
    """Data or a digest differ from what the trial names."""
    DIVERGED = 5
    """Training diverged, and `result.json` says so."""
    DOES_NOT_FIT = 6
    """Not even one sequence fits into memory."""
    HANG = 210
    """No step for a long time, or communication failed."""
    STORAGE = 211
    """The store could not be read or written until the deadline."""
    HALVE_MICRO_BATCH = 212
    """Out of memory; half the micro-batch was asked for."""
    KILLED = 137
    SEGMENTATION_FAULT = 139
    TERMINATED = 143
    """Terminated on request; the committed step stands in the message."""


class Ending(StrEnum):
    """What an exit code means for the next attempt."""

    SUCCESS = "Success"
    DIVERGED = "Diverged"
    PERMANENT = "Permanent"
    COUNTED = "Counted"
    """Retried, and counted against `maxRetries`."""
    FREE = "Free"
    """Retried, not counted (bounded by three without progress)."""


def ending(code: int) -> Ending:
    """The table of the trainer's exit codes as a function."""
    match code:
        case ExitCode.COMMITTED:
            return Ending.SUCCESS
        case ExitCode.DIVERGED:
            return Ending.DIVERGED
        case ExitCode.CONFIG | ExitCode.DATA | ExitCode.DOES_NOT_FIT:
            return Ending.PERMANENT
        case ExitCode.HALVE_MICRO_BATCH | ExitCode.TERMINATED:
            return Ending.FREE
        case _:
            return Ending.COUNTED
