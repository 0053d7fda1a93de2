"""Uploads staged files from a process of its own, so that training goes on and a stuck upload can be killed.

The child (`python -m cpt_trainer.flush`) imports neither torch nor the model: it starts in half a second, takes one
line of JSON per save from its stdin, and answers with one line. Tensors do not travel: they lie in anonymous memory
files (memfd) of the parent, which the child opens as `/proc/<parent>/fd/<n>`; unlike /dev/shm those have no limit but
the pod's memory.

    -> {"uploads": [["data/…/rank-00000-weights.safetensors", "/proc/77/fd/9"]]}
    <- {"hashes": [["5f70bf18…", "9c1185a5…"]]}     or     {"error": "PUT s3://…: …"}

Price: one Python process per rank (about 60 MB), kept between saves; it ends when its parent does.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from cpt_trainer.errors import StorageError, TrainerExit
from cpt_trainer.store import Address, Store, open_address

Upload = tuple[str, Path]
"""Key, and the file whose bytes go there."""
Hashes = list[str]
"""SHA-256 of each block of one file."""
Flush = Callable[[Sequence[Upload], float], list[Hashes]]
"""Upload all within that many seconds, or raise StorageError."""


def block_hashes(path: Path, block_bytes: int) -> Hashes:
    """SHA-256 of each run of `block_bytes`."""
    with path.open("rb") as file:
        return [hashlib.sha256(block).hexdigest() for block in iter(lambda: file.read(block_bytes), b"")]


def upload(store: Store, uploads: Sequence[Upload], block_bytes: int) -> list[Hashes]:
    """Hash and put each file."""
    hashes = []
    for key, path in uploads:
        hashes.append(block_hashes(path, block_bytes))
        store.put_file(key, path)
    return hashes


class Flusher:
    """The parent's side. Not for several threads at once."""

    def __init__(self, address: Address, block_bytes: int) -> None:
        self._command = [sys.executable, "-m", "cpt_trainer.flush", address.uri, f"--block-bytes={block_bytes}"]
        if address.endpoint is not None:
            self._command.append(f"--endpoint={address.endpoint}")
        if not address.path_style:
            self._command.append("--virtual-style")
        self._child: subprocess.Popen[str] | None = None  # started by the first save, and again after a kill

    def __call__(self, uploads: Sequence[Upload], seconds: float) -> list[Hashes]:
        """Upload all; at the deadline the child is killed."""
        keys = ", ".join(key for key, _ in uploads)
        line = self._ask(json.dumps({"uploads": [[key, str(path)] for key, path in uploads]}), seconds)
        if line is None:
            self.close()
            raise StorageError(f"uploading {keys} was not done within {seconds:.0f} s, and was stopped")
        if not line.endswith("\n"):
            self.close()
            raise StorageError(f"the process that was uploading {keys} has died")
        answer = json.loads(line)
        if "error" in answer:
            raise StorageError(answer["error"])
        hashes: list[Hashes] = answer["hashes"]
        return hashes

    def close(self) -> None:
        """Kill the child."""
        if self._child is not None:
            child, self._child = self._child, None
            child.kill()
            with child:  # reaps it and closes its pipes
                pass

    def _ask(self, line: str, seconds: float) -> str | None:
        """The child's answer, whole or cut short by its death; None when the time is over."""
        if self._child is None:
            # in a session of its own, a Ctrl-C at the terminal does not cut the last save short
            self._child = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
            )
        assert self._child.stdin and self._child.stdout
        end = time.monotonic() + seconds
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.write(line + "\n")
            self._child.stdin.flush()
        ready, _, _ = select.select([self._child.stdout], [], [], max(0.0, end - time.monotonic()))
        return self._child.stdout.readline() if ready else None


def serve(store: Store, block_bytes: int, requests: TextIO, answers: TextIO) -> None:
    """The child's side: until the parent closes the pipe."""
    for line in requests:
        try:
            uploads = [(key, Path(path)) for key, path in json.loads(line)["uploads"]]
            answer: dict[str, object] = {"hashes": upload(store, uploads, block_bytes)}
        except (TrainerExit, OSError) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    """Entry of the child."""
    parser = argparse.ArgumentParser(description="uploads files for a training process")
    parser.add_argument("uri")
    parser.add_argument("--endpoint")
    parser.add_argument("--virtual-style", action="store_true")
    parser.add_argument("--block-bytes", type=int, required=True)
    options = parser.parse_args()
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # logs of libraries must not mix with answers
        store = open_address(Address(options.uri, options.endpoint, path_style=not options.virtual_style))
        with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
            serve(store, options.block_bytes, sys.stdin, answers)


if __name__ == "__main__":
    main()
