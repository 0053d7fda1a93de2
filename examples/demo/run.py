"""The demo: real text, a tiny base, and the whole recipe, on a local cluster that is made for it.

    python examples/demo/run.py --cluster cpt     makes that cluster, or takes it as it is
    python examples/demo/run.py --no-cluster      the same manifests as processes on this machine

Where no cluster can be made (not root, not Linux, no Go) it says so, and runs without one. Applied again it changes
nothing and ends at once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import on_cluster
import on_machine
from on_cluster import SOURCES

from cpt_local.errors import UnsuitableError

FETCH = Path(__file__).with_name("fetch.py")


def main() -> None:
    """Texts, then one of the two ways."""
    sys.exit(run(parsed(sys.argv[1:])))


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="the whole recipe on real text")
    parser.add_argument("--cluster", default="cpt", help="name of the local cluster (%(default)s)")
    parser.add_argument("--nodes", type=int, default=1, help="of the cluster (%(default)s)")
    parser.add_argument("--no-cluster", action="store_true", help="run trials as processes on this machine")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder of texts and report (%(default)s)")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """The exit code."""
    texts = options.out / SOURCES
    if fetched := python(str(FETCH), str(texts)):
        return fetched
    if options.no_cluster:
        return on_machine.run(options.out)
    made = python("-m", "cpt_local", "up", "--name", options.cluster, "--nodes", str(options.nodes))
    if made == UnsuitableError.exit_code:
        print("\nThe demo goes on without a cluster: trials are processes on this machine.\n", flush=True)
        return on_machine.run(options.out)
    return made or on_cluster.run(options.cluster, texts, options.out / "report")


def python(*arguments: str) -> int:
    """Run it in this environment; it says itself what went wrong."""
    return subprocess.run([sys.executable, *arguments], check=False).returncode


if __name__ == "__main__":
    main()
