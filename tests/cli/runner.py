"""`kubectl cpt run` with the stand-in of this folder as its trainer: runner.py MANIFEST STORE PARALLEL."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from kubectl_cpt.errors import CliError
from kubectl_cpt.run import Options, run

if __name__ == "__main__":
    manifest, store, parallel = sys.argv[1:]
    options = Options(
        files=[manifest],
        store=store,
        parallel=int(parallel),
        output="json",
        program=(sys.executable, str(Path(__file__).with_name("trainer.py"))),
    )
    try:
        run(options, os.environ)
    except CliError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.code)
