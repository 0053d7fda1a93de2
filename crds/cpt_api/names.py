"""Names of children. With the owner's uid hashed in, a re-created experiment never meets its predecessor's children."""

from __future__ import annotations

import hashlib

from cpt_api.trial import TrialType
from cpt_api.values import Digest

EXPERIMENT_NAME_MAX = 52
TRIAL_NAME_MAX = 48
_PREFIX_MAX = 26
_ABBREVIATION = {
    TrialType.PREFLIGHT: "pre",
    TrialType.PREPARE: "prep",
    TrialType.TRAIN: "train",
    TrialType.EVALUATE: "eval",
    TrialType.DECIDE: "dec",
    TrialType.MERGE: "merge",
    TrialType.REPORT: "rep",
}


def trial_name(experiment: str, experiment_uid: str, trial_type: TrialType, digest: Digest) -> str:
    """`<experiment, cut to 26>-<type>-<10 hex>`, at most 43 characters."""
    unique = hashlib.sha256(f"{experiment_uid}/{digest}".encode()).hexdigest()[:10]
    return f"{experiment[:_PREFIX_MAX].rstrip('-')}-{_ABBREVIATION[trial_type]}-{unique}"


def job_name(trial: str, attempt: int) -> str:
    """One PyTorchJob per attempt, and never a number twice. PyTorchJob names may have 50 characters at most."""
    return f"{trial}-{attempt}"
