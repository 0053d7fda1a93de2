"""A real model of 135M parameters as Hugging Face writes it, made of the GGUF file that a package carries.

    make test-slow               makes it once, of what `make evaluation-data` fetched (a minute, 540 MB)
    smollm2_folder()             config.json, tokenizer.json, model.safetensors in fp32

transformers reads the file but does not write what it read: weights go into a fresh model of the same configuration.
Its four-bit weights are what the file has; scores are those of this model, a little below the released one's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import evaluation_data
from cpt_local import cache

_READER = "gguf==0.19.0 --hash=sha256:70bcd10edfe697fb2dad6e40af2234b9d8ece9a41a99761405121ebda1c3c1cd"
"""What transformers reads the file with."""
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2_folder() -> Path:
    """Of the model."""
    folder = cache.place("smollm2", _made_of())
    if not folder.exists():
        raise FileNotFoundError(f"{folder} is not there: run `make test-slow`, which makes it")
    return folder


def main() -> None:
    """Make it, where it is not there."""
    cache.entry("smollm2", _made_of(), _make)


def _made_of() -> list[str]:
    return [_READER, evaluation_data.smollm2().parent.name, version("transformers")]


def _make(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        requirements = Path(scratch, "requirements.txt")
        requirements.write_text(_READER)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
        subprocess.run([*pip, "--target", scratch, "--requirement", requirements], check=True)
        paths = os.pathsep.join([scratch, *filter(None, [os.environ.get("PYTHONPATH")])])
        subprocess.run([sys.executable, __file__, folder], check=True, env={**os.environ, "PYTHONPATH": paths})


def convert(folder: Path) -> None:
    """In a process that has the reader."""
    import torch
    from safetensors.torch import save_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = str(evaluation_data.smollm2())
    read = AutoModelForCausalLM.from_pretrained(source, gguf_file=_FILE, dtype=torch.float32)
    values = json.loads(read.config.to_json_string())
    values.pop("quantization_config", None)
    (folder / "config.json").write_text(json.dumps({**values, "dtype": "float32"}))
    save_model(read, str(folder / "model.safetensors"), metadata={"format": "pt"})
    AutoTokenizer.from_pretrained(source, gguf_file=_FILE).save_pretrained(folder)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        convert(Path(sys.argv[1]))
    else:
        main()
