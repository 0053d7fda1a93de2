"""The demo without a cluster: the same manifests as processes on this machine, by `kubectl cpt run`.

Killed, or begun again, it goes on where it was.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMESPACE = "demo"


def run(out: Path) -> int:
    """Trials read s3://cpt/KEY from `out`/KEY, and write below `out`/store; the exit code."""
    return subprocess.run(command(out), check=False).returncode


def command(out: Path) -> list[str]:
    """As one would type it."""
    manifests = [f"--filename={HERE / name}.yaml" for name in ("base", "experiment")]
    program = str(Path(sys.executable).with_name("kubectl-cpt"))
    return [program, "run", *manifests, f"--namespace={NAMESPACE}", f"--source-root={out}", f"--store={out / 'store'}"]
