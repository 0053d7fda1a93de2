"""`cpt-trainer verify`: takes a decision anew from the tables in the store, and compares it with the stored one.

    {"answer":"Equal","differences":[],"method":"maximum-t 1","question":"Screening","trial":"5f1c…"}
    {"answer":"Differs","differences":[{"at":"rates[0].chosen","recomputed":"3e-4","stored":"1e-4"}],…}

Equal means the same bytes: `result.json` as it would have been written, against `result.json` as it lies there. On the
way every item table is held against the SHA-256 that its own result names. Nothing is written.

Price: that of the decision, a second or two without GPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from cpt_api.layout import result_key
from cpt_api.model import canonical_json
from cpt_api.result import Decision, Result
from cpt_api.values import Digest
from cpt_trainer.decide import answer
from cpt_trainer.decide.inputs import read_models
from cpt_trainer.errors import ConfigError, DataError, MissingError
from cpt_trainer.trial import Trial

_SHOWN_MAX = 10
"""More differences say nothing new."""
_ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Difference:
    """One place in a decision document."""

    at: str
    """Such as `rates[0].chosen`."""
    stored: str
    recomputed: str


@dataclass(frozen=True, slots=True)
class Verification:
    """Of one decision."""

    trial: Digest
    question: str
    method: str
    differences: tuple[Difference, ...]
    """The first ones; none when the bytes are equal."""

    @property
    def equal(self) -> bool:
        """Byte by byte."""
        return not self.differences

    def to_json(self) -> bytes:
        """For programs."""
        return canonical_json(asdict(self) | {"answer": "Equal" if self.equal else "Differs"})


def verify(trial: Trial) -> Verification:
    """MissingError or DamagedError when the tables no longer allow it, ConfigError when this is another method."""
    work = trial.spec.decide
    if work is None:
        raise ConfigError(f"trial {trial.document.name} is of type {trial.spec.type}: only decisions can be verified")
    stored, data = _stored(trial)
    taken = answer(work, read_models(trial, work))
    if stored.decision is None:
        raise DataError(f"the result of trial {trial.digest.short}… holds no decision: something else wrote there")
    if stored.decision.method != taken.method:
        raise ConfigError(_other_method(stored, stored.decision.method, taken))
    return Verification(trial.digest, taken.question, taken.method, tuple(_differences(data, taken)))


def _stored(trial: Trial) -> tuple[Result, bytes]:
    """The result and its very bytes."""
    result = trial.result()
    if result is None:
        raise MissingError(f"the Decide trial {trial.digest.short}… has no result: there is nothing to verify yet")
    return result, trial.store.get(result_key(trial.namespace, trial.digest))


def _other_method(stored: Result, method: str, taken: Decision) -> str:
    version = stored.software.get("cpt-experiments", "unknown")
    return (
        f"the decision was taken by method {method!r} (cpt-experiments {version}), this trainer takes it by "
        f"{taken.method!r}: verify it with the version that took it"
    )


def _differences(data: bytes, taken: Decision) -> list[Difference]:
    """Where the stored bytes differ from those that would have been written."""
    document = json.loads(data)
    decision = taken.to_dict()
    if canonical_json(document | {"decision": decision}) == data:
        return []
    found = list(_compared(document["decision"], decision, ""))
    return found[:_SHOWN_MAX] or [Difference("result.json", "other spelling of equal values", "canonical JSON")]


def _compared(stored: Any, recomputed: Any, at: str) -> Iterator[Difference]:
    if isinstance(stored, dict) and isinstance(recomputed, dict):
        for key in sorted(stored.keys() | recomputed.keys()):
            path = f"{at}.{key}" if at else key
            yield from _compared(stored.get(key, _ABSENT), recomputed.get(key, _ABSENT), path)
    elif isinstance(stored, list) and isinstance(recomputed, list) and len(stored) == len(recomputed):
        for number, pair in enumerate(zip(stored, recomputed, strict=True)):
            yield from _compared(*pair, f"{at}[{number}]")
    elif stored != recomputed:
        yield Difference(at, _short(stored), _short(recomputed))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:199]}…"
