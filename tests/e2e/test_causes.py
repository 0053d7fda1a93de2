"""Why a trial does not go on stands in conditions, events and `kubectl get` within a minute."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cpt_local import chart, images, node
from cpt_local.cluster import Cluster
from e2e.lab import Lab, Manifest, conditions, trial

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

EXITS = "pods.local/exits"
"""An image whose pods end with the number at the end of their trial's name."""
MISSING = "pods.local/missing"
PROGRAM = (
    "import json, os, sys; name = json.loads(os.environ['CPT_TRIAL'])['name']; code = int(name.rpartition('-')[2]);"
    "print(json.dumps({'reason': 'Test', 'message': f'this is end {code}'})); sys.exit(code)"
)


@pytest.fixture(scope="module")
def exits(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The pinned name of that image, on every node and on the administrator's list."""
    archive = tmp_path_factory.mktemp("images") / "exits.tar"
    pinned = _write_pinned(archive)
    for name in cluster.node_names:
        node.import_images(cluster, name, archive)
    allowed = f"trials.allowed.images={{{EXITS},{MISSING}}}"
    chart.helm(cluster, "upgrade", chart.RELEASE, str(chart.FOLDER), "--reuse-values", f"--set={allowed}", "--wait")
    yield pinned
    chart.helm(cluster, "upgrade", chart.RELEASE, str(chart.FOLDER), f"--values={chart.values_file(cluster)}", "--wait")


def _write_pinned(archive: Path) -> str:
    def write(name: str) -> None:
        images.write_archive(
            archive, [images.Image(name, images.debian_layer(), ("python3", "-c", PROGRAM), user=images.USER)]
        )

    write(f"{EXITS}:1")
    with tarfile.open(archive) as tar:
        index = tar.extractfile("index.json")
        assert index
        digest = json.load(index)["manifests"][0]["digest"]
    pinned = f"{EXITS}@{digest}"
    write(pinned)
    return pinned


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[[str], Lab]) -> Lab:
    """A namespace."""
    return lab_factory("causes")


def look(name: str, image: str | None = None, **run: Any) -> Manifest:
    """A Preflight: the smallest trial there is."""
    inputs = [{"name": "words", "kind": "Dataset", "uri": f"s3://cpt/sources/nowhere/{name}.jsonl"}]
    spec: Manifest = {"type": "Preflight", "preflight": {"inputs": inputs}, "run": run}
    if image:
        spec["run"] = {**run, "resources": {"image": image}}
        spec["imageDigest"] = image.partition("@")[2]
    return trial(name, spec)


ENDS = (
    (1, "Exited", True),
    (3, "ConfigError", False),
    (4, "DataError", False),
    (6, "DoesNotFit", False),
    (137, "Killed", True),
    (139, "Killed", True),
    (143, "Terminated", True),
    (210, "Hang", True),
    (211, "StorageError", True),
    (212, "OutOfMemory", True),
)
"""Exit code, cause, and whether another attempt follows."""


@pytest.fixture(scope="module")
def ended(lab: Lab, exits: str) -> Lab:
    """A trial for each exit code, all begun at once."""
    lab.apply(*(look(f"exit-{code}", exits, maxRetries=1) for code, _, _ in ENDS))
    return lab


class TestExits:
    """The table of design 3, as it arrives at the user."""

    @pytest.mark.parametrize(("code", "cause", "is_retried"), ENDS)
    def test_code(self, ended: Lab, code: int, cause: str, *, is_retried: bool) -> None:
        """The cause, and the program's last words, stand in the record and in an event."""
        name = f"exit-{code}"
        found = ended.wait_until(f"cptt/{name}", lambda item: _causes(item) != [])
        assert _causes(found)[0] == (cause, code)
        assert f"this is end {code}" in found["status"]["attempts"]["last"][0]["message"]
        assert any(event.startswith(f"{cause}: attempt 1: exit {code}") for event in ended.events(name))
        if is_retried:
            ended.wait_until(f"cptt/{name}", lambda item: item["status"]["attempts"]["total"] > 1)
        else:
            assert conditions(found)["Succeeded"]["status"] == "False"
            assert cause in ended.kubectl("get", f"cptt/{name}")


def _causes(item: Manifest) -> list[tuple[str, int]]:
    attempts = item.get("status", {}).get("attempts", {}).get("last", [])
    return [(attempt["cause"], attempt.get("exitCode")) for attempt in attempts if "cause" in attempt]


class TestPods:
    """Pods that never run."""

    def test_image_that_cannot_be_pulled(self, lab: Lab, exits: str) -> None:
        """The kubelet's complaint is the trial's message."""
        lab.apply(look("no-image", f"{MISSING}@sha256:{hashlib.sha256(exits.encode()).hexdigest()}"))
        assert MISSING in lab.wait_reason("cptt/no-image", "ImagePullFailed")
        assert any(event.startswith("ImagePullFailed") for event in lab.events("no-image"))

    def test_no_node_fits(self, lab: Lab) -> None:
        """The scheduler's words."""
        lab.apply(look("too-big", resources={"cpu": "1000"}))
        assert "Insufficient cpu" in lab.wait_reason("cptt/too-big", "Unschedulable")

    def test_missing_secret(self, lab: Lab) -> None:
        """A namespace without the store's credentials."""
        lab.kubectl("create", "namespace", f"{lab.namespace}-bare")
        bare = Lab(lab.cluster, f"{lab.namespace}-bare")
        bare.kubectl("create", "serviceaccount", "cpt-trial")
        bare.apply(look("no-secret"))
        assert "cpt-store" in bare.wait_reason("cptt/no-secret", "ContainerConfigError")

    def test_quota(self, lab: Lab) -> None:
        """What a quota refuses is known from the job's events alone."""
        full = Lab(lab.cluster, f"{lab.namespace}-full")
        lab.kubectl("create", "namespace", full.namespace)
        full.kubectl("create", "serviceaccount", "cpt-trial")
        full.kubectl("create", "quota", "none", "--hard=pods=0")
        full.apply(look("no-room"))
        assert "exceeded quota" in full.wait_reason("cptt/no-room", "PodForbidden")


class TestStore:
    """Users' mistakes about their data."""

    def test_a_dataset_that_does_not_exist(self, lab: Lab) -> None:
        """Preflight's finding names the address; nothing failed."""
        lab.apply(look("nowhere"))
        lab.wait("cptt/nowhere", "Succeeded")
        (finding,) = lab.result("nowhere").findings
        assert "sources/nowhere/nowhere.jsonl" in finding.message

    def test_wrong_credentials(self, lab: Lab) -> None:
        """A trial with a refused key ends with the store's reason, and is not tried again and again."""
        other = Lab(lab.cluster, f"{lab.namespace}-wrong")
        lab.kubectl("create", "namespace", other.namespace)
        other.kubectl("create", "serviceaccount", "cpt-trial")
        other.kubectl("create", "secret", "generic", "cpt-store", "--from-literal=AWS_ACCESS_KEY_ID=no",
                      "--from-literal=AWS_SECRET_ACCESS_KEY=no")  # fmt: skip
        other.apply(look("refused", maxRetries=0))
        found = other.wait_until("cptt/refused", lambda item: _causes(item) != [])
        assert _causes(found)[0][0] == "StorageError"
