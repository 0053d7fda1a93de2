"""Answers that are kept as they come, so that whoever goes on scores only what is missing.

    26 blocks -> shards of 4: 0 1 2 3 4 5 6         the same for any number of ranks
    order by a hash: 5 0 3 6 1 2 4                  rank 0 of 2 has 5 3 1 4, rank 1 has 0 6 2
    scores/<plan>/3.json                            written once; the first one counts
    rank 1 is killed; next attempt, 3 ranks         those that are there are read, the others dealt out anew

The plan is a hash of all that was asked and how, so answers to other questions are never taken for these. Ranks tell
each other nothing but that they have finished: what each has to do follows from the plan. Ranks of a sharded model do
all shards together, and the first one writes.

Price: an object of about 40 bytes a choice for each 32,768 tokens, which is read once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import structlog

from cpt_api.model import sha256
from cpt_api.values import Digest
from cpt_trainer.errors import DamagedError, MissingError
from cpt_trainer.evaluate.place import Placement
from cpt_trainer.process import Process
from cpt_trainer.store import Store

log = structlog.get_logger()

FOLDER = "scores/"
SHARD_BLOCKS = 4
_SUM_LENGTH = 64

Row = list[Any]
"""What JSON can hold; numbers come back to the last bit."""
Block = TypeVar("Block")


class Keeper(Protocol):
    """Has blocks answered."""

    def answered(self, plan: Digest, blocks: Sequence[Block], answer: Callable[[Block], Iterable[Row]]) -> list[Row]:
        """The rows of all blocks, in their order."""
        ...


class Unkept:
    """By this rank alone, and kept nowhere."""

    def answered(self, plan: Digest, blocks: Sequence[Block], answer: Callable[[Block], Iterable[Row]]) -> list[Row]:  # noqa: ARG002 - nothing is kept under it
        """The rows of all blocks, in their order."""
        return [row for block in blocks for row in answer(block)]


@dataclass(frozen=True)
class Shards:
    """By all ranks, and kept in the store."""

    store: Store
    prefix: str
    """Of the trial's data; ends with a slash."""
    process: Process
    placement: Placement

    def answered(self, plan: Digest, blocks: Sequence[Block], answer: Callable[[Block], Iterable[Row]]) -> list[Row]:
        """The rows of all blocks, in their order, on all ranks. Every rank calls this with the same blocks."""
        shards = [blocks[first : first + SHARD_BLOCKS] for first in range(0, len(blocks), SHARD_BLOCKS)]
        missing = self._missing(plan, self._mine(plan, len(shards)))
        log.info("scoring", shards=len(shards), missing=len(missing), rank=self.process.rank)
        for number in missing:
            rows = [row for block in shards[number] for row in answer(block)]
            if self.placement is Placement.WHOLE or self.process.rank == 0:
                self.store.put_if_absent(self._key(plan, number), _written(plan, number, rows))
        self.process.peers.gather(None)
        self.process.peers.broadcast(None)  # nobody reads before all have written
        return [row for number in range(len(shards)) for row in self._read(plan, number)]

    def forget(self) -> None:
        """When what came of the answers is committed."""
        for entry in list(self.store.list(self.prefix + FOLDER)):
            self.store.delete(entry.key)

    def _mine(self, plan: Digest, count: int) -> list[int]:
        """Evenly dealt out, but in an order that nobody chose: neighbours are often equally long."""
        order = sorted(range(count), key=lambda number: hashlib.sha256(f"{plan}/{number}".encode()).digest())
        return order[self.process.rank :: self.process.size] if self.placement is Placement.WHOLE else order

    def _missing(self, plan: Digest, numbers: Sequence[int]) -> list[int]:
        """Those that nobody has answered; where ranks work together, as the first one sees it."""
        if self.placement is Placement.WHOLE or self.process.rank == 0:
            there = {entry.key for entry in self.store.list(f"{self.prefix}{FOLDER}{plan}/")}
            missing = [n for n in numbers if self._key(plan, n) not in there or self._is_damaged(plan, n)]
        else:
            missing = []
        if self.placement is Placement.WHOLE:
            return missing
        agreed: list[int] = self.process.peers.broadcast(missing)
        return agreed

    def _is_damaged(self, plan: Digest, number: int) -> bool:
        """Then it is deleted, and answered again."""
        try:
            self._read(plan, number)
        except DamagedError as error:
            log.warning("shard_damaged", error=str(error))
            self.store.delete(self._key(plan, number))
            return True
        return False

    def _read(self, plan: Digest, number: int) -> list[Row]:
        key = self._key(plan, number)
        try:
            return _parsed(self.store.get(key), plan, number)
        except MissingError as error:
            raise MissingError(f"{key}: the answers of a shard are missing; its rank wrote none: {error}") from error
        except ValueError as error:
            raise DamagedError(f"{key} does not hold shard {number} of this evaluation: {error}") from error

    def _key(self, plan: Digest, number: int) -> str:
        return f"{self.prefix}{FOLDER}{plan}/{number:05}.json"


def _written(plan: Digest, number: int, rows: Sequence[Row]) -> bytes:
    """A line of JSON behind its SHA-256."""
    body = json.dumps({"plan": plan, "shard": number, "rows": rows}, separators=(",", ":")).encode()
    return f"{sha256(body)}\n".encode() + body


def _parsed(data: bytes, plan: Digest, number: int) -> list[Row]:
    """Or ValueError."""
    total, body = data[:_SUM_LENGTH], data[_SUM_LENGTH + 1 :]
    if total != sha256(body).encode():
        raise ValueError(f"{len(data)} bytes that are not those that were written")
    content = json.loads(body)
    if (content["plan"], content["shard"]) != (plan, number):
        raise ValueError(f"it holds shard {content['shard']} of plan {content['plan'][:12]}…")
    rows: list[Row] = content["rows"]
    return rows
