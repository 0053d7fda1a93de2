"""The last words of a process: one JSON line with reason and message, to people and to the operator.

    {"reason": "Hang", "message": "no step for 312 s, …", "committedStep": 1200}

It goes to stderr and to the pod's termination message. Of several processes in a pod the first that fails knows best:
the others only saw it go.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from cpt_trainer.errors import TrainerExit

_TERMINATION_LOG = Path("/dev/termination-log")
_MESSAGE_CHARACTERS = 1000
"""Kubernetes keeps 4096 bytes."""


def last_words(error: TrainerExit) -> int:
    """Say why, and return the exit code."""
    words: dict[str, Any] = {"reason": error.reason, "message": str(error)[:_MESSAGE_CHARACTERS]}
    if error.committed_step is not None:
        words["committedStep"] = error.committed_step
    line = json.dumps(words, ensure_ascii=False)
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
    with contextlib.suppress(OSError):  # by hand there is no such file, and stderr has said it
        if _TERMINATION_LOG.stat().st_size == 0:
            _TERMINATION_LOG.write_text(line)
    return error.code
