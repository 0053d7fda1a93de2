"""Control groups, packages and the command line: what the machine is asked, and what its owner is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpt_local import host, s3, tenants
from cpt_local.cgroups import hierarchies
from cpt_local.cluster import Cluster
from cpt_local.errors import CommandError, LocalError, UnsuitableError
from cpt_local.main import main
from cpt_local.processes import run


@pytest.mark.parametrize(
    ("mounts", "want"),
    [
        pytest.param(
            "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw\nproc /proc proc",
            ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"],
            id="hybrid",
        ),
        pytest.param("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0", ["/sys/fs/cgroup"], id="version 2"),
        pytest.param("proc /proc proc rw 0 0", [], id="none"),
    ],
)
def test_hierarchies(mounts: str, want: list[str]) -> None:
    """Groups are made, and removed, in every hierarchy that is mounted."""
    assert hierarchies(mounts) == list(map(Path, want))


@pytest.mark.parametrize(("place", "want"), [("/state/cpt-local", "ext4"), ("/home/x", "overlay"), ("/state", "ext4")])
def test_file_systems(place: str, want: str) -> None:
    """The deepest mount above a folder tells what it lies on."""
    assert host.file_system(Path(place), "overlay / overlay rw 0 0\n/dev/vdb /state ext4 rw 0 0") == want


def test_a_repository_that_pods_cannot_see(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images hold this machine's folders, and a pod's own /tmp would hide one there."""
    monkeypatch.setattr("sys.prefix", "/tmp/clone/.venv")
    with pytest.raises(UnsuitableError, match="put the repository elsewhere"):
        host.check(())


class TestIdentities:
    """What a role may do in the store, as the chart asks of an administrator."""

    def test_operator_cannot_write(self) -> None:
        """The operator reads small documents and lists."""
        assert s3.actions("operator") == ["Read:cpt/trials/*", "List:cpt"]

    def test_trainer_writes_below_its_namespace_only(self) -> None:
        """A namespace's trials write below trials/<namespace>/ and data/<namespace>/ and nowhere else."""
        writes = [action for action in s3.actions("team-a") if action.startswith("Write:")]
        assert writes == ["Write:cpt/trials/team-a/*", "Write:cpt/data/team-a/*"]


class TestMissingPackages:
    """Nothing is changed before it is known that the cluster can be made."""

    def test_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every program that is needed belongs to a package that can be named."""
        monkeypatch.setattr("shutil.which", lambda program: None if program in ("tini", "nft") else program)
        assert host.missing_packages() == ["nftables", "tini"]


def test_failures_are_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong name ends with exit code 1 and a text without a traceback."""
    assert main(["up", "--name", "Not_A_Name"]) == 1
    assert capsys.readouterr().err.startswith("cpt-local: cluster name 'Not_A_Name': expected")


@pytest.mark.processes
def test_failed_program_is_quoted() -> None:
    """What a program said before it failed is in the message."""
    with pytest.raises(CommandError, match=r"ended with 3: no such cable"):
        run("sh", "-c", "echo no such cable >&2; exit 3")


@pytest.mark.parametrize("name", ["admin", "operator"])
def test_roles_of_the_store_are_no_namespaces(name: str) -> None:
    """A namespace called `admin` would get the administrator's credentials."""
    with pytest.raises(LocalError, match="take another name"):
        tenants.add(Cluster(name="one", number=0, nodes=1), name)
