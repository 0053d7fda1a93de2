"""The user's own files: addresses that a spec names, anywhere in the S3 that the administrator configured.

    files = list_files(trial.store, "s3://corpora/python")          an address is a folder, or a single object
    files.entries                                                   keys below the address, sizes, ETags
    files.digest                                                    what a Source names: another listing, other data
    files.store.get_range("a.jsonl", 0, 1000)

The store itself may be a folder; addresses are always S3, read with the same credentials at the same endpoint, or
where there is no S3 (a laptop) from a folder that stands for it: `Address.sources`.

Preflight leaves the listing that it saw beside the other bulk, under its digest: when the files have changed by the
time they are read, the message can name the first key that did.

Price: one LIST per thousand objects.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cpt_api.digest import listing_digest
from cpt_api.layout import EXPORT, data_prefix
from cpt_api.model import canonical_json
from cpt_api.trial import ModelRef, Source, TrialType
from cpt_api.values import Digest
from cpt_trainer.errors import MissingError, SourceChangedError
from cpt_trainer.store import Entry, Store, open_address
from cpt_trainer.trial import Trial

_LISTING = "listing.json"


@dataclass(frozen=True, slots=True)
class Files:
    """What lies at an address."""

    uri: str
    """The address."""
    store: Store
    """Reads below the address; below its folder, where it is a single object."""
    entries: tuple[Entry, ...]
    """At least one, by key."""

    @property
    def digest(self) -> Digest:
        """Of the listing."""
        return listing_digest((entry.key, entry.size, entry.etag) for entry in self.entries)

    @property
    def bytes(self) -> int:
        """The sizes of all."""
        return sum(entry.size for entry in self.entries)


@dataclass(frozen=True, slots=True)
class Folder:
    """A model in Hugging Face layout."""

    store: Store
    """Where it lies."""
    prefix: str
    """Below which; empty, or ends with a slash."""


def list_files(store: Store, uri: str) -> Files:
    """The files at an address of the user. Raises MissingError when nothing is there."""
    address = uri.rstrip("/")
    below = _opened(store, address)
    entries = tuple(entry for entry in below.list("") if not entry.key.endswith("/"))
    if entries:
        return Files(uri, below, entries)
    parent, _, name = address.rpartition("/")
    if uri.endswith("/") or parent == "s3:/":
        raise MissingError(f"{uri}: no objects there; check the address")
    beside = _opened(store, parent)
    try:
        return Files(uri, beside, (beside.stat(name),))
    except MissingError as error:
        raise MissingError(f"{uri}: no such object, and no objects below {uri}/; check the address") from error


def _opened(store: Store, address: str) -> Store:
    """The store at an address of the user."""
    folder = store.address.sources
    if folder is None:
        return open_address(replace(store.address, uri=address))
    key = address.removeprefix("s3://").partition("/")[2]
    return open_address(replace(store.address, uri=f"{folder}/{key}"))


def open_source(trial: Trial, source: Source) -> Files:
    """The files of a resolved source. Raises SourceChangedError when they are not those that Preflight saw."""
    assert source.uri is not None and source.digest is not None, "a resolved source has both"
    files = list_files(trial.store, source.uri)
    if files.digest != source.digest:
        raise SourceChangedError(
            f"{source.uri} has changed: {_difference(_kept_listing(trial, source.digest), files.entries)}; the trial "
            f"names {source.digest.short}…, there is {files.digest.short}… now. Put the files back, or create a new "
            "experiment for the new ones"
        )
    return files


def open_model(trial: Trial, model: ModelRef) -> Folder:
    """The folder of a model: external files, or what another trial exported."""
    if model.source is not None:
        return Folder(open_source(trial, model.source).store, "")
    assert model.trial is not None and model.trial.digest is not None, "a resolved model has one of both"
    trial.result_of(model.trial.digest, TrialType.TRAIN, TrialType.MERGE)
    return Folder(trial.store, trial.data_of(model.trial.digest) + EXPORT)


def keep_listing(trial: Trial, files: Files) -> None:
    """Remember what was seen, under its digest."""
    lines = [[entry.key, entry.size, entry.etag] for entry in files.entries]
    trial.store.put(_listing_key(trial, files.digest), canonical_json(lines))


def _kept_listing(trial: Trial, digest: Digest) -> list[Entry]:
    try:
        return [Entry(*line) for line in json.loads(trial.store.get(_listing_key(trial, digest)))]
    except MissingError:
        return []


def _listing_key(trial: Trial, digest: Digest) -> str:
    return data_prefix(trial.namespace, digest) + _LISTING


def _difference(before: Iterable[Entry], now: Iterable[Entry]) -> str:
    """The first key that differs, and how."""
    old, new = ({entry.key: entry for entry in entries} for entries in (before, now))
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    if not old or not keys:
        return "its listing has another digest"
    how = "is new" if keys[0] not in old else "is gone" if keys[0] not in new else "has other content"
    return f"{keys[0]} {how}" + (f", and {len(keys) - 1} other keys differ" if keys[1:] else "")
