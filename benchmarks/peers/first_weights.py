"""The random weights that our trainer starts from, for those that are compared with it.

python -m benchmarks.peers.first_weights FOLDER SEED      writes FOLDER/weights.safetensors
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_model

from cpt_trainer.model import fill_buffers, initialise, make, read_config


def main(folder: Path, seed: int) -> None:
    """As `cpt-trainer train` makes them."""
    files = {"config.json": (folder / "corpus" / "model" / "config.json").read_bytes()}
    config = read_config(files)
    lm = make(config, torch.device("cpu")).to_empty(device="cpu")
    fill_buffers(lm, config)
    lm.tie_weights()  # type: ignore[operator]
    initialise(lm, seed)
    save_model(lm, str(folder / "weights.safetensors"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
