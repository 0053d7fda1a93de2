"""SeaweedFS as the artifact store: one bucket, and an identity for each role.

    admin        everything: puts the users' texts below sources/
    operator     reads trials/*, lists: what the chart asks of an administrator
    <namespace>  reads and writes trials/<namespace>/* and data/<namespace>/*, reads sources/*: its trials

Seen to honour prefixes, conditional writes (`If-None-Match: *`) and wrong secrets. Its other servers listen on the
loopback device of the control plane's namespace, so that no pod gets round the identities. Between themselves they talk
by sockets /tmp/seaweedfs-*-grpc-<port>.sock, whatever the namespace: the ports are different in each cluster.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
from pathlib import Path
from typing import Any

from cpt_local.cluster import Cluster, all_locked
from cpt_local.network import enter
from cpt_local.pki import write_secret
from cpt_local.processes import daemon_pid, kill, start_daemon, wait_for, wait_for_daemon

BUCKET = "cpt"
ADMIN, OPERATOR = "admin", "operator"
_START_SECONDS = 60.0
_GRPC_PORTS = 20_000
"""The first of four for each cluster."""
_FILE = "identities.json"


def start(cluster: Cluster) -> None:
    """Start it over what it holds already; return when the bucket takes objects."""
    folder = cluster.folder / "s3"
    (folder / "data").mkdir(exist_ok=True)
    remove_sockets(cluster)
    weed = Path(sys.prefix) / "bin" / "weed"
    command = [
        *enter(cluster.namespace()),
        *(str(weed), "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-volume.max=100", "-master.volumeSizeLimitMB=1024", "-master.telemetry=false"),
        # after a restart the only master waits so long, or twice that, for others
        "-master.electionTimeout=1s",
        *("-s3", f"-s3.ip.bind={cluster.address}", "-s3.port=8333", f"-s3.config={folder / _FILE}"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0"),
        *(f"-{server}.port.grpc={port}" for server, port in _grpc_ports(cluster).items()),
        *(f"-s3.localSocket={folder / 's3.sock'}", f"-filer.localSocket={folder / 'filer.sock'}"),
    ]
    start_daemon("s3", command, cluster.folder)
    wait_for_daemon(cluster.folder, "s3", lambda: _takes_objects(cluster), _START_SECONDS)


def stop(cluster: Cluster) -> None:
    """Kill it, as a test of an outage; its objects stay. `start` brings it back."""
    pid = daemon_pid(cluster.folder, "s3")
    if pid is not None:
        kill(pid)
        wait_for("the end of S3", lambda: daemon_pid(cluster.folder, "s3") is None, 10, lambda: f"process {pid} lives")


def remove_sockets(cluster: Cluster) -> None:
    """Remove the only files that it makes outside of the cluster's folder; it must not run."""
    for server, port in _grpc_ports(cluster).items():
        Path(f"/tmp/seaweedfs-{server}-grpc-{port}.sock").unlink(missing_ok=True)  # noqa: S108 - SeaweedFS's choice


def client(cluster: Cluster, identity: str = ADMIN) -> Any:
    """A boto3 client of one identity, past any proxy that this machine uses for the world."""
    import boto3
    from botocore.config import Config

    keys = cluster.s3_credentials(identity)
    return boto3.client(
        "s3",
        endpoint_url=cluster.s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        config=Config(proxies={}, retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=10),
    )


def add_identities(cluster: Cluster, names: list[str]) -> None:
    """Add identities that are not there yet, each with a new random secret, and have a running S3 know them.

    Raises NotReadyError when it does not take them up.
    """
    file = cluster.folder / "s3" / _FILE
    file.parent.mkdir(exist_ok=True)
    with all_locked():  # tests add namespaces at the same time
        known = json.loads(file.read_text())["identities"] if file.exists() else []
        new = [_identity(name) for name in names if name not in {identity["name"] for identity in known}]
        write_secret(file, json.dumps({"identities": [*known, *new]}, indent=1))
    pid = daemon_pid(cluster.folder, "s3")
    if pid is not None and new:
        os.kill(pid, signal.SIGHUP)
        added = [identity["name"] for identity in new]
        wait_for(
            f"S3 identity {', '.join(added)}",
            lambda: all(_lists(cluster, name) for name in added),
            10,
            lambda: "SeaweedFS ignored SIGHUP",
        )


def actions(name: str) -> list[str]:
    """What an identity may do."""
    if name == ADMIN:
        return ["Admin"]
    if name == OPERATOR:
        return [f"Read:{BUCKET}/trials/*", f"List:{BUCKET}"]
    own = [f"{verb}:{BUCKET}/{part}/{name}/*" for part in ("trials", "data") for verb in ("Read", "Write", "List")]
    return [*own, f"Read:{BUCKET}/sources/*", f"List:{BUCKET}/sources/*"]


def _grpc_ports(cluster: Cluster) -> dict[str, int]:
    return {
        server: _GRPC_PORTS + 4 * cluster.number + i for i, server in enumerate(("master", "volume", "filer", "s3"))
    }


def _identity(name: str) -> dict[str, Any]:
    keys = {"accessKey": f"{name}-{secrets.token_hex(4)}", "secretKey": secrets.token_hex(20)}
    return {"name": name, "credentials": [keys], "actions": actions(name)}


def _takes_objects(cluster: Cluster) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    store = client(cluster)
    try:
        if BUCKET not in [bucket["Name"] for bucket in store.list_buckets()["Buckets"]]:
            store.create_bucket(Bucket=BUCKET)
        store.put_object(Bucket=BUCKET, Key="ready", Body=b"yes")
        store.delete_object(Bucket=BUCKET, Key="ready")
    except (BotoCoreError, ClientError):
        return False
    return True


def _lists(cluster: Cluster, name: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        client(cluster, name).list_objects_v2(Bucket=BUCKET, Prefix=f"data/{name}/", MaxKeys=1)
    except ClientError:
        return False
    return True
