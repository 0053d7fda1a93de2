"""training-operator 1.9.4 from its own manifests: CRDs, rights, webhooks, Deployment.

The only change is the template of the init container in which workers wait for their master: upstream's pulls an image
from outside and is not admitted in `restricted` namespaces. Price: 10 to 25 s, which are upstream's own probes.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import yaml

from cpt_local import cache, programs
from cpt_local.cluster import Cluster
from cpt_local.images import PYTHON, Image, program_layer
from cpt_local.node import FIRST

NAMESPACE = "kubeflow"
_TIMEOUT = "120s"
_OURS = "pytorchjobs.kubeflow.org"
_FIRST, _LATER = "first.json", "later.json"
_WAIT = """\
import socket, time
while True:
    try:
        socket.gethostbyname("{{.MasterAddr}}")
        break
    except OSError:
        time.sleep(0.5)
"""


_INIT_CONTAINER = {
    "name": "wait-for-master",
    "image": PYTHON,
    "imagePullPolicy": "IfNotPresent",
    "command": ["python3", "-c", _WAIT],
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}
_CONTAINER = {
    "name": "training-operator",
    "args": ["--pytorch-init-container-template-file=/etc/init/init.yaml"],
    "volumeMounts": [{"name": "init", "mountPath": "/etc/init"}],
}
_POD = {
    "containers": [_CONTAINER],
    "volumes": [{"name": "init", "configMap": {"name": "init-container"}}],
    "nodeSelector": FIRST,
}
_DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "training-operator", "namespace": NAMESPACE},
    "spec": {"template": {"spec": _POD}},
}
_KUSTOMIZATION = {
    "apiVersion": "kustomize.config.k8s.io/v1beta1",
    "kind": "Kustomization",
    "resources": ["../standalone"],
    "configMapGenerator": [{"name": "init-container", "namespace": NAMESPACE, "files": ["init.yaml"]}],
    "patches": [{"patch": yaml.safe_dump(_DEPLOYMENT)}],
}


def image() -> Image:
    """The program that we built, under the name that upstream's manifests give it."""
    folder = programs.folder("training-operator")
    upstream = yaml.safe_load((folder / "manifests/overlays/standalone/kustomization.yaml").read_text())
    [wanted] = upstream["images"]
    layer = program_layer(folder / "training-operator.v1", "/manager")
    return Image(f"{wanted['name']}:{wanted['newTag']}", layer, ("/manager",))


def apply(cluster: Cluster) -> None:
    """Apply everything but the CRDs of other frameworks."""
    programs.link(["training-operator"], cluster.folder / "bin")
    _apply(cluster, _FIRST)


def apply_other_frameworks(cluster: Cluster) -> None:
    """Apply the other five CRDs: they are large, and meanwhile the Deployment's pod can make its certificates."""
    _apply(cluster, _LATER)


def wait(cluster: Cluster) -> None:
    """Return when its Deployment, and with it its webhooks, is available."""
    cluster.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/training-operator", f"--timeout={_TIMEOUT}")


def _apply(cluster: Cluster, part: str) -> None:
    # upstream's documents are valid: without validation kubectl need not read the schemas of everything first
    options = ("--server-side", "--field-manager=cpt-local", "--validate=false")
    cluster.kubectl("apply", *options, "-f", str(_rendered(cluster) / part))


def _rendered(cluster: Cluster) -> Path:
    """A folder with all documents as JSON, which is read ten times as fast; they are 1.7 MB, so it is kept."""
    upstream = programs.folder("training-operator")

    def make(folder: Path) -> None:
        shutil.copytree(upstream / "manifests", folder / "manifests")
        overlay = folder / "manifests/overlays/local"
        overlay.mkdir()
        (overlay / "init.yaml").write_text(yaml.safe_dump([_INIT_CONTAINER]))
        (overlay / "kustomization.yaml").write_text(yaml.safe_dump(_KUSTOMIZATION))
        documents = list(yaml.load_all(cluster.kubectl("kustomize", str(overlay)), Loader=yaml.CSafeLoader))
        later = [d for d in documents if d["kind"] == "CustomResourceDefinition" and d["metadata"]["name"] != _OURS]
        first = [document for document in documents if document not in later]
        for part, items in ((_FIRST, first), (_LATER, later)):
            (folder / part).write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    ingredients = [upstream.name, json.dumps([_INIT_CONTAINER, _KUSTOMIZATION])]
    return cache.entry("training-operator-manifests", ingredients, make)
