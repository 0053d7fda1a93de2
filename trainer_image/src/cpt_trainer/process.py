"""This process among the processes of a run: rank, device, threads, and the one reduction of a step.

    process = join(resources)          alone: nothing is opened, no port, no group
    process.sum([1.5, 16.0])           the sum over all ranks, on all ranks

Several processes meet at MASTER_ADDR with the ranks that the launcher or the training operator gave them; which
device is whose is accelerate's business. Collectives of training use the default group (gloo on CPU, NCCL on GPUs with
gloo beside it); checkpoints have a group of their own (peers.py).

Price: alone nothing; else a second to meet, and a millisecond for each sum.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from cpt_api.trial import Resources
from cpt_trainer.errors import Hang
from cpt_trainer.peers import Alone, GlooPeers, Peers
from cpt_trainer.store import DEADLINE_SECONDS

TIMEOUT_SECONDS = DEADLINE_SECONDS + 300
"""Of one collective: longer than a peer may ride out an outage of the store. A hang is the watchdog's to find."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
_KEPT_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class Process:
    """One of `size`."""

    rank: int
    size: int
    device: torch.device
    threads: int
    """Of torch; sums of floats depend on it."""
    peers: Peers
    """For small values beside training."""

    @property
    def gpus(self) -> int:
        """Of all ranks."""
        return self.size if self.device.type == "cuda" else 0

    @property
    def device_name(self) -> str:
        """As its maker calls it."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"

    def mesh(self) -> DeviceMesh:
        """All ranks in a row."""
        if not dist.is_initialized():  # one rank that shards, for the sake of its precision
            store = dist.HashStore()  # type: ignore[attr-defined]
            dist.init_process_group(_backend(), store=store, rank=0, world_size=1)
        return init_device_mesh(self.device.type, (self.size,))

    def leave(self) -> None:
        """The run is over."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def sum(self, values: Sequence[float]) -> list[float]:
        """Over all ranks, in fp64, the same bits on all."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        try:
            dist.all_reduce(total)
        except RuntimeError as error:
            raise Hang(f"the ranks could not add up a step, one of them may have died: {error}") from error
        summed: list[float] = total.tolist()
        return summed


def join(resources: Resources) -> Process:
    """Meet the other processes, if there are any."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    threads = threads_for(resources, "OMP_NUM_THREADS" in os.environ) or torch.get_num_threads()
    if not torch.cuda.is_available():
        _keep_freed_memory()
    if size == 1:
        torch.set_num_threads(threads)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return Process(0, 1, device, threads, Alone())
    from accelerate import PartialState

    dist.init_process_group(_backend(), timeout=timedelta(seconds=TIMEOUT_SECONDS))
    state = PartialState(cpu=not torch.cuda.is_available())  # without being told so it would believe to be alone
    torch.set_num_threads(threads)  # after accelerate, which has ideas of its own
    return Process(state.process_index, state.num_processes, state.device, threads, GlooPeers())


@contextmanager
def communicating() -> Iterator[None]:
    """What a dead peer or a broken network causes inside is a Hang: another attempt may do better."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):  # gloo has no type of error of its own
            raise
        raise Hang(f"the ranks lost each other: {error}") from error


def _keep_freed_memory() -> None:
    """A step frees large tensors that the next one needs again; glibc would give them to the kernel in between.

    Each of their pages would be zeroed anew: 3,500 a step of the demo's model, 3 % of its time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have no such thing
    if mallopt is not None:
        for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            mallopt(parameter, _KEPT_BYTES)


def _backend() -> str:
    """gloo also beside NCCL: the reduction of a step needs no GPU."""
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


def threads_for(resources: Resources, is_set: bool) -> int | None:
    """Threads of one process: its part of the CPUs that its pod asks for; None leaves it to torch.

    OMP_NUM_THREADS counts more. Pods have no CPU limit, so without this each would take all the cores of its node.
    """
    if is_set or resources.cpu is None or resources.gpus_per_node:
        return None
    text = resources.cpu
    cpus = float(text.removesuffix("m")) / 1000 if text.endswith("m") else float(text.rstrip("kMGTi"))
    return max(1, math.ceil(cpus / (resources.processes_per_node or 1)))
