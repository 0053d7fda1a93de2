"""etcd, API server, controller manager, scheduler and CoreDNS, as plain processes in the control plane's namespace.

Worth knowing: the audit log holds all writes, and all reads by service accounts, at the metadata level; a node that is
silent for 20 s is lost (the default is 50 s), so that tests of node losses are short. Price: 5 s until the API server
answers, 500 MB of memory.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request

from cpt_local.cluster import Cluster
from cpt_local.network import SERVICES, enter
from cpt_local.pki import directory, kubeconfig
from cpt_local.processes import start_daemon, wait_for_daemon

_START_SECONDS = 60.0
NODE_MONITOR_GRACE_SECONDS = 20
"""A node that is silent for so long is lost."""

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}


def start_api_server(cluster: Cluster) -> None:
    """Start etcd and the API server; return when it is ready."""
    pki = directory(cluster)
    policy = cluster.folder / "audit-policy.json"
    policy.write_text(json.dumps(AUDIT_POLICY))
    # the cluster lives for hours at most: without fsync etcd writes at the speed of memory
    _start(cluster, "etcd", "--data-dir=etcd", "--unsafe-no-fsync", "--log-level=warn")
    _start(
        cluster,
        "kube-apiserver",
        "--etcd-servers=http://127.0.0.1:2379",
        f"--advertise-address={cluster.address}",
        f"--tls-cert-file={pki / 'api.crt'}",
        f"--tls-private-key-file={pki / 'api.key'}",
        f"--token-auth-file={pki / 'tokens.csv'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'api-client.crt'}",
        f"--kubelet-client-key={pki / 'api-client.key'}",
        "--authorization-mode=Node,RBAC",
        f"--service-cluster-ip-range={SERVICES}",
        f"--service-account-key-file={pki / 'sa.key'}",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--allow-privileged=true",
        "--kubelet-preferred-address-types=InternalIP",
        # webhooks are called at their pods' addresses: no kube-proxy works in this namespace
        "--enable-aggregator-routing=true",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={cluster.audit_log}",
    )
    wait_for_daemon(cluster.folder, "kube-apiserver", lambda: is_ready(cluster), _START_SECONDS)


def start_controllers(cluster: Cluster) -> None:
    """Start the controller manager and the scheduler; nobody need wait for them."""
    pki = directory(cluster)
    _start(
        cluster,
        "kube-controller-manager",
        f"--kubeconfig={kubeconfig(cluster, 'controllers')}",
        f"--service-account-private-key-file={pki / 'sa.key'}",
        f"--root-ca-file={pki / 'ca.crt'}",
        "--leader-elect=false",
        f"--node-monitor-grace-period={NODE_MONITOR_GRACE_SECONDS}s",
        # tests delete a thousand trials at once; 20 a second are meant for a control plane that others use too
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    )
    _start(cluster, "kube-scheduler", f"--kubeconfig={kubeconfig(cluster, 'scheduler')}", "--leader-elect=false")


def start_dns(cluster: Cluster) -> None:
    """Start CoreDNS; return when it answers. It knows the cluster's names, the rest of the world does not exist."""
    corefile = cluster.folder / "Corefile"
    corefile.write_text(
        ".:53 {\n"
        "  errors\n"
        f"  ready {cluster.address}:8181\n"
        f"  kubernetes cluster.local in-addr.arpa {{\n    kubeconfig {kubeconfig(cluster, 'coredns')}\n  }}\n"
        "}\n"
    )
    _start(cluster, "coredns", f"-conf={corefile}")
    wait_for_daemon(cluster.folder, "coredns", lambda: answers(f"http://{cluster.address}:8181/ready"), _START_SECONDS)


def is_ready(cluster: Cluster) -> bool:
    """Whether the API server says that it is ready."""
    authority = directory(cluster) / "ca.crt"
    return authority.exists() and answers(f"{cluster.api_url}/readyz", ssl.create_default_context(cafile=authority))


def answers(url: str, context: ssl.SSLContext | None = None) -> bool:
    """Whether a GET is answered with success, past any proxy that this machine uses for the world."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _start(cluster: Cluster, program: str, *options: str) -> None:
    command = [*enter(cluster.namespace()), cluster.program(program), *options]
    start_daemon(program, command, cluster.folder)
