"""Names of recipes. A digest says *what* is done, never how, where or by whom.

Merkle: where a trial reads another trial's output, that trial's digest stands in its place; where it reads external
files, the digest of the listing that Preflight saw. Two manifests that mean the same thing give the same digest,
whatever their names, order of lists, or way of writing `1e-5`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, get_args, get_origin

from cpt_api import PROTOCOL
from cpt_api.model import Model, canonical_json, sha256
from cpt_api.trial import CPTTrialSpec, DatasetArms, Phase, Source, SuiteGroup, TrialRef
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


def group_digest(group: SuiteGroup) -> Digest:
    """What stands for a suite's number where a held-out text has the digest of its Prepare trial."""
    return sha256(canonical_json(group.identity()))


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


def references(value: Any) -> Sequence[TrialRef | Source]:
    """Every reference below `value`, in the order of the fields."""
    found: list[TrialRef | Source] = []
    _collect(value, found)
    return found


def _collect(value: Any, found: list[TrialRef | Source]) -> None:
    if isinstance(value, TrialRef | Source):
        found.append(value)
    elif isinstance(value, Model):
        for name in _referring(type(value)):
            _collect(getattr(value, name), found)
    elif isinstance(value, tuple):
        for item in value:
            _collect(item, found)


@cache
def _referring(model: type[Model]) -> tuple[str, ...]:
    """The fields below which a reference may stand: planning thousands of trials asks nothing of all others."""
    return tuple(name for name, field in model.model_fields.items() if _may_refer(field.annotation))


def _may_refer(annotation: Any) -> bool:
    if not isinstance(annotation, type) or get_origin(annotation) is not None:
        return any(map(_may_refer, get_args(annotation)))
    return issubclass(annotation, TrialRef | Source) or (issubclass(annotation, Model) and bool(_referring(annotation)))
