"""One control group per cluster, `cpt.<name>/<node>`, below which the kubelets put their pods.

On version 1 there is one hierarchy per controller, each made and removed here; on version 2 there is one, whose
controllers must be handed down by every ancestor. Version 2 is written by its documentation and was not run.
"""

from __future__ import annotations

import time
from pathlib import Path

from cpt_local.errors import NotReadyError

_ROOT = Path("/sys/fs/cgroup")
_HANDED_DOWN = ("cpu", "cpuset", "memory", "pids", "io", "hugetlb")
_REMOVAL_SECONDS = 10.0
"""A killed process leaves its group a moment after it has gone."""


def is_version_2() -> bool:
    """Whether there is a single hierarchy."""
    return (_ROOT / "cgroup.controllers").exists()


def hierarchies(mounts: str) -> list[Path]:
    """Where groups are made, by /proc/mounts.

    "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0" -> /sys/fs/cgroup/cpu; a hybrid machine has both versions, and runc
    makes groups in both.
    """
    fields = [line.split() for line in mounts.splitlines()]
    return [Path(place) for _, place, kind, *_ in fields if kind in ("cgroup", "cgroup2")]


def create(cluster: str, node: str) -> str:
    """Make a node's group; its name as the kubelet's `cgroupRoot`."""
    for root in hierarchies(Path("/proc/mounts").read_text()):
        parent = root
        for part in (_name(cluster), node):
            if is_version_2():
                _hand_down(parent)
            group = parent / part
            group.mkdir(exist_ok=True)
            # a cpuset is born empty, and holds no process until it is not
            for file in ("cpuset.cpus", "cpuset.mems"):
                if not is_version_2() and (group / file).exists():
                    (group / file).write_text((parent / file).read_text())
            parent = group
    return f"/{_name(cluster)}/{node}"


def remove(cluster: str, node: str = "") -> None:
    """Remove a cluster's groups, or a node's, with all below; their processes must be dead.

    Raises NotReadyError when one of them is not.
    """
    end = time.monotonic() + _REMOVAL_SECONDS
    for root in hierarchies(Path("/proc/mounts").read_text()):
        top = root / _name(cluster) / node
        while top.exists() and not _try_remove(top):
            if time.monotonic() > end:
                held = [pid for file in top.rglob("cgroup.procs") for pid in file.read_text().split()]
                raise NotReadyError(
                    f"control group {top} cannot be removed: processes {held} are still in it; end them"
                )
            time.sleep(0.05)


def leftovers(cluster: str) -> list[Path]:
    """Groups of a cluster that exist."""
    groups = [root / _name(cluster) for root in hierarchies(Path("/proc/mounts").read_text())]
    return [group for group in groups if group.exists()]


def _name(cluster: str) -> str:
    return f"cpt.{cluster}"


def _hand_down(group: Path) -> None:
    available = (group / "cgroup.controllers").read_text().split()
    wanted = " ".join(f"+{name}" for name in _HANDED_DOWN if name in available)
    (group / "cgroup.subtree_control").write_text(wanted)


def _try_remove(top: Path) -> bool:
    groups = [top, *(path for path in top.rglob("*") if path.is_dir())]
    try:
        for group in sorted(groups, key=lambda path: len(path.parts), reverse=True):
            group.rmdir()
    except OSError:
        return False
    return True
