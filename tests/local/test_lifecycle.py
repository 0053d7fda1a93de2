"""`up` and `down` on this machine: killed at any moment, side by side, and gone without a trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cpt_local import node, s3, tenants
from cpt_local.cgroups import leftovers
from cpt_local.cluster import Cluster, state_root
from cpt_local.down import down
from cpt_local.errors import LocalError
from cpt_local.images import PYTHON
from cpt_local.network import host_routes, of_cluster
from cpt_local.processes import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

BARE = ("--without-chart", "--without-training-operator")


def start_up(name: str, *options: str) -> subprocess.Popen[str]:
    """`up`, whose progress can be read."""
    command = [sys.executable, "-u", "-m", "cpt_local", "up", f"--name={name}", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def up(name: str, *options: str) -> Cluster:
    """A running cluster."""
    with start_up(name, *options) as process:
        said, _ = process.communicate()
    assert process.returncode == 0, said
    return Cluster.find(name)


def traces(name: str) -> list[str]:
    """Everything of a cluster that this machine still has."""
    folder = state_root() / name
    processes = [
        entry.name
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and str(folder).encode() in _command_line(entry)
    ]
    mounts = [
        line
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if f"cpt.{name}" in line or str(folder) in line
    ]
    files = [path for path in (folder, state_root() / f"{name}.lock") if path.exists()]
    return (
        [f"process {pid}" for pid in processes] + mounts + list(map(str, [*files, *leftovers(name), *of_cluster(name)]))
    )


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture(scope="module")
def name() -> Iterator[str]:
    """A cluster's name for this module, removed whatever happens."""
    name = f"life-{os.getpid()}"
    yield name
    down(name)


@pytest.fixture(scope="module")
def cluster(name: str) -> Cluster:
    """Two nodes, S3 and nothing else."""
    down(name)
    return up(name, *BARE, "--nodes=2", "--namespace=team-a")


@pytest.mark.parametrize(
    ("options", "moment"),
    [
        (BARE, "network"),
        (BARE, "certificates"),
        (BARE, "containerd"),
        (BARE, "API server"),
        (BARE, "images"),
        (BARE, "Ready"),
        pytest.param((), "DNS", id="helm and kubectl at work"),
    ],
)
def test_killed_up_is_removed(name: str, options: tuple[str, ...], moment: str) -> None:
    """`kill -9` of `up` just after any of its steps: `down` leaves nothing, and is content with nothing."""
    with start_up(name, *options) as process:
        assert process.stdout is not None
        assert any(moment in line for line in process.stdout)
        process.send_signal(signal.SIGKILL)
    assert down(name)
    assert traces(name) == []
    assert not down(name)


def test_killed_up_is_cleaned_by_the_next(name: str) -> None:
    """The next `up` makes a whole cluster of what a killed one left."""
    with start_up(name, *BARE) as process:
        assert process.stdout is not None
        assert any("containerd" in line for line in process.stdout)
        process.send_signal(signal.SIGKILL)
    cluster = up(name, *BARE)
    assert cluster.kubectl("get", "nodes", "-o=name").split() == ["node/node-1"]


class TestRunning:
    """What a running cluster gives to tests."""

    def test_second_up_keeps_it(self, cluster: Cluster) -> None:
        """`up` over a whole cluster changes nothing."""
        before = cluster.kubectl("get", "namespace", "default", "-o=jsonpath={.metadata.uid}")
        assert up(cluster.name, *BARE, "--nodes=2") == cluster
        assert cluster.kubectl("get", "namespace", "default", "-o=jsonpath={.metadata.uid}") == before

    def test_other_size_is_refused(self, cluster: Cluster) -> None:
        """A running cluster is never thrown away for another number of nodes."""
        with start_up(cluster.name, *BARE) as process:
            said, _ = process.communicate()
        assert process.returncode == 1
        assert f"down --name {cluster.name}" in said

    def test_identities_keep_to_their_prefix(self, cluster: Cluster) -> None:
        """A namespace's trials write below its own prefix, and read texts; the operator writes nothing."""
        from botocore.exceptions import ClientError

        team, operator = s3.client(cluster, "team-a"), s3.client(cluster, "operator")
        s3.client(cluster).put_object(Bucket=s3.BUCKET, Key="sources/text", Body=b"text")
        team.put_object(Bucket=s3.BUCKET, Key="trials/team-a/d/result.json", Body=b"{}")
        assert team.get_object(Bucket=s3.BUCKET, Key="sources/text")["Body"].read() == b"text"
        assert operator.get_object(Bucket=s3.BUCKET, Key="trials/team-a/d/result.json")["Body"].read() == b"{}"
        for client, key in ((team, "trials/demo/x"), (team, "sources/x"), (operator, "trials/team-a/x")):
            with pytest.raises(ClientError, match="AccessDenied"):
                client.put_object(Bucket=s3.BUCKET, Key=key, Body=b"")
        with pytest.raises(ClientError, match="PreconditionFailed"):
            team.put_object(Bucket=s3.BUCKET, Key="trials/team-a/d/result.json", Body=b"", IfNoneMatch="*")

    def test_store_outage_loses_nothing(self, cluster: Cluster) -> None:
        """S3 that was killed comes back with its objects and identities, those added at run time too."""
        tenants.add(cluster, "team-b")
        s3.client(cluster, "team-b").put_object(Bucket=s3.BUCKET, Key="data/team-b/x", Body=b"kept")
        s3.stop(cluster)
        s3.start(cluster)
        kept = s3.client(cluster, "team-b").get_object(Bucket=s3.BUCKET, Key="data/team-b/x")
        assert kept["Body"].read() == b"kept"

    def test_pods_reach_each_other_and_not_the_world(self, cluster: Cluster) -> None:
        """Pods on two nodes meet by a Service; this machine's address is unreachable from them."""
        client = CLIENT.replace("S3", cluster.address).replace("MACHINE", cluster.host_address)
        pods = [SERVICE, _pod("server", "node-1", SERVER), _pod("client", "node-2", client)]
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}))
        for pod in ("server", "client"):
            cluster.kubectl(
                "-n=demo", "wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{pod}", "--timeout=90s"
            )
        assert cluster.kubectl("-n=demo", "logs", "client").split() == ["hello", "s3", "no-way-out"]

    def test_lost_node_comes_back(self, cluster: Cluster) -> None:
        """A killed node is noticed, a second kill is refused, and it comes back Ready."""
        node.kill_node(cluster, "node-2")
        with pytest.raises(LocalError, match="alive: node-1"):
            node.kill_node(cluster, "node-2")
        cluster.kubectl("wait", "--for=condition=Ready=unknown", "node/node-2", "--timeout=60s")
        subprocess.run(
            [sys.executable, "-m", "cpt_local", "start-node", f"--name={cluster.name}", "node-2"], check=True
        )
        assert node.is_ready(cluster, "node-2")

    def test_side_by_side(self, cluster: Cluster) -> None:
        """A second cluster has its own addresses, and its end is not the first one's."""
        other = up(f"{cluster.name}-b", *BARE)
        try:
            assert other.number != cluster.number
            assert other.kubectl("get", "nodes", "-o=name").split() == ["node/node-1"]
        finally:
            down(other.name)
        assert traces(other.name) == []
        assert cluster.kubectl("get", "nodes", "-o=name").split() == ["node/node-1", "node/node-2"]

    def test_down_leaves_nothing(self, cluster: Cluster) -> None:
        """No process, mount, namespace, control group, route or file."""
        assert down(cluster.name)
        assert traces(cluster.name) == []
        wait_for(
            "the route's end", lambda: not any(cluster.address in r for r in host_routes()), 10, lambda: "it stays"
        )


def _pod(name: str, node_name: str, script: str) -> dict[str, Any]:
    """A pod in `demo` that runs Python on one node, as `restricted` wants it."""
    container = {
        "name": "main",
        "image": PYTHON,
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", script],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "nodeName": node_name,
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    metadata = {"name": name, "namespace": "demo", "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "server", "namespace": "demo"},
    "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 5000}]},
}

SERVER = """
import socket
with socket.create_server(("", 5000)) as server:
    connection, _ = server.accept()
    connection.sendall(b"hello")
"""

CLIENT = """
import socket, time
while True:
    try:
        with socket.create_connection(("server", 80), timeout=5) as connection:
            print(connection.recv(5).decode())
        break
    except OSError:
        time.sleep(0.2)
socket.create_connection(("S3", 8333)).close()
print("s3")
try:
    socket.create_connection(("MACHINE", 22), timeout=5)
except ConnectionRefusedError:
    print("this machine answers")
except OSError:
    print("no-way-out")
"""
