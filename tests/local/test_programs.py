"""What is built from upstream's modules, and kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpt_local import cache, programs


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


class TestCache:
    """Entries are complete or not there."""

    def test_is_made_once(self) -> None:
        """The second time nothing is made."""
        made: list[Path] = []
        first = cache.entry("thing", ["1"], made.append)
        assert cache.entry("thing", ["1"], made.append) == first
        assert len(made) == 1

    def test_other_ingredients_are_another_entry(self) -> None:
        """What is made of something else lies elsewhere."""
        assert cache.place("thing", ["1", "2"]) != cache.place("thing", ["12"])

    def test_failure_leaves_nothing_finished(self) -> None:
        """A failed attempt is made anew, from an empty folder."""

        def fail(folder: Path) -> None:
            (folder / "half").touch()
            raise RuntimeError("killed")

        with pytest.raises(RuntimeError, match="killed"):
            cache.entry("thing", [], fail)
        assert list(cache.entry("thing", [], lambda _folder: None).iterdir()) == []


class TestUpstream:
    """The modules in local/upstream."""

    @pytest.mark.parametrize(
        ("program", "module", "version"),
        [
            ("kubernetes", "k8s.io/kubernetes", "1.36.3"),
            ("kubernetes", "go.etcd.io/etcd/server/v3", "3.6.8"),
            ("training-operator", "github.com/kubeflow/training-operator", "1.9.4"),
        ],
    )
    def test_pinned(self, program: str, module: str, version: str) -> None:
        """The versions that the documentation names are the ones that are built."""
        go_mod = Path(programs.__file__).parents[1] / programs.UPSTREAM[program].folder / "go.mod"
        assert programs.pinned(go_mod.read_text(), module) == version

    def test_right_version_on_path_is_taken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A program that is installed in the pinned version is linked, not built."""
        installed = _fake_program(tmp_path / "bin", "coredns", "CoreDNS-1.15.0\nlinux/amd64")
        monkeypatch.setenv("PATH", f"{installed.parent}:/usr/bin:/bin")
        assert programs.is_made("coredns")
        assert (programs.folder("coredns") / "coredns").resolve() == installed

    def test_other_version_is_not(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """1.15.0 is not found in 11.15.01."""
        installed = _fake_program(tmp_path / "bin", "coredns", "CoreDNS-11.15.01")
        monkeypatch.setenv("PATH", f"{installed.parent}:/usr/bin:/bin")
        assert not programs.is_made("coredns")


def _fake_program(folder: Path, name: str, says: str) -> Path:
    folder.mkdir()
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    return program
