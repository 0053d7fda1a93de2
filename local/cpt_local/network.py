"""Network namespaces: one for the control plane, one for each node, a cable to this machine.

    this machine 10.200.7.254 ──cable── 10.200.7.1 control plane ──bridge── 10.200.7.11 node-1 ── pods 10.244.1.0/24
                                                                     └───── 10.200.7.12 node-2 ── pods 10.244.2.0/24

The control plane forwards nothing, so nodes and pods reach it and each other but neither this machine nor the world,
and nothing of the cluster listens where another machine could reach it. All of it ends with the namespaces.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from cpt_local.cluster import Cluster
from cpt_local.errors import CommandError
from cpt_local.processes import in_namespace, kill, run, wait_for

SERVICES = "10.96.0.0/16"
"""Addresses of Services, the same in every cluster."""
PODS = "10.244.0.0/16"
"""Addresses of pods, the same in every cluster."""
API_SERVICE = "10.96.0.1"
"""The first of SERVICES, which Kubernetes gives to the API server."""
_NAMESPACES = Path("/run/netns")


def host_routes() -> list[str]:
    """Networks that this machine has routes to."""
    return [str(route["dst"]) for route in json.loads(run("ip", "-j", "-4", "route", "show", "table", "all"))]


def create_control_plane(cluster: Cluster) -> None:
    """Make the namespace of API server, S3, Prometheus and DNS, and the cable to this machine."""
    inside = cluster.namespace().name
    cable = _cable(cluster)
    run("ip", "netns", "add", inside)
    _batch(
        f"link add {cable} type veth peer name host netns {inside}",
        f"addr add {cluster.host_address}/32 peer {cluster.address} dev {cable}",
        f"link set {cable} up",
    )
    _batch(
        "link set lo up",
        f"addr add {cluster.address}/32 peer {cluster.host_address} dev host",
        "link set host up",
        "link add nodes type bridge",
        f"addr add {cluster.address}/24 dev nodes",
        "link set nodes up",
        namespace=inside,
    )


def create_node(cluster: Cluster, node: str) -> None:
    """Make a node's namespace, plugged into the control plane's bridge."""
    inside, control_plane = cluster.namespace(node).name, cluster.namespace().name
    run("ip", "netns", "add", inside)
    _batch(f"link add {node} type veth peer name eth0 netns {inside}", namespace=control_plane)
    _batch(
        f"link set {node} master nodes",
        f"link set {node} up",
        f"route replace {cluster.pod_network(node)} via {cluster.node_address(node)}",
        namespace=control_plane,
    )
    others = [other for other in cluster.node_names if other != node]
    _batch(
        "link set lo up",
        f"addr add {cluster.node_address(node)}/24 dev eth0",
        "link set eth0 up",
        # kube-proxy replaces the address of a Service before the packet leaves, but only if it has a way to leave
        f"route add {SERVICES} dev eth0",
        *(f"route add {cluster.pod_network(other)} via {cluster.node_address(other)}" for other in others),
        namespace=inside,
    )
    run(*enter(cluster.namespace(node)), "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")


def enter(namespace: Path) -> list[str]:
    """The beginning of a command that runs in a namespace."""
    return ["nsenter", f"--net={namespace}", "--"]


def of_cluster(name: str) -> list[Path]:
    """The namespaces of a cluster that exist, also of one whose files are gone."""
    return sorted([*_NAMESPACES.glob(f"cpt.{name}"), *_NAMESPACES.glob(f"cpt.{name}.node-*")])


def destroy(namespace: Path) -> None:
    """End every process in a namespace, then the namespace; nothing if there is none.

    Raises NotReadyError when a process does not end.
    """

    def empty() -> bool:
        processes = list(in_namespace(namespace))
        for pid in processes:
            kill(pid)
        return not processes

    wait_for(
        f"the end of {namespace.name}", empty, 10, lambda: f"processes {list(in_namespace(namespace))} cannot be killed"
    )
    if namespace.exists():
        run("ip", "netns", "del", namespace.name)


def cut_cable(cluster: Cluster) -> None:
    """Remove this machine's end, which otherwise stays until the kernel has cleaned up the namespace."""
    cable = Path("/sys/class/net", _cable(cluster))
    if cable.exists():
        with contextlib.suppress(CommandError):  # the kernel was faster
            run("ip", "link", "del", cable.name)
    wait_for(f"the end of {cable.name}", lambda: not cable.exists(), 10, lambda: "`ip link del` does not remove it")


def _cable(cluster: Cluster) -> str:
    return f"cpt{cluster.number}"


def _batch(*commands: str, namespace: str | None = None) -> None:
    where = ["-n", namespace] if namespace else []
    run("ip", *where, "-batch", "-", stdin="\n".join(commands) + "\n")
