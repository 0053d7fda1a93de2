"""Kueue as a plain process beside an API server, for tests of queueing: definitions from its own module, real webhooks.

    kueue = make(folder, webhook_port, health_port)      certificates and configuration
    kueue.objects                                        to be applied before it starts
    kueue.command                                        to be run, with KUBECONFIG in its environment
    http://127.0.0.1:HEALTH_PORT/readyz                  answers when it works

Since 0.19 Kueue leaves PyTorchJobs alone unless its configuration names them, as this one does. The other integrations
are off, and so are their webhooks. Price: 3 minutes and a half to build, once; 15 s to start, 100 MB of memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cpt_local import programs, webhooks
from cpt_local.webhooks import Serving

NAMESPACE = "kueue-system"
_SERVICE = "kueue-webhook-service"
_SECRET = "kueue-webhook-server-cert"  # noqa: S105 - the name of a Secret
_OURS = frozenset({"kueue.x-k8s.io", "kubeflow.org"})
"""API groups of the webhooks that are kept."""
_JOBS = "pytorchjobs"


@dataclass(frozen=True, slots=True)
class Kueue:
    """What it takes to run it."""

    objects: Sequence[Mapping[str, Any]]
    command: Sequence[str]


def make(folder: Path, webhook_port: int, health_port: int) -> Kueue:
    """Write its certificates and configuration into a new folder."""
    folder.mkdir()
    service = f"{_SERVICE}.{NAMESPACE}.svc"
    serving = webhooks.make(folder / "certificates", webhook_port, authority="kueue-ca", service=service)
    file = folder / "kueue.yaml"
    file.write_text(yaml.safe_dump(_configuration(serving, health_port)))
    program = programs.folder("kueue")
    return Kueue(
        _objects(program / "config/components", serving),
        (str(program / "kueue"), f"--config={file}"),
    )


def _configuration(serving: Serving, health_port: int) -> dict[str, Any]:
    return {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "namespace": NAMESPACE,
        "health": {"healthProbeBindAddress": f"127.0.0.1:{health_port}"},
        "metrics": {"bindAddress": "0"},
        "webhook": {"host": "127.0.0.1", "port": serving.port, "certDir": str(serving.folder)},
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": True, "webhookServiceName": _SERVICE, "webhookSecretName": _SECRET},
        "integrations": {"frameworks": ["kubeflow.org/pytorchjob"]},
        "featureGates": {"VisibilityOnDemand": False},  # an API server of its own, which nobody asks here
    }


def _objects(components: Path, serving: Serving) -> list[Mapping[str, Any]]:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    (customization,) = _documents(components / "crd/kustomization.yaml")  # there are patches that it leaves out
    patches = _documents(*(components / "crd" / patch["path"] for patch in customization["patches"]))
    conversions = {patch["metadata"]["name"]: patch["spec"] for patch in patches}
    definitions = _documents(*sorted((components / "crd/bases").glob("*.yaml")))
    for definition in definitions:
        definition["spec"] |= conversions.get(definition["metadata"]["name"], {})
    configurations = map(_kept, _documents(components / "webhook/manifests.yaml"))
    return [
        namespace,
        webhooks.secret(_SECRET, NAMESPACE, serving),
        *(webhooks.addressed(d, serving) if "conversion" in d["spec"] else d for d in definitions),
        *(webhooks.addressed(configuration, serving) for configuration in configurations),
    ]


def _documents(*files: Path) -> list[dict[str, Any]]:
    return [one for file in files for one in yaml.load_all(file.read_text(), Loader=yaml.CSafeLoader) if one]


def _kept(configuration: dict[str, Any]) -> dict[str, Any]:
    """With the name that an installation gives it, and only the webhooks for Kueue's own kinds and for PyTorchJobs."""
    kept = [webhook for webhook in configuration["webhooks"] if all(map(_is_ours, webhook["rules"]))]
    name = f"kueue-{configuration['metadata']['name']}"
    return configuration | {"metadata": {"name": name}, "webhooks": kept}


def _is_ours(rule: Mapping[str, Any]) -> bool:
    jobs = "kubeflow.org" not in rule["apiGroups"] or rule["resources"] == [_JOBS]
    return jobs and _OURS.issuperset(rule["apiGroups"])
