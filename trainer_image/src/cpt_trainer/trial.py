"""What every verb is given: one trial, the store it writes to, and how its result is committed.

    trial = Trial(document, open_store("s3://cpt"))          ConfigError when document.digest is not that of its spec
    trial.data                                              "data/team/5f1c…/", where its bulk goes
    trial.result_of(digest, TrialType.PREPARE)              what another trial of the namespace committed
    commit_result(trial, numbers={"trainTokens": 1e6})      result.json, written once; the first attempt's counts

Price: a result is one small object; nothing here reads or writes bulk.
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from pydantic import ValidationError

from cpt_api import KNOWN_PROTOCOLS, PROTOCOL
from cpt_api.digest import input_digests, trial_digest
from cpt_api.layout import RESULT_MAX_BYTES, data_prefix, progress_key, result_key
from cpt_api.model import canonical_json
from cpt_api.result import DocumentError, Progress, Result
from cpt_api.trial import CPTTrialSpec, TrialDocument, TrialRef, TrialType
from cpt_api.values import Digest, Tokens
from cpt_trainer.errors import ConfigError, DataError, MissingError
from cpt_trainer.store import Store

log = structlog.get_logger()

_SOFTWARE = (
    *("accelerate", "jinja2", "matplotlib", "numpy", "pyarrow", "safetensors", "scipy", "tokenizers", "torch"),
    "transformers",
)
"""Packages whose version can change numbers or bytes; those that took part are named in a result."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A resolved trial, and the store of its namespace. Its digest is that of its spec."""

    document: TrialDocument
    """Resolved: every reference has its digest."""
    store: Store
    """Where its results go."""
    pod_uid: str = ""
    """Of this pod; empty by hand."""
    metrics_port: int | None = None
    """Where rank 0 serves /metrics; nowhere when absent."""

    def __post_init__(self) -> None:
        protocol = self.spec.protocol or PROTOCOL
        if protocol not in KNOWN_PROTOCOLS or protocol != self.document.protocol:
            raise ConfigError(
                f"trial {self.document.name} has protocol {self.document.protocol} and its spec {protocol}, this "
                f"trainer knows {sorted(KNOWN_PROTOCOLS)}: use the image that goes with the operator"
            )
        try:
            digest = trial_digest(self.spec)
        except ValueError as error:
            raise ConfigError(f"trial {self.document.name}: {error}") from error
        if digest != self.digest:
            raise ConfigError(
                f"trial {self.document.name} names digest {self.digest.short}…, its spec has {digest.short}…: "
                "the spec was changed, or the image does not go with the operator"
            )

    @property
    def spec(self) -> CPTTrialSpec:
        """What is done."""
        return self.document.spec

    @property
    def digest(self) -> Digest:
        """Of the spec."""
        return self.document.digest

    @property
    def namespace(self) -> str:
        """Whose part of the store."""
        return self.document.namespace

    @property
    def data(self) -> str:
        """The prefix of this trial's bulk; ends with a slash."""
        return self.data_of(self.digest)

    def data_of(self, digest: Digest) -> str:
        """The prefix of another trial's bulk; ends with a slash."""
        return data_prefix(self.namespace, digest)

    def result(self) -> Result | None:
        """What this trial committed already, in an attempt before this one."""
        try:
            return Result.believed(self.store.get(self._result_key), self.digest, self.spec)
        except MissingError:
            return None
        except DocumentError as error:
            raise DataError(f"{self._result_key} is not this trial's result: {error}; delete it") from error

    def result_of(self, digest: Digest, *types: TrialType) -> Result:
        """What another trial of this namespace, of one of these types, committed."""
        key, wanted = result_key(self.namespace, digest), " or ".join(types)
        try:
            data = self.store.get(key)
        except MissingError as error:
            raise MissingError(
                f"the {wanted} trial {digest.short}… has no result: expected {key}; run it first"
            ) from error
        try:
            result = _parsed(data)
        except ValueError as error:
            raise DataError(f"{key} is not believed: {error}; delete it and run that trial again") from error
        if result.digest != digest or result.type not in types:
            raise DataError(
                f"{key} names the {result.type} trial {result.digest.short}…, a {wanted} trial {digest.short}… was "
                "expected: something else wrote there; delete it and run that trial again"
            )
        return result

    @property
    def _result_key(self) -> str:
        return result_key(self.namespace, self.digest)


def commit_result(trial: Trial, **fields: Any) -> Result:
    """Write `result.json` with these fields of `Result`; where another attempt was first, its result counts."""
    result = Result(
        protocol=trial.document.protocol,
        digest=trial.digest,
        type=trial.spec.type,
        inputs=tuple(input_digests(trial.spec)),
        software=_software(),
        attempt=trial.document.attempt,
        **fields,
    )
    data = canonical_json(result.to_dict())
    if len(data) > RESULT_MAX_BYTES:
        raise ConfigError(f"the result has {len(data)} bytes, at most {RESULT_MAX_BYTES} are read: name fewer inputs")
    key = result_key(trial.namespace, trial.digest)
    if trial.store.put_if_absent(key, data):
        log.info("result_committed", key=key, outcome=result.outcome)
        return result
    first = trial.result()
    assert first is not None, f"{key} held something else a moment ago"
    log.warning("result_lost_race", key=key, attempt=first.attempt)
    return first


def put_progress(trial: Trial, *, tokens: int, planned_tokens: int, step: int, **fields: Any) -> None:
    """Overwrite `progress.json`."""
    progress = Progress(
        protocol=trial.document.protocol,
        digest=trial.digest,
        attempt=trial.document.attempt,
        pod_uid=trial.pod_uid,
        tokens=Tokens(tokens),
        planned_tokens=Tokens(planned_tokens),
        step=step,
        time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **fields,
    )
    trial.store.put(progress_key(trial.namespace, trial.digest), canonical_json(progress.to_dict()))


def known(reference: TrialRef) -> Digest:
    """The digest of a reference in a trial that runs."""
    assert reference.digest is not None, "a trial that runs is resolved"
    return reference.digest


def _parsed(data: bytes) -> Result:
    if len(data) > RESULT_MAX_BYTES:
        raise ValueError(f"it has {len(data)} bytes, at most {RESULT_MAX_BYTES} are read")
    try:
        return Result.model_validate_json(data)
    except ValidationError as error:
        raise ValueError(f"{error.error_count()} errors, the first: {error.errors()[0]['msg']}") from None


def _software() -> dict[str, str]:
    loaded = [name for name in _SOFTWARE if name in sys.modules]
    versions = {name: importlib.metadata.version(name) for name in ("cpt-experiments", *loaded)}
    return {"python": platform.python_version(), **versions}
