"""Who is who: one authority per cluster, the API server's certificate, and a bearer token for each component.

Every component has its own user, so that the audit log tells them apart. Where Kubernetes' own roles fit (scheduler,
kube-proxy, kubelets) they are used; the others are administrators by group. All secrets are random, made by `up`, and
lie in the cluster's folder, readable by its owner only.
"""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path

import yaml

from cpt_local.cluster import Cluster
from cpt_local.network import API_SERVICE
from cpt_local.processes import run

_DAYS = "365"
_EC_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_ADMINISTRATORS = "system:masters"


def create(cluster: Cluster) -> None:
    """Make certificates, tokens and a kubeconfig for each user."""
    folder = directory(cluster)
    folder.mkdir(mode=0o700)
    run("openssl", "req", "-x509", *_EC_KEY, "-keyout", "ca.key", "-out", "ca.crt", "-days", _DAYS,
        "-subj", f"/CN=cpt-local {cluster.name}", cwd=folder)  # fmt: skip
    names = [f"IP:{address}" for address in ("127.0.0.1", cluster.address, API_SERVICE)]
    make_certificate(folder, "api", "/CN=kube-apiserver", ",".join([*names, "DNS:kubernetes.default.svc"]))
    # what the API server shows to kubelets, which let nobody else in
    make_certificate(folder, "api-client", f"/O={_ADMINISTRATORS}/CN=kube-apiserver", "DNS:kube-apiserver")
    run("openssl", "genrsa", "-out", "sa.key", "2048", cwd=folder)
    users = _users(cluster)
    tokens = {user: secrets.token_hex(16) for user in users}
    lines = [f'{tokens[user]},{name},{name},"{group}"' for user, (name, group) in users.items()]
    write_secret(folder / "tokens.csv", "\n".join(lines) + "\n")
    authority = base64.b64encode((folder / "ca.crt").read_bytes()).decode()
    for user, token in tokens.items():
        write_secret(kubeconfig(cluster, user), _kubeconfig(cluster, user, token, authority))


def directory(cluster: Cluster) -> Path:
    """Where certificates and tokens lie."""
    return cluster.folder / "pki"


def kubeconfig(cluster: Cluster, user: str) -> Path:
    """Of one component."""
    return cluster.kubeconfig if user == "admin" else directory(cluster) / f"{user}.kubeconfig"


def write_secret(file: Path, text: str) -> None:
    """Write a file that only its owner may read, at once and whole: a killed command leaves no half of it."""
    draft = file.with_name(file.name + ".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)
    draft.replace(file)


def _users(cluster: Cluster) -> dict[str, tuple[str, str]]:
    """Component -> user name and group."""
    components = {
        "admin": ("admin", _ADMINISTRATORS),
        "controllers": ("system:kube-controller-manager", _ADMINISTRATORS),
        "scheduler": ("system:kube-scheduler", ""),
        "proxy": ("system:kube-proxy", ""),
        "coredns": ("coredns", _ADMINISTRATORS),
        "prometheus": ("prometheus", _ADMINISTRATORS),
        "kwok": ("kwok", _ADMINISTRATORS),
    }
    return components | {node: (f"system:node:{node}", "system:nodes") for node in cluster.node_names}


def make_certificate(folder: Path, name: str, subject: str, alternatives: str) -> None:
    """Make NAME.key and NAME.crt for those names and addresses, by the authority that lies there."""
    (folder / f"{name}.ext").write_text(f"subjectAltName={alternatives}\nbasicConstraints=CA:FALSE\n")
    run("openssl", "req", *_EC_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject, cwd=folder)
    run("openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
        "-days", _DAYS, "-extfile", f"{name}.ext", "-out", f"{name}.crt", cwd=folder)  # fmt: skip


def _kubeconfig(cluster: Cluster, user: str, token: str, authority: str) -> str:
    context = f"cpt-local-{cluster.name}"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": context, "cluster": {"server": cluster.api_url, "certificate-authority-data": authority}}
        ],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": user}}],
        "current-context": context,
    }
    return yaml.safe_dump(document, sort_keys=False)
