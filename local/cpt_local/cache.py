"""What is made once and kept, by what it is made of.

    entry("coredns", [go_mod, go_sum], make)     ~/.cache/cpt-local/coredns-1f0c5d2a9b7e

`make(folder)` fills an empty folder, which gets its name only when it is complete: a killed or failed attempt leaves
nothing that looks finished. Of several commands at once one makes it and the others wait.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path


def root() -> Path:
    """The folder of all entries; may be removed at any time while no cluster runs."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home).resolve() / "cpt-local"


def place(name: str, ingredients: Sequence[str]) -> Path:
    """Where an entry lies once it is made."""
    key = hashlib.sha256("\0".join(ingredients).encode()).hexdigest()[:12]
    return root() / f"{name}-{key}"


def entry(name: str, ingredients: Sequence[str], make: Callable[[Path], None]) -> Path:
    """The entry, made now if need be."""
    finished = place(name, ingredients)
    if finished.exists():
        return finished
    root().mkdir(parents=True, exist_ok=True)
    with (root() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            draft = root() / f"{name}.new"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            make(draft)
            draft.rename(finished)
    return finished
