"""From what each rank uploaded to a checkpoint: one manifest, written last and only where none is.

    rank 0: embed rows 0..5 in its object 0     }      embed 10x4: rows 0..5 in object 0, rows 5..10 in object 1
    rank 1: embed rows 5..10 in its object 0    }      objects: rank 0's, rank 1's

Price: the tables of all ranks on rank 0, about 100 bytes for each tensor, role and rank.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from cpt_api.model import canonical_json
from cpt_trainer.errors import TrainerExit
from cpt_trainer.manifest import (
    Manifest,
    ObjectEntry,
    Role,
    TensorEntry,
    TensorTable,
    manifest_key,
    prune,
    read_checkpoint,
    step_folder,
)
from cpt_trainer.store import Store

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Report:
    """What one rank uploaded; object numbers count from zero on each rank."""

    objects: tuple[ObjectEntry, ...] = ()
    tensors: TensorTable | None = None
    error: str | None = None


def merge(head: Manifest, reports: Sequence[Report]) -> Manifest:
    """The manifest of what all ranks uploaded."""
    objects: list[ObjectEntry] = []
    entries: defaultdict[Role, defaultdict[str, list[TensorEntry]]] = defaultdict(lambda: defaultdict(list))
    for report in reports:
        for role, table in (report.tensors or {}).items():
            for name, entry in table.items():
                pieces = tuple((row, rows, len(objects) + number, start) for row, rows, number, start in entry.pieces)
                entries[role][name].append(entry.model_copy(update={"pieces": pieces}))
        objects += report.objects
    tensors = {role: {name: _whole(name, found) for name, found in named.items()} for role, named in entries.items()}
    return head.model_copy(update={"objects": tuple(objects), "tensors": tensors})


def _whole(name: str, parts: Sequence[TensorEntry]) -> TensorEntry:
    """One tensor of the pieces of all ranks."""
    pieces = sorted(piece for part in parts for piece in part.pieces)
    ends = [row + rows for row, rows, _, _ in pieces]
    shape = parts[0].shape
    assert all((part.dtype, part.shape) == (parts[0].dtype, shape) for part in parts), f"ranks differ in {name}"
    assert [0, *ends] == [*(row for row, *_ in pieces), shape[0] if shape else 1], f"rows of {name} miss: {pieces}"
    return parts[0].model_copy(update={"pieces": tuple(pieces)})


def commit(store: Store, prefix: str, manifest: Manifest) -> str:
    """Write the manifest, and return its key. Where another attempt was first, its checkpoint of that step counts."""
    key = manifest_key(prefix, manifest.at.step)
    ours = store.put_if_absent(key, canonical_json(manifest.to_dict()))
    if not ours:
        log.info("checkpoint_lost_race", manifest=key, writer=read_checkpoint(store, key).manifest.writer)
    try:
        if not ours:
            for entry in manifest.objects:
                store.delete(step_folder(prefix, manifest.at.step) + entry.key)
        prune(store, prefix)
    except TrainerExit as error:  # the next save tidies up
        log.warning("checkpoint_prune_failed", error=str(error))
    return key
