"""The API of cpt.dev: the two kinds, the documents of the store, and the digests that name a trial.

Both planes import this package and nothing of each other: a trial's spec and its `result.json` are the whole
contract between them. It knows neither Kubernetes clients nor storage nor torch.
"""

GROUP = "cpt.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
FIELD_MANAGER = "cpt-operator"

PROTOCOL = 1
"""Defaults, planner, digest and scorer as one number: an experiment keeps that of its first trial for life."""
KNOWN_PROTOCOLS = frozenset({1})
