"""Names of recipes. A digest says *what* is done, never how, where or by whom.

Merkle: where a trial reads another trial's output, that trial's digest stands in its place; where it reads external
files, the digest of the listing that Preflight saw. Two manifests that mean the same thing give the same digest,
whatever their names, order of lists, or way of writing `1e-5`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from cpt_api import PROTOCOL
from cpt_api.model import Model, canonical_json, sha256
from cpt_api.trial import CPTTrialSpec, DatasetArms, Phase, Source, TrialRef
from cpt_api.values import Digest


def trial_digest(spec: CPTTrialSpec) -> Digest:
    """The digest of a resolved spec.

    Raises ValueError when a reference has no digest yet: resolve it first.
    """
    for reference in references(spec.work):
        if reference.digest is None:
            raise ValueError(f"unresolved reference in a {spec.type} trial: {reference.to_dict()}")
    document = {"protocol": spec.protocol or PROTOCOL, "type": spec.type.value, "work": spec.work.identity()}
    if spec.image_digest is not None:
        document["imageDigest"] = spec.image_digest
    if spec.salt is not None:
        document["salt"] = spec.salt
    return sha256(canonical_json(document))


def input_digests(spec: CPTTrialSpec) -> list[Digest]:
    """Digests of everything the trial reads, sorted, each once: what its `result.json` must name as inputs."""
    return sorted({reference.digest for reference in references(spec.work) if reference.digest is not None})


def mix_digest(phases: Iterable[Phase]) -> Digest:
    """What stands for a mix where a dataset has the digest of its Prepare trial: of what is read, in canonical form.

    Equal for the same data in the same proportions, whatever people call it and in whatever order they list it.
    """
    return sha256(canonical_json([phase.identity() for phase in phases]))


def subject_digest(entry: DatasetArms) -> Digest:
    """How answers call whom these arms belong to: a dataset by its Prepare trial, a mix by `mix_digest`.

    Raises ValueError when the reference has no digest yet: resolve it first.
    """
    if entry.phases is not None:
        return mix_digest(entry.phases)
    if entry.dataset is None or entry.dataset.digest is None:
        raise ValueError(f"unresolved reference to the data of arms: {entry.dataset}")
    return entry.dataset.digest


def listing_digest(entries: Iterable[tuple[str, int, str]]) -> Digest:
    """Of external files: (key below the address, size in bytes, ETag), in any order."""
    return sha256(canonical_json([[key, size, etag] for key, size, etag in sorted(entries)]))


@cache
def _names(model: type[Model]) -> tuple[str, ...]:
    return tuple(model.model_fields)


def references(value: Any) -> Iterator[TrialRef | Source]:
    """Every reference below `value`, in the order of the fields."""
    if isinstance(value, TrialRef | Source):
        yield value
    elif isinstance(value, Model):
        for name in _names(type(value)):
            yield from references(getattr(value, name))
    elif isinstance(value, tuple):
        for item in value:
            yield from references(item)
