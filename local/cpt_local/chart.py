"""Our own chart, as any administrator installs it, with values for this cluster.

    install(cluster)      helm upgrade --install cpt-operator helm/ --namespace cpt-system --values …/values.yaml

The pods carry a digest of the sources that they see, so that `up` after a change of the code brings up the new code.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import yaml

from cpt_local import kwok, node, s3
from cpt_local.cluster import Cluster
from cpt_local.errors import CommandError
from cpt_local.processes import run
from cpt_local.tenants import OPERATOR_SECRET, SYSTEM

RELEASE = "cpt-operator"
FOLDER = Path(__file__).resolve().parents[2] / "helm"
_TIMEOUT = "120s"
_UNFINISHED = "pending-install,pending-upgrade,pending-rollback"


def install(cluster: Cluster) -> None:
    """Install or upgrade; return when the operator's Deployment is available.

    Raises CommandError with the state and the log of its pods when it does not become so.
    """
    values_file(cluster).write_text(yaml.safe_dump(values(cluster)))
    # what a killed helm left behind would forbid any further one
    cluster.kubectl("-n", SYSTEM, "delete", "secret", "-l", f"owner=helm,name={RELEASE},status in ({_UNFINISHED})")
    try:
        helm(cluster, "upgrade", "--install", RELEASE, str(FOLDER), f"--values={values_file(cluster)}", "--wait",
             f"--timeout={_TIMEOUT}")  # fmt: skip
    except CommandError as error:
        raise CommandError(f"{error}\n{_explain(cluster)}") from None


def helm(cluster: Cluster, *arguments: str) -> str:
    """Run helm in the chart's namespace; what it printed."""
    return run(cluster.program("helm"), f"--namespace={SYSTEM}", *arguments, env=cluster.environment)


def values_file(cluster: Cluster) -> Path:
    """What `install` used, for `helm upgrade` by hand."""
    return cluster.folder / "values.yaml"


def values(cluster: Cluster) -> dict[str, Any]:
    """The chart's values for this cluster."""
    key, value = kwok.LABEL
    fake_nodes = {
        "kwok": {
            "gpuResource": node.FAKE_GPU,
            "nodeSelector": {key: value},
            "tolerations": [{"key": key, "operator": "Exists"}],
        }
    }
    profiles = {"fake-gpu": {"gpuResource": node.FAKE_GPU}} | (fake_nodes if cluster.kwok else {})
    return {
        "artifactStore": {
            "bucket": s3.BUCKET,
            "endpoint": cluster.s3_endpoint,
            "credentialsSecret": OPERATOR_SECRET,
        },
        "trials": {"profiles": profiles},
        "podAnnotations": {"cpt.dev/source": _source_digest()},
        "nodeSelector": node.FIRST,
    }


def images() -> tuple[str, str]:
    """The operator's and the trainer's image, by the chart's own values."""
    own = yaml.safe_load((FOLDER / "values.yaml").read_text())
    return own["image"], own["trials"]["image"]


def _source_digest() -> str:
    digest = hashlib.sha256()
    for package in ("cpt_api", "cpt_operator"):
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.origin is not None
        for file in sorted(Path(spec.origin).parent.rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _explain(cluster: Cluster) -> str:
    def ask(*question: str) -> str:
        try:
            return cluster.kubectl("-n", SYSTEM, *question)
        except CommandError as error:
            return str(error)

    return ask("get", "pods", "-o=wide") + ask("logs", f"deployment/{RELEASE}", "--tail=15")
