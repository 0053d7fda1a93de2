"""Tells Prometheus which pods there are: Debian's build has no discovery of its own for Kubernetes.

    python -m cpt_local.discovery KUBECONFIG TARGETS.json

lists and watches pods and keeps a file for `file_sd_configs` with one target for each container port, under the labels
that `kubernetes_sd_configs` with `role: pod` would give it, so that relabelling rules are the same in both worlds:

    10.244.1.7:8080   __meta_kubernetes_namespace=demo, __meta_kubernetes_pod_label_app_kubernetes_io_name=cpt-trial, …

Prometheus reads the file again as soon as it changes.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

META = "__meta_kubernetes_"
_PODS = "/api/v1/pods"
_RETRY_SECONDS = 1.0
_WATCH_SECONDS = 300
"""A watch is ended by the server after that, and pods are listed anew."""


def targets(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """One for each port of each container; none while the pod has no address, or has ended."""
    metadata, status = pod["metadata"], pod.get("status", {})
    if not status.get("podIP") or status.get("phase") in ("Succeeded", "Failed"):
        return []
    labels = {f"{META}pod_label_{label_name(key)}": value for key, value in metadata.get("labels", {}).items()}
    labels |= {
        f"{META}namespace": metadata["namespace"],
        f"{META}pod_name": metadata["name"],
        f"{META}pod_node_name": pod["spec"].get("nodeName", ""),
        f"{META}pod_phase": status["phase"],
    }
    found = []
    for container in pod["spec"]["containers"]:
        for port in container.get("ports", []):
            own = {
                f"{META}pod_container_name": container["name"],
                f"{META}pod_container_port_name": port.get("name", ""),
            }
            found.append({"targets": [f"{status['podIP']}:{port['containerPort']}"], "labels": labels | own})
    return found


def label_name(key: str) -> str:
    """As Prometheus spells a Kubernetes label: app.kubernetes.io/name -> app_kubernetes_io_name."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", key)


class Pods:
    """The API server's pods; every state of them in turn."""

    def __init__(self, kubeconfig: Path) -> None:
        document = yaml.safe_load(kubeconfig.read_text())
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
        self._server = cluster["server"]
        self._headers = {"Authorization": f"Bearer {user['token']}", "User-Agent": "cpt-local-discovery"}
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def states(self) -> Iterator[dict[str, dict[str, Any]]]:
        """All pods by uid, once and then after each change, until the watch ends or the server goes away."""
        with self._get(_PODS) as answer:
            listed = json.load(answer)
        pods = {pod["metadata"]["uid"]: pod for pod in listed["items"]}
        yield pods
        version = listed["metadata"]["resourceVersion"]
        with self._get(f"{_PODS}?watch=1&resourceVersion={version}&timeoutSeconds={_WATCH_SECONDS}") as answer:
            for line in answer:
                event = json.loads(line)
                if event["type"] == "ERROR":  # the version is too old: list again
                    return
                uid = event["object"]["metadata"]["uid"]
                pods.pop(uid, None)
                if event["type"] != "DELETED":
                    pods[uid] = event["object"]
                yield pods

    def _get(self, path: str) -> Any:
        request = urllib.request.Request(self._server + path, headers=self._headers)  # noqa: S310 - our own https address
        return self._opener.open(request, timeout=_WATCH_SECONDS + 30)


def write(file: Path, pods: dict[str, dict[str, Any]]) -> None:
    """Replace the file if its content would be another: most changes of pods change no target."""
    text = json.dumps([target for uid in sorted(pods) for target in targets(pods[uid])], indent=1)
    if file.exists() and file.read_text() == text:
        return
    draft = file.with_suffix(".new")
    draft.write_text(text)
    draft.replace(file)


def main() -> None:
    """Run until killed."""
    kubeconfig, file = map(Path, sys.argv[1:])
    pods = Pods(kubeconfig)
    while True:
        try:
            for state in pods.states():
                write(file, state)
        except (urllib.error.URLError, OSError) as error:
            print(f"the API server does not answer: {error}", flush=True)
            time.sleep(_RETRY_SECONDS)


if __name__ == "__main__":
    main()
