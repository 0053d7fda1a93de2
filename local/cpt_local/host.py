"""Whether this machine can hold a cluster, found out before anything is changed.

check(["kubernetes", "helm"])     returns, after installing Debian packages that are missing, or says what to do
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cpt_local import cache, cgroups, programs
from cpt_local.cluster import state_root
from cpt_local.errors import UnsuitableError
from cpt_local.node import HIDDEN
from cpt_local.processes import run

_WAYS_ON = (
    "Without a local cluster: `kubectl cpt run -f experiment.yaml --store DIR` runs the same trials as processes on "
    "this machine, and the chart in helm/ installs on any Kubernetes from 1.30 that has training-operator 1.9."
)
_PACKAGES = {
    "containerd": ("containerd", "ctr"),
    "runc": ("runc",),
    "containernetworking-plugins": ("/usr/lib/cni/bridge",),
    "iptables": ("iptables",),
    "nftables": ("nft",),
    "conntrack": ("conntrack",),
    "iproute2": ("ip",),
    "util-linux": ("nsenter", "unshare", "setpriv"),
    "tini": ("tini",),
    "mmdebstrap": ("mmdebstrap",),
    "openssl": ("openssl",),
    "prometheus": ("prometheus",),
}
"""Debian's package -> what we need of it."""


def check(upstream: Sequence[str]) -> None:
    """Return when the cluster can be made; missing packages are installed.

    Raises UnsuitableError with everything that must be done first.
    """
    unsuitable = _system() or _rights()  # then nothing else counts
    missing = [] if unsuitable else missing_packages()
    found = [unsuitable] if unsuitable else [_go(upstream), _folders(), _packages(missing)]
    problems = [problem for problem in found if problem]
    if problems:
        raise UnsuitableError("\n  ".join(["a cluster cannot be made here:", *problems, _WAYS_ON]))
    if missing:
        print(f"installing {' '.join(missing)}", flush=True)
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "update", env=quiet)
        run(
            "apt-get",
            "-o",
            "DPkg::Lock::Timeout=300",
            "install",
            "--yes",
            "--no-install-recommends",
            *missing,
            env=quiet,
        )
    _load_bridge_filter()
    if cgroups.is_version_2():
        print(
            "control groups of version 2 are supported by their documentation; this was only run on version 1",
            flush=True,
        )


def missing_packages() -> list[str]:
    """Debian packages of which something is not here."""
    return [package for package, needs in _PACKAGES.items() if not all(map(shutil.which, needs))]


def _system() -> str | None:
    if sys.platform != "linux":
        return (
            f"this is {platform.system()}: nodes need Linux's namespaces and control groups; use a Linux machine or VM"
        )
    if platform.machine() not in ("x86_64", "aarch64"):
        return f"this is {platform.machine()}: x86_64 or aarch64 is expected"
    if os.geteuid() != 0:
        return f"this is user {os.geteuid()}: nodes need root; run the same command with sudo"
    return None


def _go(upstream: Sequence[str]) -> str | None:
    unmade = [name for name in upstream if not programs.is_made(name)]
    if unmade and shutil.which("go") is None:
        return f"{', '.join(unmade)} must be built and there is no Go: install Go 1.21 or newer (https://go.dev/dl)"
    return None


_OF_PODS = "/tmp"  # noqa: S108 - nothing is written there


def _folders() -> str | None:
    for place in (state_root(), cache.root(), Path(sys.prefix)):
        if any(place.is_relative_to(hidden) for hidden in HIDDEN):
            return (
                f"{place} lies below {', '.join(HIDDEN)}, which a node does not see: put the repository elsewhere, or "
                "set XDG_STATE_HOME and XDG_CACHE_HOME"
            )
    if Path(sys.prefix).is_relative_to(_OF_PODS):
        return (
            f"{sys.prefix} lies below {_OF_PODS}, where every pod has a folder of its own: put the repository elsewhere"
        )
    if file_system(state_root(), Path("/proc/mounts").read_text()) == "overlay":
        return (
            f"{state_root()} lies on an overlay, on which containers cannot be stacked: set XDG_STATE_HOME to a volume"
        )
    return None


def _rights() -> str | None:
    """What root may not do in an unprivileged container."""
    if shutil.which("unshare") is None:  # a package that is missing
        return None
    try:
        subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return "root may not make namespaces here: use a machine, a VM or a privileged container"
    roots = cgroups.hierarchies(Path("/proc/mounts").read_text())
    if not roots or not all(os.access(root, os.W_OK) for root in roots):
        return "control groups are not there or cannot be written: use a machine, a VM or a privileged container"
    return None


def file_system(place: Path, mounts: str) -> str:
    """What a folder lies on, by /proc/mounts: of the mounts above it the deepest, of those the last."""
    kinds = {Path(line.split()[1]): line.split()[2] for line in mounts.splitlines()}
    return next((kinds[folder] for folder in (place, *place.parents) if folder in kinds), "unknown")


def _packages(missing: list[str]) -> str | None:
    if not missing or shutil.which("apt-get"):
        return None
    return f"programs are missing; on Debian they come by `apt-get install {' '.join(missing)}`"


def _load_bridge_filter() -> None:
    """Pods of one node reach each other's Services only when bridged packets are filtered."""
    if not Path("/proc/sys/net/bridge").exists():
        run("modprobe", "br_netfilter")
