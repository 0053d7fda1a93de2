"""OCI archives without a registry."""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
from pathlib import Path
from typing import IO, Any

import pytest

from cpt_local.images import Image, full_name, ours, program_layer, shown_folders, write_archive


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """A layer with one file."""
    (tmp_path / "file").write_text("content")
    with tarfile.open(tmp_path / "layer.tar", "w") as archive:
        archive.add(tmp_path / "file", "file")
    return tmp_path / "layer.tar"


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("cpt-operator:0.1.0", "docker.io/library/cpt-operator:0.1.0"),
        ("team/cpt-operator:0.1.0", "docker.io/team/cpt-operator:0.1.0"),
        ("registry.example/cpt:1", "registry.example/cpt:1"),
        ("localhost/cpt:1", "localhost/cpt:1"),
    ],
)
def test_full_names(name: str, want: str) -> None:
    """Names are kept as a container runtime completes them; otherwise a pod would not find its image."""
    assert full_name(name) == want


class TestArchive:
    """One archive, several names."""

    def test_shares_layers(self, layer: Path, tmp_path: Path) -> None:
        """A layer that two images have is stored once."""
        write_archive(tmp_path / "images.tar", [Image("a.local/a:1", layer), Image("a.local/b:1", layer)])
        with tarfile.open(tmp_path / "images.tar") as archive:
            blobs = [member for member in archive.getnames() if member.startswith("blobs/")]
            index = json.load(_open(archive, "index.json"))
        assert len(blobs) == 1 + 2 * 2
        names = [manifest["annotations"]["io.containerd.image.name"] for manifest in index["manifests"]]
        assert names == ["a.local/a:1", "a.local/b:1"]

    def test_digests_are_true(self, layer: Path, tmp_path: Path) -> None:
        """Every blob's name is the digest of its bytes, and the manifest leads to entry point, path and user."""
        write_archive(tmp_path / "images.tar", ours("op:1", "trainer:1", layer))
        with tarfile.open(tmp_path / "images.tar") as archive:
            for member in archive.getmembers():
                if member.name.startswith("blobs/"):
                    digest = hashlib.sha256(_open(archive, member.name).read()).hexdigest()
                    assert member.name == f"blobs/sha256/{digest}"
            manifest = _blob(archive, json.load(_open(archive, "index.json"))["manifests"][2]["digest"])
            config = _blob(archive, manifest["config"]["digest"])["config"]
        assert config["Entrypoint"] == ["python3", "-m", "cpt_trainer"]
        assert config["Env"][0].startswith(f"PATH={Path(sys.prefix).resolve()}/bin:")
        assert config["User"] == "65532:65532"


def test_program_layer_is_executable(tmp_path: Path) -> None:
    """A program's layer holds it under the path that pods name, executable and root's."""
    (tmp_path / "pause").write_bytes(b"\x7fELF")
    with tarfile.open(program_layer(tmp_path / "pause", "/pause")) as archive:
        [member] = archive.getmembers()
    assert (member.name, member.mode, member.uid) == ("pause", 0o755, 0)


def test_containers_see_sources_and_interpreter() -> None:
    """What `import cpt_operator` needs in a pod is shown: sources, virtual environment, interpreter."""
    import cpt_operator

    folders = shown_folders()
    for needed in (Path(cpt_operator.__file__ or ""), Path(sys.prefix), Path(sys.executable).resolve()):
        assert any(needed.resolve().is_relative_to(folder) for folder in [*folders, Path("/usr")])


def _open(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    file = archive.extractfile(name)
    assert file is not None
    return file


def _blob(archive: tarfile.TarFile, digest: str) -> Any:
    return json.load(_open(archive, f"blobs/{digest.replace(':', '/')}"))
