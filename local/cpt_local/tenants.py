"""Namespaces that run experiments: what an administrator makes once in each.

add(cluster, "team-a")     Namespace (Pod Security `restricted`), ServiceAccount, the store's credentials, S3 identity
"""

from __future__ import annotations

import json
from typing import Any

from cpt_local import s3
from cpt_local.cluster import Cluster
from cpt_local.errors import LocalError

SYSTEM = "cpt-system"
"""The chart's namespace."""
OPERATOR_SECRET = "cpt-operator-store"  # noqa: S105 - its name
TRIAL_SECRET = "cpt-store"  # noqa: S105 - its name
TRIAL_ACCOUNT = "cpt-trial"


def add(cluster: Cluster, *names: str) -> None:
    """Make namespaces ready for experiments; those that are ready already stay as they are.

    Raises LocalError for a name that has rights of its own in the store.
    """
    if not {s3.ADMIN, s3.OPERATOR}.isdisjoint(names):
        raise LocalError(f"{s3.ADMIN} and {s3.OPERATOR} are roles of the store: take another name for the namespace")
    s3.add_identities(cluster, list(names))
    documents: list[dict[str, Any]] = []
    for name in names:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": TRIAL_ACCOUNT, "namespace": name}}
        documents += [_namespace(name), account, _secret(cluster, TRIAL_SECRET, name, identity=name)]
    _apply(cluster, documents)


def add_system(cluster: Cluster) -> None:
    """Make the chart's namespace, with the operator's credentials."""
    _apply(cluster, [_namespace(SYSTEM), _secret(cluster, OPERATOR_SECRET, SYSTEM, identity=s3.OPERATOR)])


def _apply(cluster: Cluster, documents: list[dict[str, Any]]) -> None:
    items = {"apiVersion": "v1", "kind": "List", "items": documents}
    options = ("--server-side", "--field-manager=cpt-local", "--validate=false")
    cluster.kubectl("apply", *options, "-f", "-", stdin=json.dumps(items))


def _namespace(name: str) -> dict[str, Any]:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _secret(cluster: Cluster, name: str, namespace: str, *, identity: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": cluster.s3_credentials(identity).environment,
    }
