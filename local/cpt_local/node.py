"""A node: containerd, kubelet and kube-proxy in network, mount and PID namespaces of their own.

    start(cluster, "node-1")     returns when containerd answers; join(…) makes it a Ready node
    kill_node(cluster, "node-2") one `kill -9` of one process: everything on the node is gone at once, as by a power cut

What programs write outside the cluster's folder (/run, /var/lib, /var/log) is hidden behind mounts of the node's own,
and so is every mount that the kubelet and containerd make: nothing of it is seen by this machine, or stays.
"""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import yaml

from cpt_local import cgroups, network
from cpt_local.cluster import Cluster
from cpt_local.errors import LocalError, NotReadyError
from cpt_local.images import PAUSE, HostFolder
from cpt_local.pki import directory, kubeconfig
from cpt_local.processes import daemon_pid, kill, log_file, log_tail, run, start_daemon, wait_for, wait_for_daemon

_START_SECONDS = 60.0
_SOCKET = "/run/containerd/containerd.sock"
"""As the node sees it."""
HIDDEN = ("/run", "/var/lib", "/var/log")
"""Folders of this machine that a node does not see."""
FAKE_GPU = "cpt.dev/fake-gpu"
"""An extended resource: requests for it are scheduled as for a GPU, and hold nothing."""

FIRST = {"kubernetes.io/hostname": "node-1"}
"""Where the operators run, so that a test may lose any other node."""

_KERNEL_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What the kubelet insists on; shown to it, not set: they are this machine's."""


def start(cluster: Cluster, node: str, shown: list[HostFolder]) -> None:
    """Start an empty node with its container runtime; every container sees the folders `shown`, read-only."""
    folder = cluster.node_folder(node)
    for part in ("lib", "log", "cni", "sys"):
        (folder / part).mkdir(parents=True)
    cgroups.create(cluster.name, node)
    network.create_node(cluster, node)
    (folder / "resolv.conf").write_text(f"nameserver {cluster.address}\n")
    (folder / "cni/10-bridge.conflist").write_text(json.dumps(_bridge(cluster, node)))
    (folder / "base-spec.json").write_text(json.dumps(_base_spec(shown)))
    (folder / "containerd.toml").write_text(_containerd(folder))
    (folder / "start.sh").write_text(_start_script(folder))
    start_daemon(
        f"{node}-containerd",
        [
            *network.enter(cluster.namespace(node)),
            # a first process of its own, that ends with unshare, and all others with it
            *("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("sh", "-eu", str(folder / "start.sh")),
        ],
        cluster.folder,
    )
    wait_for_daemon(cluster.folder, f"{node}-containerd", lambda: _containerd_answers(cluster, node), _START_SECONDS)


def import_images(cluster: Cluster, node: str, archive: Path) -> None:
    """Give the images of an archive to a node."""
    _inside(cluster, node, "ctr", "-a", _SOCKET, "-n", "k8s.io", "images", "import", str(archive))


def join(cluster: Cluster, node: str, fake_gpus: int) -> None:
    """Start kubelet and kube-proxy; return when the node is Ready and has its fake GPUs."""
    folder = cluster.node_folder(node)
    (folder / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet(cluster, node)))
    start_daemon(
        f"{node}-kubelet",
        [
            *_enter(cluster, node),
            cluster.program("kubelet"),
            f"--config={folder / 'kubelet.yaml'}",
            f"--kubeconfig={kubeconfig(cluster, node)}",
            f"--hostname-override={node}",
            f"--node-ip={cluster.node_address(node)}",
        ],
        cluster.folder,
    )
    start_daemon(
        f"{node}-kube-proxy",
        [
            *_enter(cluster, node),
            cluster.program("kube-proxy"),
            f"--kubeconfig={kubeconfig(cluster, 'proxy')}",
            f"--hostname-override={node}",
            f"--cluster-cidr={network.PODS}",
            "--proxy-mode=nftables",
            # both are the whole machine's
            "--conntrack-max-per-core=0",
            "--conntrack-min=0",
        ],
        cluster.folder,
    )
    _wait_until_ready(cluster, node)
    if fake_gpus:
        amounts = {"status": {part: {FAKE_GPU: str(fake_gpus)} for part in ("capacity", "allocatable")}}
        cluster.kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", json.dumps(amounts))


def is_ready(cluster: Cluster, node: str) -> bool:
    """Whether the node's condition Ready is True."""
    query = '-o=jsonpath={.status.conditions[?(@.type=="Ready")].status}'
    return cluster.kubectl("get", "node", node, "--ignore-not-found", query) == "True"


def is_alive(cluster: Cluster, node: str) -> bool:
    """Whether its first process lives."""
    return daemon_pid(cluster.folder, f"{node}-containerd") is not None


def kill_node(cluster: Cluster, node: str) -> None:
    """Lose the node: every process on it is killed at once, nothing is told to anybody.

    Raises LocalError when there is no such node, or it is dead.
    """
    pid = daemon_pid(cluster.folder, f"{node}-containerd") if node in cluster.node_names else None
    if pid is None:
        alive = [name for name in cluster.node_names if is_alive(cluster, name)]
        raise LocalError(f"cluster {cluster.name} has no living node {node!r}; alive: {', '.join(alive) or 'none'}")
    kill(pid)
    wait_for(f"the end of {node}", lambda: not is_alive(cluster, node), 10, lambda: f"process {pid} cannot be killed")


def remove(cluster: Cluster, node: str) -> None:
    """Remove what is left of a node: processes, namespace, control groups, files."""
    network.destroy(cluster.namespace(node))
    cgroups.remove(cluster.name, node)
    shutil.rmtree(cluster.node_folder(node), ignore_errors=True)


def _wait_until_ready(cluster: Cluster, node: str) -> None:
    daemon = f"{node}-kubelet"
    try:
        for state in ("create", "condition=Ready"):
            cluster.kubectl("wait", f"--for={state}", f"node/{node}", f"--timeout={_START_SECONDS:.0f}s")
    except LocalError as error:
        log = log_file(cluster.folder, daemon)
        raise NotReadyError(f"{node}: {error}; its log {log} ends:\n{log_tail(cluster.folder, daemon)}") from None


def _start_script(folder: Path) -> str:
    binds = [(folder / "lib", "/var/lib"), (folder / "log", "/var/log")]
    for setting, value in _KERNEL_SETTINGS.items():
        file = folder / "sys" / setting.replace("/", ".")
        file.write_text(f"{value}\n")
        binds.append((file, f"/proc/sys/{setting}"))
    lines = [
        # the kubelet shares mounts with containers: among themselves, never with this machine
        "mount --make-rshared /",
        *(f"mount --bind {shlex.quote(str(source))} {target}" for source, target in binds),
        "mount -t tmpfs -o mode=755 node /run",
        # tini is the first process, so that shims which have ended are reaped
        f"exec tini -s -- containerd -c {shlex.quote(str(folder / 'containerd.toml'))}",
    ]
    return "\n".join(lines) + "\n"


def _containerd(folder: Path) -> str:
    """containerd 1.6 and 1.7; restrict_oom_score_adj: without CAP_SYS_RESOURCE no sandbox would start."""
    return f"""\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "{_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder / "cni"}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    base_runtime_spec = "{folder / "base-spec.json"}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


def _bridge(cluster: Cluster, node: str) -> dict[str, object]:
    addresses = {
        "type": "host-local",
        "dataDir": "/run/cni",
        "ranges": [[{"subnet": cluster.pod_network(node)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "ipMasq": False, "hairpinMode": True}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge | {"ipam": addresses}, ports]}


def _base_spec(shown: list[HostFolder]) -> dict[str, object]:
    spec: dict[str, object] = json.loads(run("ctr", "oci", "spec"))
    mounts = spec["mounts"]
    assert isinstance(mounts, list)
    mounts.extend(
        {"destination": str(path), "type": "bind", "source": str(path), "options": ["rbind", "ro", "nosuid", "nodev"]}
        for path in shown
    )
    return spec


def _kubelet(cluster: Cluster, node: str) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{_SOCKET}",
        # only the API server, by its certificate
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(directory(cluster) / "ca.crt")},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/cpt.{cluster.name}/{node}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "protectKernelDefaults": True,
        "maxOpenFiles": 20000,
        "oomScoreAdj": 0,
        "imageGCHighThresholdPercent": 100,
        "clusterDNS": [cluster.address],
        "clusterDomain": "cluster.local",
        "resolvConf": str(cluster.node_folder(node) / "resolv.conf"),
        "volumePluginDir": str(cluster.node_folder(node) / "volume-plugins"),
        "nodeLeaseDurationSeconds": 20,
        # a changed Secret reaches its pods after this time: training-operator waits for its certificates
        "syncFrequency": "3s",
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
    }


def _first_process(cluster: Cluster, node: str) -> int:
    unshare = daemon_pid(cluster.folder, f"{node}-containerd")
    if unshare is None:
        raise NotReadyError(
            f"{node} is dead: start it with `python -m cpt_local start-node --name {cluster.name} {node}`"
        )
    children = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
    if not children:
        raise NotReadyError(f"{node} is only just being started")
    return int(children[0])


def _enter(cluster: Cluster, node: str) -> list[str]:
    return ["nsenter", "-t", str(_first_process(cluster, node)), "--mount", "--net", "--pid", "--"]


def _inside(cluster: Cluster, node: str, *command: str) -> str:
    return run(*_enter(cluster, node), *command)


def _containerd_answers(cluster: Cluster, node: str) -> bool:
    try:
        _inside(cluster, node, "ctr", "-a", _SOCKET, "version")
    except LocalError:
        return False
    return True
