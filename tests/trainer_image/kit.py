"""Tiny real things for tests of training: a tokenizer, a model's folder, prepared datasets, trials, processes.

    lab = Lab(tmp_path)                            a folder as store, another that stands for users' S3
    data = lab.dataset("python", documents=50)     the digest of a Prepare trial whose data is there
    trial = lab.train(phases=..., stop=640)        a resolved Train trial from random weights
    lab.run(trial)                                 as a process of its own: exit code and output

Texts are made of few words by a fixed seed, so a model of 20,000 parameters learns something in twenty steps.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from cpt_api.digest import trial_digest
from cpt_api.layout import result_key
from cpt_api.model import canonical_json
from cpt_api.result import Result
from cpt_api.trial import CPTTrialSpec, TrialDocument
from cpt_api.values import Digest
from cpt_trainer.dataset import MANIFEST, DatasetManifest, File, HeldOutPart, Shard
from cpt_trainer.sources import list_files
from cpt_trainer.store import Address, Store, open_address
from cpt_trainer.telemetry import earlier_steps
from cpt_trainer.trial import Trial
from make import make_digest

NAMESPACE = "team"
VOCABULARY = 128
SEQUENCE = 32
BATCH = 4
BATCH_TOKENS = SEQUENCE * BATCH
EOS = "<eos>"
BASE_URI = "s3://corpora/base"
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
    "initializer_range": 0.02,
    "dtype": "float32",
}
_WORDS = ("the", "model", "reads", "a", "page", "and", "then", "it", "writes", "what", "next", "says", "about", "rates")


def text(seed: int, words: int) -> str:
    """Some words, each of which says a little about the next."""
    chance = random.Random(seed)
    at, found = 0, []
    for _ in range(words):
        at = (at + chance.choice((1, 1, 1, 2, 5))) % len(_WORDS)
        found.append(_WORDS[at])
    return " ".join(found)


@functools.cache
def tokenizer(vocabulary: int = VOCABULARY) -> Tokenizer:
    """Byte-pair encoding, trained on such texts."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.train_from_iterator(
        [text(seed, 200) for seed in range(5)],
        trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=[EOS], show_progress=False),
    )
    return made


def encode(words: str) -> list[int]:
    """Tokens and EOS."""
    return [*tokenizer().encode(words).ids, 0]


@dataclass
class Lab:
    """A store in a folder, and what is in it."""

    folder: Path
    elsewhere: Address | None = None
    """Of the store, where it is not a folder."""

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)

    @property
    def address(self) -> Address:
        """Of the store."""
        return self.elsewhere or Address(str(self.folder / "store"), sources=str(self.folder / "sources"))

    @property
    def store(self) -> Store:
        """Of all trials."""
        return open_address(self.address)

    def dataset(self, name: str, documents: int = 40, words: int = 30, held_out: int = 8) -> Digest:
        """What a Prepare trial of that name would leave."""
        digest = make_digest(name)
        prefix = f"data/{NAMESPACE}/{digest}/"
        seed = int(digest[:6], 16)
        tokens = [encode(text(seed + n, words + n % 7)) for n in range(documents)]
        kept = [text(seed + 1000 + n, words) for n in range(held_out)]
        stream = np.concatenate(tokens).astype("<u2").tobytes()
        ends = np.cumsum([len(t) for t in tokens]).astype("<u8").tobytes()
        held = [encode(words) for words in kept]
        lines = [
            json.dumps({"document": hashlib.sha256(w.encode()).hexdigest()[:16], "bytes": len(w), "tokens": len(t)})
            for w, t in zip(kept, held, strict=True)
        ]
        file = functools.partial(self._file, prefix)
        manifest = DatasetManifest(
            source=make_digest(f"source of {name}"),
            tokenizer=Digest(hashlib.sha256(tokenizer().to_str().encode()).hexdigest()),
            vocabulary=VOCABULARY,
            dtype="uint16",
            eos=0,
            tokens=sum(map(len, tokens)),
            documents=documents,
            source_bytes=1,
            shards=(
                Shard(
                    tokens=sum(map(len, tokens)),
                    documents=documents,
                    stream=file("tokens-00000.bin", stream),
                    ends=file("docs-00000.idx", ends),
                ),
            ),
            held_out=HeldOutPart(
                documents=held_out,
                sections=held_out,
                tokens=sum(map(len, held)),
                source_bytes=sum(map(len, kept)),
                stream=file("heldout.bin", np.concatenate(held).astype("<u2").tobytes()),
                index=file("heldout.jsonl", "\n".join(lines).encode()),
            ),
        )
        self.store.put(prefix + MANIFEST, canonical_json(manifest.to_dict()))
        return digest

    def _file(self, prefix: str, key: str, data: bytes) -> File:
        self.store.put(prefix + key, data)
        return File(key=key, bytes=len(data), sha256=Digest(hashlib.sha256(data).hexdigest()))

    def base(self, name: str = "base", **changes: Any) -> dict[str, Any]:
        """The folder of a model without weights; a Source."""
        folder, uri = self.folder / "sources" / name, f"s3://corpora/{name}"
        folder.mkdir(parents=True, exist_ok=True)
        files = {
            "config.json": json.dumps(CONFIG | changes),
            "tokenizer.json": tokenizer(changes.get("vocab_size", VOCABULARY)).to_str(),
            "tokenizer_config.json": json.dumps({"eos_token": EOS}),
        }
        for name, content in files.items():
            path = folder / name
            if not path.exists() or path.read_text() != content:  # a file that is written again has another ETag
                path.write_text(content)
        return {"uri": uri, "digest": list_files(self.store, uri).digest}

    def model(self, name: str, tensors: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
        """A user's model with these torch tensors; a ModelRef."""
        from safetensors.torch import save_file

        folder = self.folder / "sources" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(CONFIG | changes))
        (folder / "tokenizer.json").write_text(tokenizer().to_str())
        save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
        return self.reference(name)

    def reference(self, name: str) -> dict[str, Any]:
        """The user's model of that name, as it is now; a ModelRef."""
        uri = f"s3://corpora/{name}"
        return {"source": {"uri": uri, "digest": list_files(self.store, uri).digest}}

    def train(self, mixture: Mapping[Digest, str], stop: int, **changes: Any) -> Trial:
        """A Train trial of `stop` steps."""
        run = changes.pop("run", {})
        attempt = changes.pop("attempt", 1)
        work: dict[str, Any] = {
            "start": changes.pop("start", None) or {"random": {"config": self.base(), "seed": 3}},
            "stopTokens": str(stop * BATCH_TOKENS),
            "phases": [{"mixture": [{"dataset": {"digest": d}, "weight": w} for d, w in mixture.items()]}],
            "schedule": {"peakLearningRate": "1e-2"},
            "sequenceLength": SEQUENCE,
            "globalBatchSize": BATCH,
            "precision": "Float32",
        }
        spec = {"type": "Train", "train": work | changes, "run": run}
        return self.trial(CPTTrialSpec.model_validate(spec), attempt)

    def evaluate(self, held_out: Sequence[Digest], **changes: Any) -> Trial:
        """An Evaluate trial."""
        work = {"heldOut": [{"digest": d} for d in held_out], "sequenceLength": SEQUENCE}
        return self.trial(CPTTrialSpec.model_validate({"type": "Evaluate", "evaluate": work | changes}))

    def merge(self, *inputs: Mapping[str, Any], attempt: int = 1, **changes: Any) -> Trial:
        """A Merge trial."""
        spec = {"type": "Merge", "merge": {"inputs": inputs} | changes}
        return self.trial(CPTTrialSpec.model_validate(spec), attempt)

    def spec(self, spec: Mapping[str, Any], attempt: int = 1) -> Trial:
        """An attempt at what a manifest says."""
        return self.trial(CPTTrialSpec.model_validate(spec), attempt)

    def trial(self, spec: CPTTrialSpec, attempt: int = 1) -> Trial:
        """An attempt at that spec."""
        document = TrialDocument(
            namespace=NAMESPACE, name="t", digest=trial_digest(spec), attempt=attempt, protocol=1, spec=spec
        )
        return Trial(document, self.store)

    def command(self, trial: Trial) -> list[str]:
        """That carries a trial out."""
        file = self.folder / f"{trial.digest.short}-{trial.document.attempt}.json"
        file.write_text(json.dumps(trial.document.to_dict()))
        return [sys.executable, "-m", "cpt_trainer", trial.spec.type.lower(), "--trial", str(file),
                "--store", self.address.uri]  # fmt: skip

    def environment(self, processes: int = 1) -> dict[str, str]:
        """Of such a command."""
        endpoint = {"AWS_ENDPOINT_URL_S3": self.address.endpoint} if self.address.endpoint else {}
        sources = {"CPT_SOURCES": self.address.sources} if self.address.sources else {}
        return os.environ | endpoint | sources | {"PET_NPROC_PER_NODE": str(processes)}

    def start(self, trial: Trial, processes: int = 1) -> subprocess.Popen[bytes]:
        """Begin to carry it out; its output is in `log_of`."""
        with self.log_of(trial).open("wb") as log:
            return subprocess.Popen(self.command(trial), env=self.environment(processes), stdout=log, stderr=log)

    def run(self, trial: Trial, processes: int = 1) -> int:
        """Carry it out; its exit code."""
        return self.start(trial, processes).wait()

    def log_of(self, trial: Trial) -> Path:
        """Output of an attempt."""
        return self.folder / f"{trial.digest.short}-{trial.document.attempt}.log"

    def result(self, trial: Trial) -> Result:
        """What it committed."""
        return Result.believed(self.store.get(result_key(NAMESPACE, trial.digest)), trial.digest, trial.spec)

    def losses(self, trial: Trial) -> dict[int, float]:
        """By step, of all its attempts."""
        return {step: past.loss or float("nan") for step, past in earlier_steps(trial, 10**9).items()}


def descendants(pid: int) -> list[int]:
    """Children, their children, …"""
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [deeper for child in found for deeper in descendants(child)]
