"""What a cluster is called, where its files lie, and which addresses it has: all that other programs need to use it.

    cluster = Cluster.find("cpt")
    cluster.kubeconfig            ~/.local/state/cpt-local/cpt/kubeconfig, for kubectl and clients on this machine
    cluster.s3_endpoint           http://10.200.0.1:8333, the same from pods and from this machine
    cluster.s3_credentials("demo").environment       AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
    cluster.kubectl("get", "nodes")

Every cluster has a number of its own, which is the third part of its addresses: 10.200.<number>.1 holds the API
server, S3 and Prometheus, .11 is node-1, .12 is node-2. Addresses of pods repeat from cluster to cluster.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from cpt_local.errors import BusyError, LocalError, MissingClusterError
from cpt_local.processes import run

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?")
_NUMBERS = range(256)


@dataclass(frozen=True, slots=True)
class S3Credentials:
    """Of one identity."""

    access_key: str
    secret_key: str

    @property
    def environment(self) -> dict[str, str]:
        """As every S3 client reads them."""
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One cluster, running or not."""

    name: str
    """Lower-case letters, digits and dashes, at most 20 characters."""
    number: int
    """No two clusters of this machine have the same."""
    nodes: int
    """How many there are: node-1, node-2, …"""
    training_operator: bool = True
    """Whether it was installed by `up`."""
    chart: bool = True
    """Whether our chart was installed by `up`."""
    kwok: bool = False
    """Whether fake nodes are looked after."""
    fake_gpus: int = 8
    """Of each node."""
    complete: bool = False
    """Whether `up` reached its end; if not, all of it is removed by the next."""

    @classmethod
    def find(cls, name: str = "cpt") -> Self:
        """Read what `up` wrote.

        Raises MissingClusterError when there is no such cluster, or another version of this package made it.
        """
        try:
            return cls(**json.loads((state_root() / name / "cluster.json").read_text()))
        except TypeError as error:
            raise MissingClusterError(
                f"cluster {name} was made by another version ({error}): run `python -m cpt_local down --name {name}`"
            ) from None
        except FileNotFoundError:
            known = ", ".join(names()) or "none"
            raise MissingClusterError(
                f"there is no local cluster {name!r} (there are: {known}); make one with "
                f"`python -m cpt_local up --name {name}`"
            ) from None

    def save(self) -> None:
        """Write what `find` reads."""
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / "cluster.json.new"
        draft.write_text(json.dumps(asdict(self), indent=1) + "\n")
        draft.replace(self.folder / "cluster.json")

    @property
    def folder(self) -> Path:
        """All its files; nothing else is left of it once this is gone."""
        return state_root() / self.name

    @property
    def kubeconfig(self) -> Path:
        """Of an administrator; holds everything needed, so it may be copied."""
        return self.folder / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        """JSON lines of the API server: all writes, and what service accounts read."""
        return self.folder / "audit.log"

    @property
    def address(self) -> str:
        """Of the API server, S3, Prometheus and DNS, from pods, nodes and this machine alike."""
        return f"10.200.{self.number}.1"

    @property
    def host_address(self) -> str:
        """This machine's, towards the cluster; nodes and pods have no way there."""
        return f"10.200.{self.number}.254"

    @property
    def network(self) -> str:
        """Of the nodes."""
        return f"10.200.{self.number}.0/24"

    @property
    def api_url(self) -> str:
        """Of the API server."""
        return f"https://{self.address}:6443"

    @property
    def s3_endpoint(self) -> str:
        """Of the artifact store."""
        return f"http://{self.address}:8333"

    @property
    def prometheus_url(self) -> str:
        """Of the page for people and the API for programs."""
        return f"http://{self.address}:9090"

    @property
    def node_names(self) -> list[str]:
        """node-1 and so on."""
        return [f"node-{index}" for index in range(1, self.nodes + 1)]

    def node_address(self, node: str) -> str:
        """Of a node: .11 is node-1."""
        return f"10.200.{self.number}.{10 + _index(node)}"

    def pod_network(self, node: str) -> str:
        """Of a node's pods."""
        return f"10.244.{_index(node)}.0/24"

    def node_folder(self, node: str) -> Path:
        """Where a node keeps images, volumes and logs."""
        return self.folder / "nodes" / node

    def namespace(self, node: str | None = None) -> Path:
        """The network namespace of a node, or of the control plane."""
        return Path("/run/netns") / (f"cpt.{self.name}.{node}" if node else f"cpt.{self.name}")

    def program(self, name: str) -> str:
        """Path of an upstream program, such as kubectl or helm."""
        return str(self.folder / "bin" / name)

    def s3_credentials(self, identity: str) -> S3Credentials:
        """Of `admin`, `operator`, or of the namespace of that name.

        Raises LocalError when there is no such identity.
        """
        identities = json.loads((self.folder / "s3" / "identities.json").read_text())["identities"]
        for known in identities:
            if known["name"] == identity:
                keys = known["credentials"][0]
                return S3Credentials(keys["accessKey"], keys["secretKey"])
        raise LocalError(
            f"S3 of cluster {self.name} has no identity {identity!r}, only {[i['name'] for i in identities]}; "
            f"a namespace is added by `python -m cpt_local add-namespace --name {self.name} {identity}`"
        )

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as the administrator; what it printed."""
        return run(self.program("kubectl"), *arguments, stdin=stdin, env=self.environment)

    @property
    def environment(self) -> dict[str, str]:
        """For kubectl and helm: which cluster, and no files outside of its folder."""
        helm = {f"HELM_{kind}_HOME": str(self.folder / "helm" / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        return {"KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(self.folder / "kubectl"), **helm}


def check_name(name: str) -> str:
    """The name itself.

    Raises LocalError when it cannot be a cluster's.
    """
    if not _NAME.fullmatch(name):
        raise LocalError(
            f"cluster name {name!r}: expected 1 to 20 lower-case letters, digits and dashes, first a letter, "
            "last no dash"
        )
    return name


def state_root() -> Path:
    """The folder of all clusters."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(home).resolve() / "cpt-local"


def names() -> list[str]:
    """Of all clusters that have files."""
    return sorted(file.parent.name for file in state_root().glob("*/cluster.json"))


def taken_numbers() -> set[int]:
    """Of all clusters that have files; the routes of those that another version made speak for themselves."""
    numbers = set()
    for name in names():
        with contextlib.suppress(MissingClusterError):
            numbers.add(Cluster.find(name).number)
    return numbers


def free_number(routes: list[str], taken: set[int]) -> int:
    """The lowest number whose addresses lead nowhere yet.

    Raises LocalError when all are taken.
    """
    known = [ipaddress.ip_network(route, strict=False) for route in routes if route != "default"]
    for number in _NUMBERS:
        wanted = ipaddress.ip_network(f"10.200.{number}.0/24")
        if number not in taken and not any(wanted.overlaps(network) for network in known if network.version == 4):
            return number
    raise LocalError(
        "no /24 of 10.200.0.0/16 is free: this machine has routes there (`ip route`), or 256 local clusters"
    )


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a cluster for one command; the kernel lets go when the process ends, however it ends.

    Raises BusyError when another command holds it.
    """
    state_root().mkdir(parents=True, exist_ok=True)
    path = state_root() / f"{name}.lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise BusyError(f"process {file.read().strip()} works on cluster {name}: wait for it, or end it") from None
        if not path.exists() or path.stat().st_ino != os.fstat(file.fileno()).st_ino:
            raise BusyError(f"cluster {name} was being removed just now: try again")
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            if not (state_root() / name).exists():  # a removed cluster leaves nothing
                path.unlink()


@contextlib.contextmanager
def all_locked() -> Iterator[None]:
    """Hold the list of clusters, for a moment."""
    handle = os.open(state_root(), os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _index(node: str) -> int:
    return int(node.removeprefix("node-"))
