"""A real control plane for tests: etcd, API server and controller manager as plain processes on the loopback device.

No node and no scheduler: pods are objects that a test moves on. Certificates are the API server's own; every write is
in the audit log. Price: 5 s to start, 400 MB of memory.
"""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_START_SECONDS = 60
_CONTROLLERS = "garbage-collector-controller,namespace-controller,serviceaccount-controller"
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}


@dataclass(frozen=True)
class ControlPlane:
    """Where it is, and how to speak to it."""

    folder: Path
    url: str
    kubeconfig: Path
    """Of an administrator."""

    def kubeconfig_for(self, token: str, name: str) -> Path:
        """Of whoever has that token."""
        file = self.folder / f"{name}.kubeconfig"
        file.write_text(yaml.safe_dump(_kubeconfig(self.url, self.folder / "pki" / "apiserver.crt", token)))
        return file

    def audit(self, since: float = 0.0, user: str = "") -> list[dict[str, Any]]:
        """Requests of service accounts that began after `since` (seconds of the wall clock), in order."""
        lines = (self.folder / "audit.log").read_text().splitlines()
        events = [json.loads(line) for line in lines if line.endswith("}")]
        return [e for e in events if _seconds(e["requestReceivedTimestamp"]) >= since and user in e["user"]["username"]]


def _seconds(time_text: str) -> float:
    from cpt_operator import rfc3339

    return rfc3339.parse(time_text).timestamp()


def free_port() -> int:
    """Of the loopback device; weed wants the one 10,000 higher too."""
    while True:
        with socket.socket() as low, socket.socket() as high:
            low.bind(("127.0.0.1", 0))
            port: int = low.getsockname()[1]
            try:
                high.bind(("127.0.0.1", port + 10_000))
            except (OSError, OverflowError):
                continue
            return port


@contextmanager
def daemon(folder: Path, *command: str | Path, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives as long as the block; its log lies in `folder`."""
    name = Path(command[0]).name
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(list(map(str, command)), cwd=folder, stdout=log, stderr=log, env=env)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@contextmanager
def control_plane(programs: Path, folder: Path) -> Iterator[ControlPlane]:
    """Start everything, and end it."""
    token, pki = secrets.token_hex(16), folder / "pki"
    pki.mkdir()
    (folder / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
    (folder / "audit-policy.json").write_text(json.dumps(_AUDIT_POLICY))
    subprocess.run(["openssl", "genrsa", "-out", str(pki / "sa.key"), "2048"], check=True, capture_output=True)
    etcd, peer, port = free_port(), free_port(), free_port()
    url = f"https://127.0.0.1:{port}"
    plane = ControlPlane(folder, url, folder / "kubeconfig")
    with ExitStack() as running:
        running.enter_context(
            daemon(
                folder, programs / "etcd", "--data-dir=etcd", "--unsafe-no-fsync", "--log-level=error",
                f"--listen-client-urls=http://127.0.0.1:{etcd}", f"--advertise-client-urls=http://127.0.0.1:{etcd}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}", f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-cluster=default=http://127.0.0.1:{peer}",
            )
        )  # fmt: skip
        server = running.enter_context(
            daemon(
                folder, programs / "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{etcd}",
                "--bind-address=127.0.0.1", f"--secure-port={port}", f"--cert-dir={pki}",
                "--token-auth-file=tokens.csv", "--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16",
                f"--service-account-key-file={pki / 'sa.key'}", f"--service-account-signing-key-file={pki / 'sa.key'}",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--audit-policy-file=audit-policy.json", "--audit-log-path=audit.log",
                "--endpoint-reconciler-type=none",
            )
        )  # fmt: skip
        _wait_until_ready(plane, pki / "apiserver.crt", server)
        plane.kubeconfig.write_text(yaml.safe_dump(_kubeconfig(url, pki / "apiserver.crt", token)))
        running.enter_context(
            daemon(
                folder, programs / "kube-controller-manager", f"--kubeconfig={plane.kubeconfig}",
                "--bind-address=127.0.0.1", f"--secure-port={free_port()}", f"--cert-dir={pki}", "--leader-elect=false",
                f"--service-account-private-key-file={pki / 'sa.key'}", f"--controllers={_CONTROLLERS}",
                "--kube-api-qps=200", "--kube-api-burst=400",
            )
        )  # fmt: skip
        yield plane


def _wait_until_ready(plane: ControlPlane, authority: Path, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        if authority.exists() and _answers(f"{plane.url}/readyz", authority):
            return
        time.sleep(0.1)  # it offers nothing to watch while it starts
    raise RuntimeError(f"the API server is not ready: {(plane.folder / 'kube-apiserver.log').read_text()[-4000:]}")


def _answers(url: str, authority: Path) -> bool:
    try:
        context = ssl.create_default_context(cafile=authority)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        with opener.open(url, timeout=2):
            return True
    except OSError:
        return False


def _kubeconfig(url: str, authority: Path, token: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": {"server": url, "certificate-authority": str(authority)}}],
        "users": [{"name": "tests", "user": {"token": token}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
        "current-context": "tests",
    }


def objects_of(*files: Path) -> Sequence[dict[str, Any]]:
    """Every object of those YAML files."""
    return [document for file in files for document in yaml.safe_load_all(file.read_text()) if document]
