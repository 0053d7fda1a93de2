"""The seam between trials and whatever runs their pods: render an attempt, observe it. Both are pure.

`pytorchjob` is the one backend now; the seam exists because Kueue and Kubeflow are moving to TrainJob.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from cpt_api.trial import Attempt, Resources, TrialDocument
from cpt_operator.attempts import End
from cpt_operator.plan.types import Finding
from cpt_operator.records import JobRecord, PodRecord, TrialRecord, WorkloadRecord
from cpt_operator.settings import Settings


class SpecTooLargeError(ValueError):
    """The document does not fit into a pod's environment; the message gives the sizes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Times after which an attempt is ended from outside."""

    start_seconds: int
    """All pods must be running by then."""
    deadline_seconds: int | None
    """No attempt runs longer."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What can be seen of an attempt now."""

    end: End | None = None
    """It has ended, and this is why."""
    job_finished: bool = False
    """The job itself says so: it re-creates nothing and may stay for its logs."""
    all_running: bool = False
    """Every pod of it is running."""
    suspended: bool = False
    """A queue holds it back; what it had is not lost."""
    job_uid: str | None = None
    node: str | None = None
    """Of the first pod."""
    newest_pod: str | None = None
    """When the youngest pod was created."""
    trouble: Finding | None = None
    """Why its pods are not running."""
    missing_pods: int = 0
    """Wanted and not there."""
    gpu_seconds: int = 0
    """Pod time x GPUs so far."""
    look_again_seconds: float | None = None
    """When time alone may change this."""


class Backend(Protocol):
    """What a trial's attempt is rendered to, and how it is observed."""

    def render(
        self,
        trial: TrialRecord,
        document: TrialDocument,
        resources: Resources,
        settings: Settings,
        avoided_nodes: Sequence[str],
    ) -> dict[str, Any]:
        """The manifest of the attempt's job. Raises SpecTooLargeError."""

    def observe(
        self,
        job: JobRecord,
        pods: Sequence[PodRecord],
        attempt: Attempt,
        limits: Limits,
        now: datetime,
        workload: WorkloadRecord | None = None,
    ) -> Observation:
        """The attempt's present state. `workload` is what its queue says, where that is known."""
