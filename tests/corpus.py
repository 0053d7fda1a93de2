"""A user's files and a store for tests of the data verbs: in folders, or in a real S3.

corpus = Corpus.in_folder(tmp_path)
corpus.put("data/a.jsonl", jsonl("first document", "second document"))
corpus.put_tokenizer("base")
trial = corpus.prepare("data")                      resolved, as Preflight would have resolved it
"""

from __future__ import annotations

import functools
import json
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from cpt_api.digest import trial_digest
from cpt_api.trial import CPTTrialSpec, TrialDocument
from cpt_trainer.sources import list_files
from cpt_trainer.store import Address, Store, open_address
from cpt_trainer.trial import Trial

NAMESPACE = "team"
BUCKET = "s3://corpora"
BOS, EOS = "<s>", "</s>"
BOS_ID, EOS_ID = 0, 1
CONFIG = {"model_type": "llama", "vocab_size": 400, "eos_token_id": EOS_ID}


def jsonl(*texts: str, field: str = "text") -> bytes:
    """One document a line."""
    return "".join(json.dumps({field: text}) + "\n" for text in texts).encode()


def words(number: int) -> str:
    """A short document that no other number has."""
    return f"document {number} tells of {number * number} and of nothing else"


@functools.cache
def tokenizer_json(*, adds: bool = False) -> str:
    """A byte-level BPE; with `adds` it puts BOS before and EOS behind a text by itself."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([words(n) for n in range(50)], trainer)
    if adds:
        made.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A {EOS}", special_tokens=[(BOS, BOS_ID), (EOS, EOS_ID)]
        )
    text: str = made.to_str()
    return text


@dataclass(frozen=True)
class Corpus:
    """Files below BUCKET, and a store."""

    sources: Store
    store: Store
    bucket: str = BUCKET

    @classmethod
    def in_folder(cls, folder: Path) -> Corpus:
        """Both in folders."""
        sources = folder / "sources"
        sources.mkdir(parents=True, exist_ok=True)
        address = Address(str(folder / "store"), sources=str(sources))
        return cls(open_address(Address(str(sources))), open_address(address))

    @classmethod
    def in_s3(cls, uri: str) -> Corpus:
        """Both below an address of S3."""
        return cls(open_address(Address(f"{uri}/sources")), open_address(Address(f"{uri}/store")), f"{uri}/sources")

    def put(self, key: str, data: bytes) -> None:
        """A file of the user."""
        self.sources.put(key, data)

    def put_tokenizer(self, folder: str, *, adds: bool = False, **settings: Any) -> None:
        """Config and tokenizer of a model."""
        self.put(f"{folder}/tokenizer.json", tokenizer_json(adds=adds).encode())
        names = {"bos_token": BOS, "eos_token": EOS} | settings
        self.put(f"{folder}/tokenizer_config.json", json.dumps(names).encode())
        self.put(f"{folder}/config.json", json.dumps(CONFIG).encode())

    def uri(self, key: str) -> str:
        """The address of a file or folder."""
        return f"{self.bucket}/{key}"

    def source(self, key: str) -> dict[str, Any]:
        """Resolved."""
        return {"uri": self.uri(key), "digest": list_files(self.store, self.uri(key)).digest}

    def trial(self, spec: dict[str, Any], attempt: int = 1) -> Trial:
        """Any trial."""
        parsed = CPTTrialSpec.model_validate(spec)
        document = TrialDocument(
            namespace=NAMESPACE, name="t", digest=trial_digest(parsed), attempt=attempt, protocol=1, spec=parsed
        )
        return Trial(document, self.store)

    def elsewhere(self) -> Corpus:
        """The same files, and an empty store."""
        address = self.store.address
        return replace(self, store=open_address(replace(address, uri=f"{address.uri}-{uuid.uuid4().hex}")))

    def prepare(self, data: str, attempt: int = 1, cpu: str = "1", **changes: Any) -> Trial:
        """A Prepare trial of these files with the tokenizer at 'base'; one CPU is one process."""
        work = {"source": self.source(data), "tokenizer": {"source": self.source("base")}} | changes
        return self.trial({"type": "Prepare", "prepare": work, "run": {"resources": {"cpu": cpu}}}, attempt)

    def preflight(self, *inputs: dict[str, Any], **changes: Any) -> Trial:
        """A Preflight trial of these inputs."""
        wanted = [{"name": f"input-{n}", **entry, "uri": self.uri(entry["uri"])} for n, entry in enumerate(inputs)]
        return self.trial({"type": "Preflight", "preflight": {"inputs": wanted} | changes})
