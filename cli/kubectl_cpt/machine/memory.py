"""What the next run on the same store must know: which Preflights were made, and which attempts.

Everything else follows from results. It lies beside the namespace's bulk, so that prefixes alone make the rights.
"""

from __future__ import annotations

import json

from pydantic import Field, ValidationError

from cpt_api.model import Model, canonical_json
from cpt_api.trial import CPTTrialSpec
from cpt_api.values import Digest
from cpt_trainer.errors import MissingError
from cpt_trainer.store import Store
from kubectl_cpt.errors import CliError
from kubectl_cpt.manifest import Manifests

_TRIALS_ALONE = "trials"


class Memory(Model):
    """Of one experiment, or of hand-written trials that were run without one."""

    looks: tuple[CPTTrialSpec, ...] = ()
    """Preflights of the experiment, in their order."""
    attempts: dict[Digest, int] = Field(default_factory=dict)
    """By trial, how many there were: no number is used twice."""

    def with_look(self, spec: CPTTrialSpec) -> Memory:
        """After another Preflight."""
        return self.model_copy(update={"looks": (*self.looks, spec)})

    def with_attempt(self, digest: Digest) -> Memory:
        """After another attempt."""
        return self.model_copy(update={"attempts": {**self.attempts, digest: self.attempts.get(digest, 0) + 1}})


def name_of(manifests: Manifests) -> str:
    """Under which it is kept."""
    return manifests.experiment.name if manifests.experiment else _TRIALS_ALONE


def key_of(namespace: str, name: str) -> str:
    """Where it lies."""
    return f"data/{namespace}/run/{name}.json"


def recall(store: Store, namespace: str, name: str) -> Memory:
    """What an earlier run left."""
    key = key_of(namespace, name)
    try:
        return Memory.model_validate_json(store.get(key))
    except MissingError:
        return Memory()
    except ValidationError as error:
        raise CliError(f"{key} in the store is damaged: delete it; what was trained stays") from error


def keep(store: Store, namespace: str, name: str, memory: Memory) -> None:
    """For the next run."""
    store.put(
        key_of(namespace, name), canonical_json(json.loads(memory.model_dump_json(by_alias=True, exclude_none=True)))
    )
