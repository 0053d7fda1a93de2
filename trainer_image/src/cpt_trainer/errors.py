"""How a verb can end early. Each leaf below `TrainerExit` is one exit code of the table in `cpt_api.exits`.

    TrainerExit
    ├── ConfigError              3    the trial cannot be carried out as written
    ├── DataError                4    data or a digest differ from what the trial names
    │   ├── MissingError              a key that should be there is not
    │   ├── DamagedError              bytes in the store are not those that were written
    │   └── SourceChangedError        external files are no longer those that Preflight saw
    ├── Diverged                 5    training diverged; result.json says so
    ├── DoesNotFit               6    not even one sequence fits into memory
    ├── Terminated             143    terminated on request
    ├── Hang                   210    no step for a long time, or communication failed
    ├── StorageError           211    the store could not be read or written
    │   ├── RefusedError              it answers, and refuses the credentials
    │   └── UnreachableError          it gave no good answer until the deadline
    └── HalveMicroBatch        212    out of memory; half the micro-batch was asked for

The message goes to the pod's termination message: what was found, what was expected, what to do. Beside it goes the
`Reason` that the operator shows.
"""

from __future__ import annotations

from typing import ClassVar

from cpt_api.conditions import Reason
from cpt_api.exits import ExitCode


class TrainerExit(Exception):  # noqa: N818 - some of these are ends, not errors
    """Ends the process with `code`."""

    code: ClassVar[ExitCode] = ExitCode.UNCLASSIFIED
    reason: ClassVar[Reason] = Reason.EXITED

    def __init__(self, message: str, *, committed_step: int | None = None) -> None:
        super().__init__(message)
        self.committed_step = committed_step
        """The last step in a checkpoint, where one is known."""


class ConfigError(TrainerExit):
    """The trial cannot be carried out as written."""

    code = ExitCode.CONFIG
    reason = Reason.CONFIG_ERROR


class DataError(TrainerExit):
    """Data or a digest differ from what the trial names."""

    code = ExitCode.DATA
    reason = Reason.DATA_ERROR


class MissingError(DataError):
    """A key that should be there is not."""


class DamagedError(DataError):
    """Bytes in the store are not those that were written."""


class SourceChangedError(DataError):
    """External files are no longer those that Preflight saw."""

    reason = Reason.SOURCE_CHANGED


class Diverged(TrainerExit):
    """Training diverged, and `result.json` says so."""

    code = ExitCode.DIVERGED
    reason = Reason.DIVERGED


class DoesNotFit(TrainerExit):
    """Not even one sequence fits into memory."""

    code = ExitCode.DOES_NOT_FIT
    reason = Reason.DOES_NOT_FIT


class Terminated(TrainerExit):
    """Terminated on request; the committed step stands in the message."""

    code = ExitCode.TERMINATED
    reason = Reason.TERMINATED


class Hang(TrainerExit):
    """No step for a long time, or communication failed."""

    code = ExitCode.HANG
    reason = Reason.HANG


class StorageError(TrainerExit):
    """The store could not be read or written."""

    code = ExitCode.STORAGE
    reason = Reason.STORAGE_ERROR


class RefusedError(StorageError):
    """The store answers, and refuses the credentials."""


class UnreachableError(StorageError):
    """The store gave no good answer until the deadline."""


class HalveMicroBatch(TrainerExit):
    """Out of memory; half the micro-batch was asked for."""

    code = ExitCode.HALVE_MICRO_BATCH
    reason = Reason.OUT_OF_MEMORY
