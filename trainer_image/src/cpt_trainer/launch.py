"""Starts the processes of one pod, and ends as the first of them that failed.

Stock torchrun turns every exit code into 1; ours keeps it, since the operator acts on codes. Everything else is
torchrun's: PET_NPROC_PER_NODE, PET_NNODES, PET_NODE_RANK, MASTER_ADDR and MASTER_PORT mean what they mean there, and
without an address (by hand) the processes of this machine find a port of their own.

    launch(["python3", "-m", "cpt_trainer", "train", …])       TrainerExit of code 143 when a process ended with 143

SIGTERM is passed on to all processes, which then have SHUTDOWN_SECONDS to save. There are no restarts in a pod:
attempts are the operator's, which counts and records them.

Price: one more Python process per pod, with torch imported (2 s, 200 MB).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import elastic_launch
from torch.distributed.run import config_from_args, get_args_parser

from cpt_api.exits import ExitCode
from cpt_trainer.errors import TrainerExit

SHUTDOWN_SECONDS = 170
"""From SIGTERM to SIGKILL: a pod's grace is 180 s."""


class ProcessEnded(TrainerExit):
    """A process of this pod ended with `code`; its own last words say why."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = ExitCode(code) if code in set(ExitCode) else ExitCode.UNCLASSIFIED  # type: ignore[misc]


def launch(command: Sequence[str]) -> None:
    """Run `command` once for each process; returns when all ended with 0."""
    options = get_args_parser().parse_args([*_meeting_point(os.environ), "--no-python", *command])
    options.shutdown_timeout = SHUTDOWN_SECONDS
    config, program, arguments = config_from_args(options)
    try:
        elastic_launch(config, program)(*arguments)
    except SignalException as error:
        code = 128 + error.sigval
        raise ProcessEnded(code, f"terminated by {signal.Signals(error.sigval).name}") from error
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode
        raise ProcessEnded(code, f"the process of rank {rank} ended with {code}") from error


def _meeting_point(environment: Mapping[str, str]) -> list[str]:
    """Where all processes meet: the address that the training operator gives, else a free port of this machine."""
    if "MASTER_ADDR" in environment:
        return [f"--master-addr={environment['MASTER_ADDR']}", f"--master-port={environment['MASTER_PORT']}"]
    return ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
