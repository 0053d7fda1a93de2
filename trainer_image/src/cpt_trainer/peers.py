"""What the ranks of a run tell each other while training goes on: small values, over a gloo group of its own.

    lead(peers, lambda: store.put_if_absent(key, data))     rank 0 writes; all ranks get its answer, or raise its error

Everything here may run on a thread beside training: no collective of training mixes with that group.

Price: a few milliseconds a call; a rank that has died holds the others up for the timeout at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import torch.distributed as dist

from cpt_trainer.errors import Hang, TrainerExit

T = TypeVar("T")

TIMEOUT_SECONDS = 1500.0
"""Of one call: longer than an upload to its deadline, and an outage of the store that rank 0 rides out after it."""


class Peers(Protocol):
    """The ranks of a run. Every rank makes the same calls in the same order."""

    @property
    def rank(self) -> int:
        """From 0."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks on rank 0, nothing elsewhere."""
        ...

    def broadcast(self, value: Any) -> Any:
        """The value of rank 0."""
        ...


@dataclass(frozen=True, slots=True)
class Alone:
    """One rank."""

    rank: int = 0
    size: int = 1

    def gather(self, value: Any) -> list[Any]:
        """The value."""
        return [value]

    def broadcast(self, value: Any) -> Any:
        """The value."""
        return value


class GlooPeers:
    """The ranks of the default process group, over a gloo group of its own: training's collectives do not mix with it.

    A rank that does not come in time, or has died, is a Hang.
    """

    def __init__(self, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._group = _group(timeout_seconds)
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks on rank 0, nothing elsewhere."""
        values: list[Any] = [None] * self.size if self.rank == 0 else []
        _or_hang(lambda: dist.gather_object(value, values or None, dst=0, group=self._group))
        return values

    def broadcast(self, value: Any) -> Any:
        """The value of rank 0."""
        box = [value]
        _or_hang(lambda: dist.broadcast_object_list(box, src=0, group=self._group))
        return box[0]


def _or_hang(communicate: Callable[[], None]) -> None:
    try:
        communicate()
    except RuntimeError as error:
        raise Hang(f"a rank did not answer while a checkpoint was agreed on: {error}") from error


def lead(peers: Peers, act: Callable[[], T]) -> T:
    """Rank 0 acts; every rank gets its answer, or raises its error."""
    answer: Any = None
    failure: TrainerExit | None = None
    if peers.rank == 0:
        try:
            answer = act()
        except TrainerExit as error:
            failure = error
    answer, failure = peers.broadcast((answer, failure))
    if failure is not None:
        raise failure
    given: T = answer
    return given


def _group(timeout_seconds: float) -> dist.ProcessGroup:
    group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_seconds))
    assert isinstance(group, dist.ProcessGroup), "every rank is in it"
    return group
