"""What every reconciler is given: one frozen bundle of the seams, and the shape of a reconciler itself.

`async def reconcile_trial(runtime: Runtime, key: Key) -> Requeue | None` looks at the present state in
`runtime.store`, does the next step through `runtime.cluster`, and says when it wants to look again unasked. An
exception means "again, after the key's back-off"; None means "when something changes".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from cpt_operator.artifacts import Artifacts
from cpt_operator.cluster import Cluster
from cpt_operator.kinds import Key
from cpt_operator.memory import Memory
from cpt_operator.queue import Queue
from cpt_operator.settings import Settings
from cpt_operator.store import Store


@dataclass(frozen=True, slots=True)
class Requeue:
    """Look again after so many seconds, whatever happens meanwhile."""

    after_seconds: float


@dataclass(frozen=True, slots=True)
class Runtime:
    """The seams of the control plane."""

    settings: Settings
    store: Store
    cluster: Cluster
    artifacts: Artifacts
    queue: Queue
    memory: Memory
    now: Callable[[], datetime]
    """The wall clock, in UTC."""
    backend_served: bool
    """Whether PyTorchJob was served when the process began. When that changes the process ends and begins anew, so
    this never lies for more than a few seconds."""


Reconcile = Callable[[Runtime, Key], Awaitable[Requeue | None]]
