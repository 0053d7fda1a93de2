"""One run at a time on a store: one contract for a folder and for a real S3."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.bench import ALL, Bench
from cluster.seaweed import ADMIN, BUCKET, seaweed
from cpt_api.values import Digest
from cpt_trainer.store import Store, open_store
from kubectl_cpt.errors import Busy, Exit
from kubectl_cpt.machine.lock import acquire
from kubectl_cpt.machine.memory import Memory, keep, recall

pytestmark = pytest.mark.processes
DIGEST = Digest("ab" * 32)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a bucket; endpoint and keys stand in the environment, as for users."""
    with pytest.MonkeyPatch.context() as environment, seaweed(tmp_path_factory.mktemp("s3")) as server:
        environment.setenv("AWS_ENDPOINT_URL_S3", server.endpoint)
        environment.setenv("AWS_ACCESS_KEY_ID", ADMIN[0])
        environment.setenv("AWS_SECRET_ACCESS_KEY", ADMIN[1])
        yield f"s3://{BUCKET}"


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Both kinds, empty where the test looks."""
    if request.param == "folder":
        return open_store(str(tmp_path / "store"))
    return open_store(f"{request.getfixturevalue('s3')}/{tmp_path.name}")


class TestContract:
    """What holds for both."""

    def test_one_at_a_time(self, store: Store) -> None:
        """The second is refused, and let in when the first has ended."""
        lock = acquire(store, "team")
        with pytest.raises(Busy, match=f"process {os.getpid()}"):
            acquire(store, "team")
        lock.refresh()
        lock.release()
        acquire(store, "team").release()

    def test_what_is_remembered(self, store: Store) -> None:
        """Attempts of an earlier run are known to the next one, and nothing is known before the first."""
        assert recall(store, "team", "sweep") == Memory()
        memory = Memory().with_attempt(DIGEST).with_attempt(DIGEST)
        keep(store, "team", "sweep", memory)
        assert recall(store, "team", "sweep").attempts == {DIGEST: 2}


def test_a_lock_of_a_crashed_run_falls(s3: str, tmp_path: Path) -> None:
    """An object in S3 outlives its holder: 90 s after it was last seen it is taken over."""
    store = open_store(f"{s3}/{tmp_path.name}")
    old = {"holder": "process 1 on elsewhere", "time": time.time() - 91}
    store.put("data/team/run/lock.json", json.dumps(old).encode())
    acquire(store, "team").release()


def test_a_run_on_s3(s3: str, bench: Bench) -> None:
    """The store of a cluster serves as well."""
    done = bench.run(store=f"{s3}/{bench.folder.name}")
    assert done.code == Exit.SUCCESS, done.said
    assert len(done.answer["trials"]) == ALL
    assert done.answer["places"]["store"] == f"{s3}/{bench.folder.name}"
