"""training-operator 1.9.4 from its own manifests: CRDs, rights, webhooks, Deployment.

The only change is the template of the init container in which workers wait for their master: upstream's pulls an image
from outside and is not admitted in `restricted` namespaces. Price: 10 to 25 s, which are upstream's own probes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from cpt_local import programs
from cpt_local.cluster import Cluster
from cpt_local.images import PYTHON, Image, program_layer

NAMESPACE = "kubeflow"
_TIMEOUT = "120s"
_WAIT = """\
import socket, time
while True:
    try:
        socket.gethostbyname("{{.MasterAddr}}")
        break
    except OSError:
        time.sleep(0.5)
"""


def image() -> Image:
    """The program that we built, under the name that upstream's manifests give it."""
    folder = programs.folder("training-operator")
    upstream = yaml.safe_load((folder / "manifests/overlays/standalone/kustomization.yaml").read_text())
    [wanted] = upstream["images"]
    layer = program_layer(folder / "training-operator.v1", "/manager")
    return Image(f"{wanted['name']}:{wanted['newTag']}", layer, ("/manager",))


def apply(cluster: Cluster) -> None:
    """Apply the manifests."""
    overlay = _write_overlay(cluster)
    cluster.kubectl("apply", "--server-side", "--field-manager=cpt-local", "-k", str(overlay))


def wait(cluster: Cluster) -> None:
    """Return when its Deployment, and with it its webhooks, is available."""
    cluster.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/training-operator", f"--timeout={_TIMEOUT}")


def _write_overlay(cluster: Cluster) -> Path:
    manifests = cluster.folder / "training-operator"
    shutil.copytree(programs.folder("training-operator") / "manifests", manifests, dirs_exist_ok=True)
    overlay = manifests / "overlays/local"
    overlay.mkdir(exist_ok=True)
    template = {
        "name": "wait-for-master",
        "image": PYTHON,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", _WAIT],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    (overlay / "init.yaml").write_text(yaml.safe_dump([template]))
    files = {"name": "init-container", "namespace": NAMESPACE, "files": ["init.yaml"]}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../standalone"],
        "configMapGenerator": [files],
        "patches": [{"patch": yaml.safe_dump(_patch())}],
    }
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return overlay


def _patch() -> dict[str, object]:
    container = {
        "name": "training-operator",
        "args": ["--pytorch-init-container-template-file=/etc/init/init.yaml"],
        "volumeMounts": [{"name": "init", "mountPath": "/etc/init"}],
    }
    volume = {"name": "init", "configMap": {"name": "init-container"}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "training-operator", "namespace": NAMESPACE},
        "spec": {"template": {"spec": {"containers": [container], "volumes": [volume]}}},
    }
