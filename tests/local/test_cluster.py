"""Names, numbers and addresses of clusters, and who may work on one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cpt_local.cluster import Cluster, S3Credentials, check_name, free_number, locked, names, state_root, taken_numbers
from cpt_local.errors import BusyError, LocalError, MissingClusterError


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No cluster of this machine is touched."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def make_cluster(name: str = "one", number: int = 7, nodes: int = 2) -> Cluster:
    """A cluster that is only a record."""
    return Cluster(name=name, number=number, nodes=nodes)


class TestNumbers:
    """Each cluster has a /24 of 10.200.0.0/16."""

    @pytest.mark.parametrize(
        ("routes", "taken", "want"),
        [
            pytest.param(["default", "192.0.2.0/24"], set(), 0, id="nothing is there"),
            pytest.param([], {0, 1, 3}, 2, id="the lowest that no other cluster has"),
            pytest.param(["10.200.0.1", "10.200.1.0/24"], set(), 2, id="routes of this machine are respected"),
            pytest.param(["10.200.0.0/23", "fe80::/64"], {2}, 3, id="also wide ones"),
        ],
    )
    def test_is_free(self, routes: list[str], taken: set[int], want: int) -> None:
        """The lowest number whose addresses lead nowhere yet."""
        assert free_number(routes, taken) == want

    def test_none_is_free(self) -> None:
        """A machine with a route to all of 10.0.0.0/8 is told so."""
        with pytest.raises(LocalError, match="`ip route`"):
            free_number(["10.0.0.0/8"], set())


class TestRecord:
    """What `up` writes and everybody else finds."""

    def test_is_found_again(self) -> None:
        """A saved cluster is found with all its fields."""
        make_cluster().save()
        assert Cluster.find("one") == make_cluster()
        assert names() == ["one"]

    def test_missing_names_the_others(self) -> None:
        """Who asks for a cluster that is not there learns which are, and how to make one."""
        make_cluster("other").save()
        with pytest.raises(MissingClusterError, match=r"there are: other.*up --name one"):
            Cluster.find("one")

    def test_other_version(self) -> None:
        """A record with fields that are not known is no traceback, and its number is not waited for."""
        make_cluster().save()
        record = make_cluster().folder / "cluster.json"
        record.write_text(record.read_text().replace("kwok", "kwack"))
        with pytest.raises(MissingClusterError, match=r"another version.*down --name one"):
            Cluster.find("one")
        assert taken_numbers() == set()

    def test_addresses(self) -> None:
        """The number is the third part of every address that this machine can reach."""
        cluster = make_cluster()
        assert cluster.s3_endpoint == "http://10.200.7.1:8333"
        assert [cluster.node_address(name) for name in cluster.node_names] == ["10.200.7.11", "10.200.7.12"]
        assert cluster.pod_network("node-2") == "10.244.2.0/24"

    def test_credentials(self) -> None:
        """Credentials come by identity; an unknown one is answered with those that are known."""
        cluster = make_cluster()
        keys = [{"accessKey": "a", "secretKey": "b"}]
        (cluster.folder / "s3").mkdir(parents=True)
        (cluster.folder / "s3/identities.json").write_text(
            json.dumps({"identities": [{"name": "demo", "credentials": keys}]})
        )
        assert cluster.s3_credentials("demo") == S3Credentials("a", "b")
        with pytest.raises(LocalError, match=r"'team-a', only \['demo'\]"):
            cluster.s3_credentials("team-a")


@pytest.mark.parametrize("name", ["", "Cpt", "1a", "a-", "a_b", "a.b", "a" * 21, "../x"])
def test_bad_names_are_refused(name: str) -> None:
    """A name goes into files, network namespaces and control groups: anything odd is refused."""
    with pytest.raises(LocalError, match="cluster name"):
        check_name(name)


class TestLock:
    """One command at a time works on a cluster."""

    def test_second_is_refused(self) -> None:
        """The second command is told which process is at work."""
        with locked("one"), pytest.raises(BusyError, match="works on cluster one"), locked("one"):
            pass

    def test_leaves_nothing(self) -> None:
        """The lock of a cluster that is gone goes too, that of one that is there stays."""
        with locked("one"):
            pass
        assert list(state_root().iterdir()) == []
        with locked("one"):
            make_cluster().save()
        assert sorted(path.name for path in state_root().iterdir()) == ["one", "one.lock"]
