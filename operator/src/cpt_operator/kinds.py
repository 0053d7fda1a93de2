"""The kinds that the operator watches, the key that names one object, and the names written on children.

>>> str(Key(Kind.TRIAL, "team-a", "sweep-train-0123456789"))
'cpttrials/team-a/sweep-train-0123456789'
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from cpt_api import GROUP, VERSION

EXPERIMENT_LABEL = f"{GROUP}/experiment"
"""On children: the experiment's name, for people and selectors; the owner reference is what counts."""
TRIAL_LABEL = f"{GROUP}/trial"
"""On jobs and pods: the trial's name. Only objects that carry it are watched."""
TYPE_LABEL = f"{GROUP}/type"
"""On children: the trial's type."""
DIGEST_ANNOTATION = f"{GROUP}/digest"
"""On trials and jobs: the digest of the recipe."""


class Kind(Enum):
    """A watched kind: group, version, plural, name of the kind, label selector of what is ours."""

    EXPERIMENT = (GROUP, VERSION, "cptexperiments", "CPTExperiment", "")
    TRIAL = (GROUP, VERSION, "cpttrials", "CPTTrial", "")
    JOB = ("kubeflow.org", "v1", "pytorchjobs", "PyTorchJob", TRIAL_LABEL)
    POD = ("", "v1", "pods", "Pod", TRIAL_LABEL)
    WORKLOAD = ("kueue.x-k8s.io", "v1beta2", "workloads", "Workload", "")

    def __init__(self, group: str, version: str, plural: str, kind: str, selector: str) -> None:
        self.group = group
        self.version = version
        self.plural = plural
        self.kind = kind
        self.selector = selector

    @property
    def api_version(self) -> str:
        """As it stands in a manifest."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """The path of its API group and version; a GET tells which kinds are served."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str = "", name: str = "") -> str:
        """Of one object, of a namespace's objects, or of all."""
        scope = f"{self.root}/namespaces/{namespace}/{self.plural}" if namespace else f"{self.root}/{self.plural}"
        return f"{scope}/{name}" if name else scope


class Key(NamedTuple):
    """Names one object in the queue and in the store; small, hashable, and free of its state."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.plural}/{self.namespace}/{self.name}"
