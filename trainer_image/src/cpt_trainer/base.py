"""Where a run starts: files of a model, and what fills it.

    start               config and tokenizer from       weights                     optimizer
    model               the model's folder              its safetensors             fresh
    segment             the other trial's model/        its end's checkpoint        its end's
    random              the folder of the config        seed and names of tensors   fresh

Every Train trial keeps config and tokenizer below model/, byte for byte: its segments, its evaluations and its export
need them, and neither may depend on files that a user can change. No torch here: merges need them too.

Price: the tokenizer, a few megabytes, goes to each rank and once to the store for every trial.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cpt_api.model import canonical_json, sha256
from cpt_api.result import CheckpointRef, Output, Result
from cpt_api.trial import ModelRef, Start, TrialRef, TrialType
from cpt_api.values import Digest
from cpt_trainer.dataset import Prepared
from cpt_trainer.errors import DataError
from cpt_trainer.manifest import Checkpoint, read_checkpoint
from cpt_trainer.sources import open_model, open_source
from cpt_trainer.store import Store
from cpt_trainer.trial import Trial

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
MODEL_FILES = (
    CONFIG,
    TOKENIZER,
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
"""What makes a model besides its weights; nothing else is copied."""
_TYPES: Mapping[str, str] = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
MODEL = "model/"
"""Config and tokenizer, below a Train trial's data prefix."""

Files = Mapping[str, bytes]
"""By name."""


@dataclass(frozen=True, slots=True)
class SegmentEnd:
    """The end of another Train trial."""

    result: Result
    """What it committed."""
    reference: CheckpointRef
    """Its end."""
    checkpoint: Checkpoint
    """The same, opened."""


def model_files(trial: Trial, start: Start) -> Files:
    """Config and tokenizer of the model that a run trains."""
    if start.random is not None:
        return read_files(open_source(trial, start.random.config).store, "")
    if start.segment is not None:
        return segment_files(trial, start.segment)
    assert start.model is not None
    return reference_files(trial, start.model)


def reference_files(trial: Trial, model: ModelRef) -> Files:
    """Of a model."""
    folder = open_model(trial, model)
    return read_files(folder.store, folder.prefix)


def segment_files(trial: Trial, segment: TrialRef) -> Files:
    """Of another trial's end."""
    assert segment.digest is not None
    return read_files(trial.store, trial.data_of(segment.digest) + MODEL)


def read_files(store: Store, prefix: str) -> Files:
    """Those of MODEL_FILES that are there."""
    there = {entry.key.removeprefix(prefix) for entry in store.list(prefix)}
    files = {name: store.get(prefix + name) for name in MODEL_FILES if name in there}
    if missing := {CONFIG, TOKENIZER} - files.keys():
        raise DataError(f"{store.address.uri}/{prefix}: {' and '.join(sorted(missing))} not found; expected a model")
    return files


def config_values(files: Files) -> dict[str, Any]:
    """What stands in config.json."""
    try:
        values = json.loads(files[CONFIG])
    except ValueError as error:
        raise DataError(f"the model's {CONFIG} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise DataError(f"the model's {CONFIG} is a {type(values).__name__}, expected an object")
    return values


def type_of(files: Files) -> str:
    """safetensors' name of the type that config.json asks for; fp32 where it does not say."""
    config = config_values(files)
    return _TYPES.get(config.get("dtype") or config.get("torch_dtype") or "float32", "F32")


def keep_files(trial: Trial, prefix: str, files: Files) -> tuple[Output, ...]:
    """Put them below the trial's data prefix and that one."""
    for name, data in files.items():
        trial.store.put(trial.data + prefix + name, data)
    return tuple(
        Output(key=prefix + name, bytes=len(data), sha256=Digest(hashlib.sha256(data).hexdigest()))
        for name, data in sorted(files.items())
    )


def segment_end(trial: Trial, segment: TrialRef) -> SegmentEnd:
    """The end of another trial; DataError when it has none to go on from."""
    assert segment.digest is not None
    result = trial.result_of(segment.digest, TrialType.TRAIN)
    if result.checkpoint is None:
        raise DataError(f"trial {segment.digest.short}… ended {result.outcome}, without a checkpoint to go on from")
    key = trial.data_of(segment.digest) + result.checkpoint.manifest
    return SegmentEnd(result, result.checkpoint, read_checkpoint(trial.store, key))


def start_origin(trial: Trial, start: Start) -> Digest | None:
    """The model at the root of a run; None where it came from a trial that did not record its own."""
    if start.random is not None:
        return sha256(canonical_json(start.random.identity()))
    if start.segment is not None:
        assert start.segment.digest is not None
        return trial.result_of(start.segment.digest, TrialType.TRAIN).origin
    assert start.model is not None
    return model_origin(trial, start.model)


def model_origin(trial: Trial, model: ModelRef) -> Digest | None:
    """Of files, the files themselves."""
    if model.source is not None:
        return model.source.digest
    assert model.trial is not None and model.trial.digest is not None
    return trial.result_of(model.trial.digest, TrialType.TRAIN, TrialType.MERGE).origin


def require_tokenizer(files: Files, datasets: Mapping[Digest, Prepared], vocabulary: int) -> None:
    """Data that was made with another tokenizer than the model's is refused."""
    have = hashlib.sha256(files[TOKENIZER]).hexdigest()
    for digest, prepared in datasets.items():
        manifest = prepared.manifest
        if manifest.tokenizer != have:
            raise DataError(
                f"dataset {digest.short}… was made with tokenizer {manifest.tokenizer[:12]}…, the model's is "
                f"{have[:12]}…: prepare it again with this model's"
            )
        if manifest.vocabulary > vocabulary:
            raise DataError(
                f"dataset {digest.short}… has tokens up to {manifest.vocabulary - 1}, the model embeds {vocabulary}"
            )
