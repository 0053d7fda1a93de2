"""What a benchmark says at its end, and how it measures another program.

expand: ours=4.1 s peer=9.8 s ratio=2.39 goal=≤ 20 s
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO, Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The last line."""

    ours: str
    """With its unit."""
    peer: str
    """In the same unit."""
    ratio: float
    """Of speeds ours to the peer's, above 1 we are better; of memory the same, below 1 we are better."""
    goal: str
    """What the ratio, or ours, shall be."""

    def line(self, name: str) -> str:
        """For people and programs."""
        return f"{name}: ours={self.ours} peer={self.peer} ratio={self.ratio:.2f} goal={self.goal}"


@dataclass(frozen=True, slots=True)
class Run:
    """Another program has run."""

    answer: Mapping[str, Any]
    """The JSON object on its last line; empty when it printed nothing."""
    cpu_seconds: float
    """User and system, its children included."""
    peak_bytes: int
    """Resident, of the largest of its processes. What this process ever had is counted in: keep that small."""


def measured(command: Sequence[str | Path], environment: Mapping[str, str]) -> Run:
    """Run a program of one of the benchmarks. It ends the benchmark when it fails."""
    return together([command], environment)[0]


def together(commands: Sequence[Sequence[str | Path]], environment: Mapping[str, str]) -> list[Run]:
    """Run programs at the same time: whatever else the machine does, it does to all of them."""
    with ExitStack() as files:
        started = []
        for command in commands:
            words = [str(part) for part in command]
            output, errors = (files.enter_context(tempfile.TemporaryFile()) for _ in range(2))
            process = subprocess.Popen(words, stdout=output, stderr=errors, cwd=ROOT, env={**os.environ, **environment})
            started.append((words, process, output, errors))
        return [_ended(*one) for one in started]


def _ended(words: Sequence[str], process: subprocess.Popen[bytes], output: IO[bytes], errors: IO[bytes]) -> Run:
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    lines = _lines(output)
    if process.returncode:
        sys.exit("\n".join([*lines, *_lines(errors)][-40:]) + f"\n{' '.join(words)}: exit {process.returncode}")
    answer = json.loads(lines[-1]) if lines else {}
    return Run(answer, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _lines(file: IO[bytes]) -> list[str]:
    file.seek(0)
    return file.read().decode(errors="replace").splitlines()


def spread(values: Sequence[float]) -> str:
    """The median, and how far the others are from it."""
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})"
