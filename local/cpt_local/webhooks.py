"""Webhooks of a program that runs beside the API server, not in a pod: called by address instead of by Service.

    serving = make(folder, port, authority="kueue-ca", service="kueue-webhook-service.kueue-system.svc")
    addressed(configuration, serving)          its webhooks lie at https://127.0.0.1:PORT/…

Upstream's managers make their certificates themselves, for the name of their Service. What they find in their Secret
they keep when it is good for that name; ours is good for 127.0.0.1 too. Price: half a second.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt_local.pki import make_certificate
from cpt_local.processes import run

_DAYS = "365"
"""They look 90 days ahead."""


@dataclass(frozen=True, slots=True)
class Serving:
    """Where webhooks are served, and with which certificate."""

    folder: Path
    """With tls.crt and tls.key, and the authority's ca.crt and ca.key."""
    port: int
    """On the loopback device."""

    def encoded(self, name: str) -> str:
        """A file in base64, as objects want it."""
        return base64.b64encode((self.folder / name).read_bytes()).decode()


def make(folder: Path, port: int, *, authority: str, service: str) -> Serving:
    """Make an authority of that name, and a certificate for the Service's name and the loopback address."""
    folder.mkdir(mode=0o700)
    # they read a key of this form only
    run("openssl", "genrsa", "-traditional", "-out", "ca.key", "2048", cwd=folder)
    run("openssl", "req", "-x509", "-key", "ca.key", "-out", "ca.crt", "-days", _DAYS, "-subj", f"/CN={authority}",
        "-addext", f"subjectAltName=DNS:{authority}", cwd=folder)  # fmt: skip
    make_certificate(folder, "tls", f"/CN={service}", f"DNS:{service},IP:127.0.0.1")
    return Serving(folder, port)


def secret(name: str, namespace: str, serving: Serving) -> dict[str, Any]:
    """The Secret in which the manager looks for its certificate."""
    files = ("ca.crt", "ca.key", "tls.crt", "tls.key")
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "data": {file: serving.encoded(file) for file in files},
    }


def addressed(configuration: Mapping[str, Any], serving: Serving) -> dict[str, Any]:
    """A webhook configuration, or a definition with a conversion webhook, with addresses in the place of Services."""
    changed: dict[str, Any] = copy.deepcopy(dict(configuration))
    webhooks = changed.get("webhooks") or [changed["spec"]["conversion"]["webhook"]]
    for webhook in webhooks:
        path = webhook["clientConfig"]["service"].get("path", "/")
        webhook["clientConfig"] = {
            "url": f"https://127.0.0.1:{serving.port}{path}",
            "caBundle": serving.encoded("ca.crt"),
        }
    return changed
