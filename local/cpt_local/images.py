"""Container images without a registry: one small Debian tree under all the names that pods use.

The images hold what a real one gets from its distribution; torch and our own code are shown to every container by the
container runtime, at the paths that they have on this machine: the virtual environment, the interpreter that it was
made from, and the folders of our packages. So `python3` in a pod is `python` in `.venv/bin`, a change of the source is
in the next pod, and no image carries 5 GB.

    write_archive(path, images)     one OCI archive with several names; layers that are shared are stored once

Price: the tree is made once by mmdebstrap (10 s, 65 MB), importing the archive takes a node 2 s.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import platform
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt_local.cache import entry
from cpt_local.errors import UnsuitableError
from cpt_local.processes import run

HostFolder = Path
"""A folder of this machine that every container sees."""

PAUSE = "pods.local/pause:1"
"""Holds a pod's namespaces."""
PYTHON = "pods.local/python:1"
"""For tests' own pods and for init containers."""
USER = "65532:65532"
"""Whom the real images run as."""

_PACKAGES = "python3-minimal,libpython3-stdlib,libstdc++6,libgomp1,ca-certificates,coreutils,dash"
"""The last two for people with `kubectl exec`; the others are what wheels expect of a distribution."""
_ACCOUNTS = "root:x:0:0::/root:/bin/sh\ncpt:x:65532:65532::/home/cpt:/bin/sh\n"
_OPEN_FOLDERS = ("./root", "./home", "./home/cpt")
"""For everybody: the interpreter may lie below the first, and pods do not run as root."""
_UNREAD = ("./usr/share/doc/", "./usr/share/locale/", "./usr/share/man/")
"""Half of all files, which every node would unpack and remove."""
_OCI = "application/vnd.oci.image"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Image:
    """One name in an archive."""

    name: str
    """With a dotted first part and a tag, as the container runtime keeps it."""
    layer: Path
    """A tar file."""
    entrypoint: tuple[str, ...] = ()
    """What runs when a pod names no command."""
    path: str = "/usr/local/bin:/usr/bin:/bin"
    """Where programs are looked for."""
    user: str = ""
    """Whom it runs as when a pod does not say; root when empty."""


def shown_folders() -> list[HostFolder]:
    """What every container sees: the virtual environment, its interpreter, our sources."""
    prefix, base = Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()
    folders = {prefix, *(folder for folder in source_folders() if not folder.is_relative_to(prefix))}
    # Debian's own interpreter is in the image already, in the same version: it comes from the same release
    return sorted(folders if base == Path("/usr") else folders | {base})


def source_folders() -> list[Path]:
    """Where our packages lie that run in pods."""
    return sorted({_parent(package) for package in ("cpt_api", "cpt_operator", "cpt_trainer")})


def ours(operator: str, trainer: str, debian: Path) -> list[Image]:
    """The images that the chart names, as its Dockerfiles would make them."""
    path = f"{Path(sys.prefix).resolve()}/bin:/usr/local/bin:/usr/bin:/bin"
    return [
        Image(PYTHON, debian, path=path, user=USER),
        Image(full_name(operator), debian, ("python3", "-m", "cpt_operator"), path, USER),
        Image(full_name(trainer), debian, ("python3", "-m", "cpt_trainer"), path, USER),
    ]


def full_name(name: str) -> str:
    """As the container runtime keeps it: "cpt-operator:0.1.0" -> "docker.io/library/cpt-operator:0.1.0"."""
    first, slash, _ = name.partition("/")
    if not slash:
        return f"docker.io/library/{name}"
    return name if "." in first or ":" in first or first == "localhost" else f"docker.io/{name}"


def debian_layer() -> Path:
    """The tree of this machine's own release, from the cache or made now."""
    release = platform.freedesktop_os_release()
    suite = release.get("VERSION_CODENAME")
    if not suite:
        raise UnsuitableError("/etc/os-release names no VERSION_CODENAME: a release of Debian or Ubuntu is expected")

    def make(folder: Path) -> None:
        tree = folder / "tree.tar"
        command = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={_PACKAGES}", suite, str(tree)]
        run(*command, env={"TMPDIR": str(folder)})
        with tarfile.open(tree) as whole, tarfile.open(folder / "layer.tar", "w") as archive:
            for member in whole:
                if not member.name.startswith(_UNREAD):
                    archive.addfile(member, whole.extractfile(member) if member.isreg() else None)
            _add(archive, "./etc/passwd", _ACCOUNTS.encode())
            for place in _OPEN_FOLDERS:
                directory = tarfile.TarInfo(place)
                directory.type, directory.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(directory)
        tree.unlink()

    return entry(f"debian-{suite}", [_PACKAGES, _ACCOUNTS, *_OPEN_FOLDERS, *_UNREAD], make) / "layer.tar"


def program_layer(program: Path, path: str) -> Path:
    """A layer with one static program, beside the program itself."""
    layer = program.with_name(program.name + ".layer.tar")
    if not layer.exists():
        draft = layer.with_suffix(f".{os.getpid()}")
        with tarfile.open(draft, "w") as archive:
            archive.add(program.resolve(), path.lstrip("/"), filter=_executable)
        draft.replace(layer)
    return layer


def write_archive(path: Path, images: Sequence[Image]) -> None:
    """An OCI archive that holds all of them."""
    written: dict[Path, dict[str, Any]] = {}
    manifests = []
    with tarfile.open(path, "w") as archive:
        for image in images:
            if image.layer not in written:
                written[image.layer] = _add_layer(archive, image.layer)
            manifests.append(_add_manifest(archive, image, written[image.layer]))
        _add(archive, "index.json", _json({"schemaVersion": 2, "manifests": manifests}))
        _add(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))


def _add_layer(archive: tarfile.TarFile, layer: Path) -> dict[str, Any]:
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    archive.add(layer, f"blobs/sha256/{digest}")
    return {"mediaType": f"{_OCI}.layer.v1.tar", "digest": f"sha256:{digest}", "size": layer.stat().st_size}


def _add_manifest(archive: tarfile.TarFile, image: Image, layer: dict[str, Any]) -> dict[str, Any]:
    config = {
        "architecture": _ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {"Entrypoint": list(image.entrypoint), "Env": [f"PATH={image.path}"], "User": image.user},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_OCI}.manifest.v1+json",
        "config": {"mediaType": f"{_OCI}.config.v1+json", **_add_blob(archive, _json(config))},
        "layers": [layer],
    }
    names = {"io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": image.name}
    return {"mediaType": f"{_OCI}.manifest.v1+json", **_add_blob(archive, _json(manifest)), "annotations": names}


def _add_blob(archive: tarfile.TarFile, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    _add(archive, f"blobs/sha256/{digest}", data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def _executable(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.mode, info.uid, info.gid, info.uname, info.gname = 0o755, 0, 0, "", ""
    return info


def _parent(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UnsuitableError(f"package {package} is not installed in {sys.prefix}: run `make setup`")
    return Path(spec.origin).resolve().parent.parent
