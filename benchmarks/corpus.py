"""Real text without a download: the Python sources of the pinned packages, with a tokenizer made of them.

texts = corpus(folder, vocabulary=32_000)     64 MB, the same on every machine with the same constraints.txt
Bench(texts, store).run("prepare", spec)      a trial, carried out by `cpt-trainer` with a folder as store
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from cpt_api import PROTOCOL
from cpt_api.digest import trial_digest
from cpt_api.layout import data_prefix
from cpt_api.trial import CPTTrialSpec, TrialDocument
from cpt_api.values import Digest
from cpt_trainer.sources import list_files
from cpt_trainer.store import Address, Store, open_address

CORPUS_BYTES = 64_000_000
DOCUMENT_BYTES = range(1_000, 200_000)
TOKENIZER_BYTES = 4_000_000
END = "<|end-of-file|>"
NAMESPACE = "bench"
BUCKET = "s3://bench"

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": 0,
    "torch_dtype": "float32",
}
"""The demo's Llama, but for its vocabulary."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Texts, and a model in Hugging Face layout without weights."""

    folder: Path

    @property
    def texts(self) -> Path:
        """One JSON line per document."""
        return self.folder / "texts.jsonl"

    @property
    def model(self) -> Path:
        """Configuration and tokenizer."""
        return self.folder / "model"

    @property
    def source_bytes(self) -> int:
        """Of the texts themselves."""
        return sum(len(json.loads(line)["text"].encode()) for line in self.texts.open())


def corpus(folder: Path, vocabulary: int) -> Corpus:
    """From the folder, or written now; a model whose tokenizer has so many tokens."""
    made = Corpus(folder)
    tokenizer = made.model / "tokenizer.json"
    if not tokenizer.exists() or json.loads((made.model / "config.json").read_text())["vocab_size"] != vocabulary:
        made.model.mkdir(parents=True, exist_ok=True)
        documents = list(_documents())
        made.texts.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents))
        (made.model / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": vocabulary}))
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END}
        (made.model / "tokenizer_config.json").write_text(json.dumps(settings))
        _tokenizer(documents, vocabulary).save(str(tokenizer))
    return made


def _documents() -> Iterator[str]:
    seen: set[str] = set()
    size = 0
    for path in sorted(Path(sysconfig.get_path("purelib")).rglob("*.py")):
        data = path.read_bytes()
        text = data.decode(errors="replace")
        if len(data) in DOCUMENT_BYTES and text.encode() == data and text not in seen and END not in text:
            seen.add(text)
            size += len(data)
            yield text
        if size > CORPUS_BYTES:
            return


def _tokenizer(documents: list[str], vocabulary: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    few = documents[:: max(1, CORPUS_BYTES // TOKENIZER_BYTES)]
    tokenizer.train_from_iterator(few, trainer)
    return tokenizer


@dataclass(frozen=True, slots=True)
class Bench:
    """A store in a folder, in which trials are run by hand."""

    corpus: Corpus
    folder: Path
    """Of the store."""

    @property
    def store(self) -> Store:
        """To read what trials made."""
        return open_address(Address(str(self.folder), sources=str(self.corpus.folder)))

    def source(self, name: str) -> dict[str, Any]:
        """A resolved source: what Preflight would say of a file or folder of the corpus."""
        uri = f"{BUCKET}/{name}"
        return {"uri": uri, "digest": list_files(self.store, uri).digest}

    def command(self, name: str, spec: dict[str, Any]) -> tuple[Digest, list[str]]:
        """The digest of a trial, and the command that carries it out."""
        parsed = CPTTrialSpec.model_validate(spec)
        document = TrialDocument(
            namespace=NAMESPACE, name=name, digest=trial_digest(parsed), attempt=1, protocol=PROTOCOL, spec=parsed
        )
        file = self.folder / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document.to_dict()))
        verb = document.spec.type.value.lower()
        program = [sys.executable, "-m", "cpt_trainer", verb, "--trial", str(file), "--store", str(self.folder)]
        return document.digest, program

    @property
    def environment(self) -> dict[str, str]:
        """What the command needs beside ours."""
        return {"CPT_SOURCES": str(self.corpus.folder)}

    def prepare_spec(self) -> dict[str, Any]:
        """Tokenise all of it: nothing is held out."""
        work = {
            "source": self.source("texts.jsonl"),
            "tokenizer": {"source": self.source("model")},
            "holdout": {"share": "0"},
        }
        return {"type": "Prepare", "prepare": work}

    def run(self, name: str, spec: dict[str, Any]) -> Digest:
        """Carry a trial out; what it logs goes to a file."""
        digest, command = self.command(name, spec)
        with (self.folder / f"{name}.log").open("w") as log:
            done = subprocess.run(command, check=False, stderr=log, stdout=log, env={**os.environ, **self.environment})
        if done.returncode:
            sys.exit(f"{' '.join(command)}: exit {done.returncode}, see {log.name}")
        return digest


def data_of(digest: Digest) -> str:
    """Where a trial's bulk lies."""
    return data_prefix(NAMESPACE, digest)
