"""A real S3 for the tests of the data plane: SeaweedFS on free ports of the loopback device."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from cpt_trainer.errors import TrainerExit
from cpt_trainer.store import Address, S3Store

# no test asserts how long something takes
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

BUCKET = "cpt-test"
ACCESS_KEY, SECRET_KEY = "tests", "not-a-secret"
START_SECONDS = 120


def free_ports(count: int) -> list[int]:
    """Ports of the loopback device that are free, and free 10,000 higher too: weed puts gRPC there."""
    ports: list[int] = []
    while len(ports) < count:
        with socket.socket() as low, socket.socket() as high:
            low.bind(("127.0.0.1", 0))
            port = low.getsockname()[1]
            try:
                high.bind(("127.0.0.1", port + 10_000))
            except (OSError, OverflowError):
                continue
            if port not in ports:
                ports.append(port)
    return ports


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running S3 with an empty bucket; its credentials are in the environment of this process."""
    folder = tmp_path_factory.mktemp("seaweedfs")
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    master, volume, filer, s3 = free_ports(4)
    weed = Path(sys.executable).with_name("weed")
    command = [
        str(weed), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}",
        "-s3", f"-s3.port={s3}", f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0",
        "-volume.max=20", "-master.volumeSizeLimitMB=64",
    ]  # fmt: skip
    endpoint = f"http://127.0.0.1:{s3}"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        environment.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with (
            (folder / "log").open("wb") as log,
            subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) as server,
        ):
            try:
                _make_bucket(endpoint, server, folder / "log")
                yield endpoint
            finally:
                server.kill()


def _make_bucket(endpoint: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Create the bucket as soon as the server can write."""
    import boto3
    from botocore.exceptions import BotoCoreError

    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            client.create_bucket(Bucket=BUCKET)
            S3Store(Address(f"s3://{BUCKET}", endpoint), deadline_seconds=1).put("ready", b"yes")
        except (client.exceptions.ClientError, BotoCoreError, TrainerExit):
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"SeaweedFS did not start within {START_SECONDS} s:\n{log.read_text()[-4000:]}")


@pytest.fixture
def s3_uri(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place in the bucket; AWS_ENDPOINT_URL_S3 leads there."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_endpoint)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes of tests use one thread of torch."""
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))


@pytest.fixture
def one_thread_here() -> Iterator[None]:
    """Sums of floats in this process depend on the threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
