"""`kubectl cpt gc --dry-run`: what lies in the store that no trial of the namespace is, or reads. Only a list.

    DIGEST        WHAT      OBJECTS   SIZE
    5f1c09ab3e71  Train          14   26.1 GB
    90ab3e715f1c  no result       3    4.2 GB

What is listed can be trained again, at its price: an experiment that asks for an equal trial would have reused it.
Nothing is deleted, here or anywhere by the operator; `result.json` is the mark that data is whole, so whoever deletes
takes that object first and the data after it.

Price: two listings of the namespace's part of the store, and one small GET for each digest that is listed.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from cpt_api.digest import references
from cpt_api.layout import result_key
from cpt_api.result import Result
from cpt_api.trial import CPTTrialSpec
from cpt_api.values import Digest
from cpt_operator.kinds import DIGEST_ANNOTATION
from cpt_trainer.errors import MissingError
from cpt_trainer.store import Store
from kubectl_cpt.cluster.kubectl import TRIALS, Kubectl, Object
from kubectl_cpt.errors import CliError
from kubectl_cpt.machine.recalled import recalled
from kubectl_cpt.manifest import load
from kubectl_cpt.numbers import size
from kubectl_cpt.opened import address_of, opened
from kubectl_cpt.render import FOR_PROGRAMS, columns, for_programs


@dataclass(frozen=True, slots=True)
class Unused:
    """What one trial left that nobody names."""

    digest: Digest
    what: str
    """The type of the trial, by its result; or that there is none."""
    objects: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """For programs."""
        return {"digest": self.digest, "what": self.what, "objects": self.objects, "bytes": self.bytes}


def of_cluster(kubectl: Kubectl, uri: str, namespace: str | None, output: str, environment: Mapping[str, str]) -> None:
    """What no trial of the namespace is, or reads."""
    bodies = kubectl.list(TRIALS)
    kept = {digest for body in bodies for digest in _named(body)}
    _show(uri, namespace or kubectl.namespace(), kept, output, environment)


def of_runs(files: Sequence[str], uri: str, namespace: str | None, output: str, environment: Mapping[str, str]) -> None:
    """What no trial of these manifests is, or reads; name the manifests of all runs that shall be kept."""
    manifests = load(files, namespace=namespace)
    with opened(address_of(uri, environment)) as store:
        world = recalled(manifests, store)
    looks = {digest for spec in world.memory.looks for digest in _read_by(spec)}
    kept = {job.digest for job in world.jobs if job.digest} | {d for job in world.jobs for d in _read_by(job.spec)}
    _show(uri, world.namespace, kept | looks | set(world.memory.attempts), output, environment)


def unused(store: Store, namespace: str, kept: AbstractSet[Digest]) -> list[Unused]:
    """The largest first."""
    found: defaultdict[Digest, list[int]] = defaultdict(list)
    for prefix in ("trials", "data"):
        for entry in store.list(f"{prefix}/{namespace}/"):
            digest = _digest_of(entry.key)
            if digest is not None and digest not in kept:
                found[digest].append(entry.size)
    listed = [Unused(d, _what(store, namespace, d), len(sizes), sum(sizes)) for d, sizes in found.items()]
    return sorted(listed, key=lambda each: (-each.bytes, each.digest))


def _digest_of(key: str) -> Digest | None:
    """`trials/<namespace>/<digest>/…`; None of what belongs to no trial, such as the memory of runs."""
    try:
        return Digest.parse(key.split("/")[2])
    except ValueError:
        return None


def _named(body: Object) -> Iterator[Digest]:
    """By a CPTTrial: its own digest, as soon as it has one, and those of its inputs."""
    metadata = body["metadata"]
    own = (body.get("status") or {}).get("digest") or (metadata.get("annotations") or {}).get(DIGEST_ANNOTATION)
    if own:
        yield Digest.parse(own)
    try:
        yield from _read_by(CPTTrialSpec.model_validate(body["spec"]))
    except ValidationError as error:
        raise CliError(
            f"trial {metadata['name']} is not understood by this version ({error.error_count()} errors), so nobody "
            "knows what it reads: take the version of kubectl cpt that goes with the operator"
        ) from error


def _read_by(spec: CPTTrialSpec) -> Iterator[Digest]:
    for reference in (*references(spec.work), *references(spec.run.observe)):
        if reference.digest:
            yield reference.digest


def _what(store: Store, namespace: str, digest: Digest) -> str:
    try:
        return Result.model_validate_json(store.get(result_key(namespace, digest))).type.value
    except MissingError:
        return "no result"
    except ValidationError:
        return "not a result"


def _show(uri: str, namespace: str, kept: AbstractSet[Digest], output: str, environment: Mapping[str, str]) -> None:
    with opened(address_of(uri, environment)) as store:
        found = unused(store, namespace, kept)
    document = {"kind": "Unused", "namespace": namespace, "trials": [each.to_dict() for each in found]}
    sys.stdout.write(for_programs(document, output) if output in FOR_PROGRAMS else _table(found, namespace))


def _table(found: Sequence[Unused], namespace: str) -> str:
    if not found:
        return f"namespace {namespace}: everything in the store is named by a trial\n"
    rows = [("DIGEST", "WHAT", "OBJECTS", "SIZE")]
    rows += [(each.digest.short, each.what, str(each.objects), size(each.bytes)) for each in found]
    total = size(sum(each.bytes for each in found))
    lines = [
        *columns(rows, right=(2, 3)),
        "",
        f"{total} in {len(found)} trials that nobody in namespace {namespace} names; they could still be reused",
        f"to delete one: trials/{namespace}/DIGEST/ first, then data/{namespace}/DIGEST/",
    ]
    return "\n".join(lines) + "\n"
