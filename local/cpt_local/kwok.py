"""Fake nodes and pods for tests of scale: kwok keeps them in states that our stages say, against the real API server.

    add_node(cluster, "fake-1", gpus=8)                   a Ready node that runs nothing
    resources: {profile: kwok}                            in an experiment: its pods go to such nodes, and no others do
    kubectl annotate pod NAME cpt.local/exit-code=0       ends a pod there as Succeeded
    kubectl annotate pod NAME cpt.local/exit-code=143     … as Failed, with this exit code

Pods become Running at once and stay so until they are annotated: who knows what a trial "did" is the test, which puts
its result first and ends its pod then.
"""

from __future__ import annotations

import json

from cpt_local import programs
from cpt_local.cluster import Cluster
from cpt_local.network import enter
from cpt_local.node import FAKE_GPU
from cpt_local.pki import kubeconfig
from cpt_local.processes import start_daemon, wait_for_daemon

EXIT_CODE = "cpt.local/exit-code"
"""Annotation of a pod: end it with this code."""
LABEL = ("kwok.x-k8s.io/node", "fake")
"""Of fake nodes, as label, annotation and taint."""
_START_SECONDS = 60.0

_END_STAGE = """\
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata:
  name: pod-end
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
    - {key: .metadata.deletionTimestamp, operator: DoesNotExist}
    - {key: .status.phase, operator: In, values: [Running]}
    - {key: '.metadata.annotations["cpt.local/exit-code"]', operator: Exists}
  next:
    statusTemplate: |
      {{ $now := Now }}
      {{ $code := index .metadata.annotations "cpt.local/exit-code" }}
      {{ $root := . }}
      containerStatuses:
      {{ range $index, $item := .spec.containers }}
      {{ $origin := index $root.status.containerStatuses $index }}
      - image: {{ $item.image | Quote }}
        name: {{ $item.name | Quote }}
        ready: false
        restartCount: 0
        started: false
        state:
          terminated:
            exitCode: {{ $code }}
            finishedAt: {{ $now | Quote }}
            reason: {{ if eq $code "0" }}Completed{{ else }}Error{{ end }}
            startedAt: {{ $origin.state.running.startedAt | Quote }}
      {{ end }}
      phase: {{ if eq $code "0" }}Succeeded{{ else }}Failed{{ end }}
"""


def start(cluster: Cluster) -> None:
    """Start it; return when it works."""
    upstream = programs.folder("kwok") / "kustomize"
    stage = cluster.folder / "kwok-pod-end.yaml"
    stage.write_text(_END_STAGE)
    stages = [
        upstream / "stage/node/fast/node-initialize.yaml",
        upstream / "stage/pod/fast/pod-ready.yaml",
        upstream / "stage/pod/fast/pod-delete.yaml",
        stage,
    ]
    cluster.kubectl("apply", "--server-side", "-k", str(upstream / "crd"))
    command = [
        *enter(cluster.namespace()),
        cluster.program("kwok"),
        f"--kubeconfig={kubeconfig(cluster, 'kwok')}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={'='.join(LABEL)}",
        *(f"--config={file}" for file in stages),
    ]
    start_daemon("kwok", command, cluster.folder)
    wait_for_daemon(cluster.folder, "kwok", lambda: "kwok" in _log(cluster), _START_SECONDS)


def add_node(cluster: Cluster, name: str, *, gpus: int = 0) -> None:
    """Make a fake node that takes up to 110 pods."""
    amounts = {"cpu": "1000", "memory": "1Ti", "pods": "110", FAKE_GPU: str(gpus)}
    key, value = LABEL
    document = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": {key: value}, "labels": {"kubernetes.io/hostname": name, key: value}},
        "spec": {"taints": [{"key": key, "value": value, "effect": "NoSchedule"}]},
        "status": {"capacity": amounts, "allocatable": amounts},
    }
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(document))
    cluster.kubectl("wait", "--for=condition=Ready", f"node/{name}", "--timeout=30s")


def _log(cluster: Cluster) -> str:
    return (cluster.folder / "logs" / "kwok.log").read_text()
