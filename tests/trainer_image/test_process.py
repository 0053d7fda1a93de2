"""This process among others: what it asks of the machine."""

from __future__ import annotations

import subprocess
import sys

import pytest

MEASURE = """
import resource
import torch
from cpt_api.trial import Resources
from cpt_trainer.process import join

join(Resources())
[torch.ones(2**20) for _ in range(16)]  # 64 MB, freed at once
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
[torch.ones(2**20) for _ in range(16)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.processes
def test_freed_memory_is_used_again() -> None:
    """Tensors take the place of those that were freed: their 16,384 pages are not fetched from the kernel anew."""
    done = subprocess.run([sys.executable, "-c", MEASURE], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 2048  # one of them may lie elsewhere
