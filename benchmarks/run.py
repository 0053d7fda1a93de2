"""One benchmark against its peer, measured in one run on this machine.

    make bench NAME=prepare

A benchmark is a module here with `PEER`, the packages of the peer, and `run(folder, peer)`. A peer that needs other
packages than ours gets a virtual environment of its own, made once under .local/bench; nothing of it reaches ours.
The last line is `NAME: ours=… peer=… ratio=… goal=…`; a goal that was missed is said, and is no failure: figures of a
busy machine prove nothing.
"""

from __future__ import annotations

import importlib
import io
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from benchmarks.outcome import ROOT

NAMES = (
    *("eval_cloze", "eval_merge_sweep", "eval_mmlu", "eval_tokens", "expand", "merge", "plan", "prepare", "regmix"),
    *("tokens_to_decision", "train_overhead"),
)
FOLDER = ROOT / ".local" / "bench"


def main(arguments: Sequence[str]) -> None:
    """Run the benchmark that the command line names."""
    if len(arguments) != 1 or arguments[0] not in NAMES:
        sys.exit(f"which benchmark? make bench NAME=…, one of: {', '.join(NAMES)}")
    (name,) = arguments
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(line_buffering=True)  # rounds take minutes, also when somebody keeps them in a file
    benchmark = importlib.import_module(f"benchmarks.{name}")
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    print(benchmark.run(folder, peer_python(name, benchmark.PEER)).line(name))


def peer_python(name: str, packages: Sequence[str]) -> Path:
    """The interpreter that has the peer: ours, where the peer is made of packages that we have anyway."""
    if not packages:
        return Path(sys.executable)
    folder = FOLDER / f"{name}-venv"
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists() or complete.read_text() != " ".join(packages):
        print(f"installing {', '.join(packages)} into {folder.relative_to(ROOT)} (once)", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        complete.write_text(" ".join(packages))
    return python


if __name__ == "__main__":
    main(sys.argv[1:])
