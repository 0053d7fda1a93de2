"""Upstream's programs, built from their Go modules at the versions and checksums that `local/upstream/*/go.mod` pins.

    link(["kubernetes", "coredns"], cluster.folder / "bin")

Each module is built once and kept by its checksums. Programs of the right version that are installed already, in
KUBEBUILDER_ASSETS or on PATH, are taken instead. Price, once, on two cores: Kubernetes 6 minutes, the others about one
each; 54 s for all of them when only our cache was lost and Go's was not.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cpt_local import cache
from cpt_local.processes import run

_SOURCES = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Upstream:
    """One module of ours whose only content is what it pins."""

    folder: str
    """Below local/."""
    programs: tuple[str, ...]
    """What it makes."""
    duration: str
    """Of the first build on two cores, for the person who waits."""
    main: str = "tool"
    """What `go build` builds."""
    extra: tuple[str, str] | None = None
    """A module, and the folder of its manifests that is kept beside the programs."""

    @property
    def name(self) -> str:
        """Of the cache's entry."""
        return Path(self.folder).name


_ALL = (
    Upstream(
        "upstream/kubernetes",
        ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl", "etcd"),
        "6 min",
    ),
    Upstream("upstream/coredns", ("coredns",), "80 s", main="."),
    Upstream("upstream/helm", ("helm",), "70 s"),
    Upstream("pause", ("pause",), "5 s", main="."),
    Upstream(
        "upstream/training-operator",
        ("training-operator.v1",),
        "75 s",
        extra=("github.com/kubeflow/training-operator", "manifests"),
    ),
    Upstream("upstream/kwok", ("kwok",), "60 s", extra=("sigs.k8s.io/kwok", "kustomize")),
    Upstream("upstream/kueue", ("kueue",), "4 min", extra=("sigs.k8s.io/kueue", "config/components")),
)
UPSTREAM = {upstream.name: upstream for upstream in _ALL}

_RENAMED = {"server": "etcd"}
"""`go build` names a program after the last part of its package."""
_SAY_VERSION = {"kubectl": ("version", "--client"), "coredns": ("-version",), "helm": ("version", "--short")}
_PINNED_BY = {"etcd": "go.etcd.io/etcd/server/v3", "coredns": "github.com/coredns/coredns", "helm": "helm.sh/helm/v3"}


def is_made(name: str) -> bool:
    """Whether nothing must be built."""
    return _place(UPSTREAM[name]).exists() or _installed(UPSTREAM[name]) is not None


def folder(name: str) -> Path:
    """The programs of one module, from the cache or built now."""
    upstream = UPSTREAM[name]
    return cache.entry(upstream.name, _ingredients(upstream), lambda draft: _make(upstream, draft))


def link(names: Iterable[str], place: Path) -> None:
    """Make all of them available in one folder, one after another: each build uses the whole machine."""
    place.mkdir(parents=True, exist_ok=True)
    for name in names:
        for program in UPSTREAM[name].programs:
            (place / program).unlink(missing_ok=True)
            (place / program).symlink_to(folder(name) / program)


def _make(upstream: Upstream, draft: Path) -> None:
    found = _installed(upstream)
    if found is not None:
        for program, path in found.items():
            (draft / program).symlink_to(path)
        return
    print(f"building {upstream.name}, first time only, about {upstream.duration}", flush=True)
    source = _SOURCES / upstream.folder
    out = f"{draft}/" if upstream.main == "tool" else str(draft / upstream.programs[0])
    command = ["go", "build", "-trimpath", "-o", out, "-ldflags", _linker_flags(upstream), upstream.main]
    run(*command, cwd=source, env={"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"})
    for made, wanted in _RENAMED.items():
        if (draft / made).exists():
            (draft / made).rename(draft / wanted)
    if upstream.extra:
        module, manifests = upstream.extra
        unpacked = run("go", "list", "-m", "-f", "{{.Dir}}", module, cwd=source).strip()
        shutil.copytree(Path(unpacked, manifests), draft / manifests, copy_function=shutil.copyfile)
        run("chmod", "-R", "u+w", str(draft / manifests))


def _place(upstream: Upstream) -> Path:
    return cache.place(upstream.name, _ingredients(upstream))


def _ingredients(upstream: Upstream) -> list[str]:
    files = sorted((_SOURCES / upstream.folder).iterdir())
    return [_linker_flags(upstream), *(file.read_text() for file in files if file.suffix in (".mod", ".sum", ".go"))]


def _linker_flags(upstream: Upstream) -> str:
    """Small programs that know their versions, as upstream's own builds tell them."""
    values: dict[str, str] = {}
    if upstream.name == "kubernetes":
        version = pinned(_go_mod(upstream), "k8s.io/kubernetes")
        major, minor, _ = version.split(".")
        known = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
        values = {f"k8s.io/component-base/version.{key}": value for key, value in known.items()}
    if upstream.name == "helm":  # else `helm template` and `helm lint` take the cluster for Kubernetes 1.20
        minor = pinned(_go_mod(upstream), "k8s.io/client-go").split(".")[1]
        values = {f"helm.sh/helm/v3/pkg/{part}.k8sVersionMinor": minor for part in ("chartutil", "lint/rules")}
        values["helm.sh/helm/v3/internal/version.version"] = f"v{pinned(_go_mod(upstream), 'helm.sh/helm/v3')}"
    return " ".join(["-s -w", *(f"-X {name}={value}" for name, value in values.items())])


def _go_mod(upstream: Upstream) -> str:
    return (_SOURCES / upstream.folder / "go.mod").read_text()


def _installed(upstream: Upstream) -> dict[str, Path] | None:
    """All its programs, when this machine has each in the pinned version."""
    if upstream.extra or upstream.name == "pause":  # more than a program is needed, or it is built faster than found
        return None
    found = {}
    for program in upstream.programs:
        version = pinned(_go_mod(upstream), _PINNED_BY.get(program, "k8s.io/kubernetes"))
        path = next((place for place in _candidates(program) if _has_version(place, program, version)), None)
        if path is None:
            return None
        found[program] = path
    return found


def pinned(go_mod: str, module: str) -> str:
    """The version without its v: "go.etcd.io/etcd/server/v3 v3.6.4" -> 3.6.4."""
    match = re.search(rf"^\s*(?:require )?{re.escape(module)} v(\S+)", go_mod, re.MULTILINE)
    assert match, f"{module} is not in go.mod"
    return match[1]


def _candidates(program: str) -> list[Path]:
    folders = [os.environ.get("KUBEBUILDER_ASSETS", ""), *os.environ.get("PATH", "").split(os.pathsep)]
    return [Path(path) for place in folders if place and (path := shutil.which(program, path=place))]


def _has_version(path: Path, program: str, version: str) -> bool:
    command = [str(path), *_SAY_VERSION.get(program, ("--version",))]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    return re.search(rf"(?<![\d.]){re.escape(version)}(?![\d.])", said) is not None
