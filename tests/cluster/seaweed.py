"""A real S3 for these tests: SeaweedFS on the loopback device, with the identities that a cluster has.

The operator may read `trials/` and list; the tests write as an administrator, in place of trials.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.controlplane import daemon, free_port

BUCKET = "cpt"
OPERATOR = ("operator", "not-a-secret")
ADMIN = ("admin", "not-a-secret-either")
_START_SECONDS = 120


@dataclass(frozen=True)
class Seaweed:
    """Where it is."""

    endpoint: str

    def client(self) -> Any:
        """Of the administrator."""
        return _client(self.endpoint)

    def put(self, key: str, document: Any) -> None:
        """A JSON document, or bytes."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.client().put_object(Bucket=BUCKET, Key=key, Body=body)


def _client(endpoint: str) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=ADMIN[0],
        aws_secret_access_key=ADMIN[1],
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


@contextmanager
def seaweed(folder: Path) -> Iterator[Seaweed]:
    """Start it with an empty bucket, and end it."""
    identities = [
        _identity("operator", OPERATOR, f"Read:{BUCKET}/trials/*", f"List:{BUCKET}"),
        _identity("admin", ADMIN, "Admin"),
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    master, volume, filer, s3 = (free_port() for _ in range(4))
    weed = Path(sys.executable).with_name("weed")
    command = [
        str(weed), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=20",
        f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", "-master.volumeSizeLimitMB=64",
        "-s3", f"-s3.port={s3}", f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0",
    ]  # fmt: skip
    with daemon(folder, *command) as server:
        store = Seaweed(f"http://127.0.0.1:{s3}")
        end = time.monotonic() + _START_SECONDS
        while not _is_ready(store):
            if time.monotonic() > end or server.poll() is not None:
                raise RuntimeError(f"SeaweedFS is not ready: {(folder / 'weed.log').read_text()[-4000:]}")
            time.sleep(0.2)  # it offers nothing to watch while it starts
        yield store


def _is_ready(store: Seaweed) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = store.client()
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="ready", Body=b"yes")
    except (ClientError, BotoCoreError):
        return False
    return True


def _identity(name: str, keys: tuple[str, str], *actions: str) -> dict[str, Any]:
    return {"name": name, "credentials": [{"accessKey": keys[0], "secretKey": keys[1]}], "actions": list(actions)}
