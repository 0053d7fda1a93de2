"""What is merged: models opened, and found to belong together before a value of them is averaged.

    inputs:  the base 0.5, the end of a run 0.5     the base's tensors, types, config and tokenizer are the output's
    origin   files: 3b1f…   its start's: 3b1f…      one model at the root of both, else they are refused
    config, tokenizer.json                          equal, but for what only says who wrote them
    tensors                                         same names and shapes; any of fp32, bf16 and fp16

The head of a model that ties it to its embedding is no tensor of its own: a copy in the files must be one bit for bit,
and where the base has such a copy, the output has one too. RoPE's frequencies, which old files hold, are computed from
the config by whoever loads a model, and are left out.

Files carry no lineage, so external ones are taken at their word, except the base. Where there is none, the first input
is the base. Price: the headers, and embedding and head of each model that has such a copy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cpt_api.trial import MergeInput, MergeWork, ModelRef
from cpt_api.values import Digest
from cpt_trainer.base import (
    CONFIG,
    TOKENIZER,
    Files,
    config_values,
    model_origin,
    read_files,
    reference_files,
    segment_end,
    segment_files,
    type_of,
)
from cpt_trainer.errors import ConfigError, DataError
from cpt_trainer.floats import TYPES
from cpt_trainer.merge.blend import Blend, Part
from cpt_trainer.sources import open_model, open_source
from cpt_trainer.trial import Trial
from cpt_trainer.weights import TensorInfo, Weights, open_weights

_IN_ORDER = 1
"""Blocks of a checkpoint that are held while it is read from its beginning to its end, for the next run of rows."""
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
_FREQUENCIES = "rotary_emb.inv_freq"
_WRITERS_MARKS = frozenset({"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache"})
"""Keys of config.json that say nothing about what the weights mean."""


@dataclass(frozen=True, slots=True)
class Merge:
    """Models that belong together."""

    files: Files
    """The base's config and tokenizer."""
    blend: Blend
    """Their mean."""
    origin: Digest | None
    """The model at the root of all; None where nothing is recorded."""


@dataclass(frozen=True, slots=True)
class _Model:
    label: str
    config: Mapping[str, Any]
    tokenizer: str
    """SHA-256 of its tokenizer.json; the file itself may have 17 MB."""
    weights: Weights
    types: str | None
    """Of its tensors in an output that it is the base of; None: as they are."""
    origin: Digest | None
    """None where nothing is recorded."""
    made_here: bool
    """By a trial, so that its origin is known; files of a user may come from anywhere."""

    @property
    def is_tied(self) -> bool:
        return self.config.get("tie_word_embeddings") is True

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Those that count."""
        left_out = {_HEAD} if self.is_tied else set()
        found = self.weights.tensors.items()
        return {name: info for name, info in found if name not in left_out and not name.endswith(_FREQUENCIES)}


def open_merge(trial: Trial, work: MergeWork, cached_blocks: int = _IN_ORDER) -> Merge:
    """Open all inputs; DataError where they do not belong together."""
    models = [_input(trial, entry, f"inputs[{n}]", cached_blocks) for n, entry in enumerate(work.inputs)]
    opened = [_folder(trial, work.base, "base"), *models] if work.base else models
    base = opened[0]
    origin = _origin([base, *(model for model in models if model.made_here)])
    for model in opened:
        _require_copy(model)
        _require_same_model(base, model)
        _require_same_tensors(base, model)
    tensors = _output(base)
    parts = tuple(
        Part(model.label, model.weights, _names(tensors, model), _weight(entry, model.label))
        for model, entry in zip(models, work.inputs, strict=True)
    )
    return Merge(_files(trial, work), Blend(tensors, parts), origin)


def require_unchanged(trial: Trial, work: MergeWork) -> None:
    """What changed while it was read must not be taken for what the trial names."""
    for model in (work.base, *(entry.model for entry in work.inputs)):
        if model is not None and model.source is not None:
            open_source(trial, model.source)


# --- open -----------------------------------------------------------------------------------------------------------


def _input(trial: Trial, entry: MergeInput, label: str, cached_blocks: int) -> _Model:
    if entry.model is not None:
        return _folder(trial, entry.model, label)
    if entry.segment is None:
        raise ConfigError(f"{label}: expected exactly one of model and segment")
    end = segment_end(trial, entry.segment)
    files = segment_files(trial, entry.segment)
    weights = end.checkpoint.tensors(cached_blocks=cached_blocks)
    return _Model(label, *_facts(files), weights, type_of(files), end.result.origin, made_here=True)


def _folder(trial: Trial, model: ModelRef, label: str) -> _Model:
    """In Hugging Face layout: a user's files, or an export."""
    folder = open_model(trial, model)
    files, weights = read_files(folder.store, folder.prefix), open_weights(folder.store, folder.prefix)
    origin = model_origin(trial, model)
    return _Model(label, *_facts(files), weights, None, origin, made_here=model.trial is not None)


def _facts(files: Files) -> tuple[Mapping[str, Any], str]:
    """What the config says, null being as good as nothing, and the hash of the tokenizer."""
    config = {key: value for key, value in config_values(files).items() if value is not None}
    return config, hashlib.sha256(files[TOKENIZER]).hexdigest()


def _files(trial: Trial, work: MergeWork) -> Files:
    """Of the base."""
    model = work.base or work.inputs[0].model
    if model is not None:
        return reference_files(trial, model)
    assert work.inputs[0].segment is not None, "it was opened"
    return segment_files(trial, work.inputs[0].segment)


def _weight(entry: MergeInput, label: str) -> np.float32:
    weight = np.float32(float(entry.weight))
    if not 0 < weight < np.inf:
        raise ConfigError(f"{label}: weight {entry.weight} is {weight} in fp32; expected one above zero")
    return weight


# --- do they belong together? -----------------------------------------------------------------------------------------


def _origin(models: Sequence[_Model]) -> Digest | None:
    """The one root of all whose root is known."""
    known = [(model.label, model.origin) for model in models if model.origin is not None]
    for label, origin in known:
        first_label, first = known[0]
        if origin != first:
            raise DataError(
                f"{first_label} comes from the model {first.short}…, {label} from {origin.short}…: the mean of models "
                "from different bases is no model; merge those of one"
            )
    return known[0][1] if known else None


def _require_same_model(base: _Model, model: _Model) -> None:
    if model.tokenizer != base.tokenizer:
        raise DataError(
            f"{model.label} has another {TOKENIZER} ({model.tokenizer[:12]}…) than {base.label} "
            f"({base.tokenizer[:12]}…): their tokens mean different things; merge models of one tokenizer"
        )
    have, want = model.config, base.config
    for key in sorted((have.keys() | want.keys()) - _WRITERS_MARKS):
        if have.get(key) != want.get(key):
            raise DataError(
                f"{model.label} has {key} {have.get(key)!r} in its {CONFIG}, {base.label} has "
                f"{want.get(key)!r}: models that compute differently have no mean; where both mean the same, "
                "write the same into both"
            )


def _require_same_tensors(base: _Model, model: _Model) -> None:
    have, want = model.tensors, base.tensors
    missing, unknown = sorted(want.keys() - have.keys()), sorted(have.keys() - want.keys())
    if missing or unknown:
        raise DataError(
            f"{model.label} lacks {len(missing)} tensors of {base.label}, such as {missing[:3]}, and has "
            f"{len(unknown)} that it has not, such as {unknown[:3]}: they are different models"
        )
    for name, info in have.items():
        if info.shape != want[name].shape:
            raise DataError(
                f"{model.label}: tensor {name} has shape {list(info.shape)}, in {base.label} "
                f"{list(want[name].shape)}: they are different models"
            )
        if info.dtype not in TYPES:
            raise DataError(f"{model.label}: tensor {name} is {info.dtype}; a mean is taken of {', '.join(TYPES)}")


def _require_copy(model: _Model) -> None:
    """What a tied model's files have as its head is its embedding."""
    have = model.weights.tensors
    if not model.is_tied or _HEAD not in have:
        return
    if _EMBEDDING not in have or not _equal(model.weights):
        raise DataError(
            f"{model.label}: its {CONFIG} ties the head to the embedding, and its {_HEAD} is not the same: which one "
            "counts cannot be known; remove that tensor, or set tie_word_embeddings to false everywhere"
        )


def _equal(weights: Weights) -> bool:
    head, embedding = weights.tensors[_HEAD], weights.tensors[_EMBEDDING]
    if (head.dtype, head.shape) != (embedding.dtype, embedding.shape):
        return False
    return all(weights.read(_HEAD, rows).tobytes() == weights.read(_EMBEDDING, rows).tobytes() for rows in _runs(head))


def _runs(info: TensorInfo) -> Iterator[tuple[int, int]]:
    step = max(1, 4 * 1024 * 1024 // max(1, info.row_bytes))
    for first in range(0, info.rows, step):
        yield first, min(info.rows, first + step)


# --- the output -----------------------------------------------------------------------------------------------------


def _output(base: _Model) -> dict[str, TensorInfo]:
    """The base's tensors, a copy of its embedding included, as they will be."""
    return {
        name: TensorInfo(name, base.types or info.dtype, info.shape, ())
        for name, info in base.weights.tensors.items()
        if not name.endswith(_FREQUENCIES)
    }


def _names(tensors: Mapping[str, TensorInfo], model: _Model) -> dict[str, str]:
    """A tied head is read as the embedding."""
    return {name: _EMBEDDING if name == _HEAD and model.is_tied else name for name in tensors}
