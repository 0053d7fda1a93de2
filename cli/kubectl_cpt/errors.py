"""How a command ends. Each leaf below `CliError` is one exit code; the message says what to do.

    CliError                   1    it failed, or it can never succeed
    ├── ManifestError          3    a manifest cannot be carried out as written
    ├── TooExpensive           4    more than --fail-over-cost
    ├── Busy                   5    another run holds the store
    ├── TimedOut               6    not within --timeout
    ├── NotConfirmed           7    a decision is not what its tables say, or they no longer tell
    └── Interrupted          130    Ctrl-C; what was committed stays

Codes 0 (it succeeded) and 2 (wrong options) are as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import ClassVar


class Exit(IntEnum):
    """Exit codes of `kubectl cpt`."""

    SUCCESS = 0
    FAILED = 1
    USAGE = 2
    MANIFEST = 3
    TOO_EXPENSIVE = 4
    BUSY = 5
    TIMED_OUT = 6
    NOT_CONFIRMED = 7
    INTERRUPTED = 130


class CliError(Exception):
    """Ends the command with `code`."""

    code: ClassVar[Exit] = Exit.FAILED


class ManifestError(CliError):
    """A manifest cannot be carried out as written."""

    code = Exit.MANIFEST

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class TooExpensive(CliError):  # noqa: N818 - an answer rather than an error
    """More than --fail-over-cost."""

    code = Exit.TOO_EXPENSIVE


class Busy(CliError):  # noqa: N818 - as above
    """Another run holds the store."""

    code = Exit.BUSY


class TimedOut(CliError):  # noqa: N818 - as above
    """Not within --timeout."""

    code = Exit.TIMED_OUT


class NotConfirmed(CliError):  # noqa: N818 - as above
    """A decision is not what its tables say, or they no longer tell."""

    code = Exit.NOT_CONFIRMED


class Interrupted(CliError):  # noqa: N818 - as above
    """Ended by the user."""

    code = Exit.INTERRUPTED
