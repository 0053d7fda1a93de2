"""`preflight`: look at every input before anything asks for a GPU, under the identity that will read it.

    dataset s3://corpora/python    2 files, 4.1 MB, the first document has text      resolved: digest of the listing
    model s3://models/base         no tokenizer.json                                 Finding NoTokenizer: what to do

What is wrong is a *result* (outcome Findings), not a failure: the operator shows it, and looks again later. Only a
store that does not answer ends it early.

Price: one LIST per thousand objects, the first 256 KiB of one file of each dataset, the headers of a model's weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum

import structlog

from cpt_api.result import Finding, Outcome, ResolvedInput
from cpt_api.trial import BatchCheck, InputKind, PreflightInput
from cpt_trainer.errors import ConfigError, DataError, MissingError, RefusedError
from cpt_trainer.evaluate.items import ItemFolder
from cpt_trainer.evaluate.suite_file import suite_of
from cpt_trainer.evaluate.task import Task
from cpt_trainer.prepare.documents import Tally, documents_of
from cpt_trainer.prepare.read import format_of, is_hidden, opening, texts
from cpt_trainer.sources import Files, keep_listing, list_files
from cpt_trainer.store import require_conditional_writes
from cpt_trainer.tokenizer import CONFIG, FILE, read_json, read_tokenizer
from cpt_trainer.trial import Trial, commit_result
from cpt_trainer.weights import INDEX, open_weights

log = structlog.get_logger()

_MOST_FINDINGS = 256
_ALL_CHARACTERS = 60_000
"""Of all messages, so that the result can be read."""
_LONGEST_CHARACTERS = 1000


class Why(StrEnum):
    """Reasons of findings."""

    NOT_WRITABLE = "NotWritable"
    NO_CONDITIONAL_WRITES = "NoConditionalWrites"
    BATCH_NOT_DIVISIBLE = "BatchNotDivisible"
    SEQUENCE_TOO_LONG = "SequenceTooLong"
    NOT_FOUND = "NotFound"
    REFUSED = "Refused"
    PIN_DIFFERS = "PinDiffers"
    CONFIG_UNREADABLE = "ConfigUnreadable"
    NO_TOKENIZER = "NoTokenizer"
    TOKENIZER_UNREADABLE = "TokenizerUnreadable"
    VOCABULARY_TOO_LARGE = "VocabularyTooLarge"
    WEIGHTS_UNREADABLE = "WeightsUnreadable"
    UNKNOWN_FILES = "UnknownFiles"
    NO_DOCUMENT = "NoDocument"
    NO_ITEMS = "NoItems"
    NO_SUITE = "NoSuite"


Trouble = tuple[Why, str]
"""Reason, and what was found, expected, and to do."""
Check = Callable[[Files, PreflightInput], Iterator[Trouble]]


def run(trial: Trial) -> None:
    """Every input, and what is wrong with it."""
    work = trial.spec.preflight
    assert work is not None, "main has seen the type"
    findings = [*_of_store(trial), *_of_batch(work.batch)]
    resolved = []
    for wanted in work.inputs:
        files, troubles = _look(trial, wanted)
        findings += [Finding(input=wanted.name, reason=why, message=text) for why, text in troubles]
        if files is not None and wanted.kind is InputKind.MODEL:
            findings += _of_length(files, wanted, work.batch)
        if files is not None:
            keep_listing(trial, files)
            resolved.append(
                ResolvedInput(
                    name=wanted.name,
                    kind=wanted.kind,
                    uri=wanted.uri,
                    digest=files.digest,
                    files=len(files.entries),
                    bytes=files.bytes,
                )
            )
    for finding in findings:
        log.warning("finding", **finding.to_dict())
    commit_result(
        trial,
        outcome=Outcome.FINDINGS if findings else Outcome.COMPLETED,
        resolved=tuple(resolved),
        findings=_shortened(findings),
        numbers={"inputs": len(work.inputs), "findings": len(findings)},
    )


def _shortened(findings: list[Finding]) -> tuple[Finding, ...]:
    few = findings[:_MOST_FINDINGS]
    length = min(_LONGEST_CHARACTERS, _ALL_CHARACTERS // max(1, len(few)))
    return tuple(finding.model_copy(update={"message": finding.message[:length]}) for finding in few)


# --- what concerns all ------------------------------------------------------------------------------------------------


def _of_store(trial: Trial) -> Iterator[Finding]:
    """Results need a store that can be written, and where two attempts cannot both be first."""
    try:
        require_conditional_writes(trial.store, f"{trial.data}probe-{trial.document.attempt}")
    except ConfigError as error:
        yield Finding(reason=Why.NO_CONDITIONAL_WRITES, message=str(error))
    except RefusedError as error:
        yield Finding(reason=Why.NOT_WRITABLE, message=f"{error}: expected to read and write below {trial.data}")


def _of_batch(batch: BatchCheck | None) -> Iterator[Finding]:
    if batch is not None and batch.global_batch_size % batch.processes:
        size, processes = batch.global_batch_size, batch.processes
        near = [n for n in (size - size % processes, size + processes - size % processes) if n]
        yield Finding(
            reason=Why.BATCH_NOT_DIVISIBLE,
            message=f"globalBatchSize {size} is not a multiple of the {processes} processes that train: use "
            f"{' or '.join(map(str, near))}, or other resources",
        )


def _of_length(files: Files, wanted: PreflightInput, batch: BatchCheck | None) -> Iterator[Finding]:
    try:
        longest = read_json(files.store, CONFIG, optional=True).get("max_position_embeddings")
    except DataError:
        return  # _config has said it
    if batch is not None and isinstance(longest, int) and batch.sequence_length > longest:
        yield Finding(
            input=wanted.name,
            reason=Why.SEQUENCE_TOO_LONG,
            message=f"{wanted.uri}: training.sequenceLength is {batch.sequence_length}, the model has {longest} "
            f"positions (max_position_embeddings): use {longest} at most, or a base whose positions were extended",
        )


# --- one input ------------------------------------------------------------------------------------------------------


def _look(trial: Trial, wanted: PreflightInput) -> tuple[Files | None, list[Trouble]]:
    """What lies at its address, and everything that is wrong with it."""
    try:
        files = list_files(trial.store, wanted.uri)
    except MissingError as error:
        return None, [(Why.NOT_FOUND, str(error))]
    except RefusedError as error:
        return None, [(Why.REFUSED, str(error))]
    troubles: list[Trouble] = []
    for check in (_pin, *_CHECKS[wanted.kind]):
        try:
            troubles += check(files, wanted)
        except RefusedError as error:
            troubles.append((Why.REFUSED, str(error)))
    return files, troubles


def _pin(files: Files, wanted: PreflightInput) -> Iterator[Trouble]:
    if wanted.pin is not None and wanted.pin != files.digest:
        yield (
            Why.PIN_DIFFERS,
            f"{wanted.uri} has digest {files.digest}, the spec pins {wanted.pin}: the files are others than those that "
            "were pinned; put them back, or pin what is there now",
        )


def _config(files: Files, wanted: PreflightInput) -> Iterator[Trouble]:
    try:
        if "model_type" not in read_json(files.store, CONFIG):
            yield Why.CONFIG_UNREADABLE, f"{wanted.uri}: {CONFIG} has no model_type; expected Hugging Face layout"
    except DataError as error:
        yield (
            Why.CONFIG_UNREADABLE,
            f"{wanted.uri}: {error}; expected {CONFIG} in Hugging Face layout, as save_pretrained writes it",
        )


def _tokenizer(files: Files, wanted: PreflightInput) -> Iterator[Trouble]:
    if all(entry.key != FILE for entry in files.entries):
        yield (
            Why.NO_TOKENIZER,
            f"{wanted.uri} has no {FILE}: without its tokenizer a model cannot be trained on text; write it there with "
            "AutoTokenizer.from_pretrained(…).save_pretrained(…)",
        )
        return
    try:
        tokenizer = read_tokenizer(files.store, "")
        embedded = read_json(files.store, CONFIG, optional=True).get("vocab_size")
    except DataError as error:
        yield Why.TOKENIZER_UNREADABLE, f"{wanted.uri}: {error}"
        return
    if isinstance(embedded, int) and tokenizer.vocabulary > embedded:
        yield (
            Why.VOCABULARY_TOO_LARGE,
            f"{wanted.uri}: the tokenizer has tokens up to {tokenizer.vocabulary - 1}, the model embeds {embedded}: "
            "they do not belong together, or the embedding must be resized",
        )


def _weights(files: Files, wanted: PreflightInput) -> Iterator[Trouble]:
    try:
        weights = open_weights(files.store)
        index = read_json(files.store, INDEX, optional=True)
    except DataError as error:
        text = f"{wanted.uri}: {error}; expected safetensors"
        if any(entry.key.endswith((".bin", ".pth", ".pt")) for entry in files.entries):
            text += ", pickled weights are never read: save the model again with save_pretrained(…)"
        yield Why.WEIGHTS_UNREADABLE, text
        return
    listed: Mapping[str, str] = index.get("weight_map", {})
    if missing := sorted(listed.keys() - weights.tensors.keys()):
        yield (
            Why.WEIGHTS_UNREADABLE,
            f"{wanted.uri}: {INDEX} lists {missing[0]} and {len(missing) - 1} other tensors that are in none of the "
            "files; copy the whole model again",
        )


def _file_types(files: Files, wanted: PreflightInput) -> Iterator[Trouble]:
    strange = [entry.key for entry in files.entries if not is_hidden(entry.key) and format_of(entry.key) is None]
    if not strange:
        return
    text = f"{wanted.uri}: {len(strange)} of {len(files.entries)} files are no text that can be read: {strange[0]}"
    if any(name.endswith(".parquet") for name in strange):
        text += "; parquet is not read yet, write JSON lines"
    yield Why.UNKNOWN_FILES, f"{text}; expected .jsonl or .txt, plain or with .gz or .zst behind it"


def _first_document(files: Files, wanted: PreflightInput) -> Iterator[Trouble]:
    found = texts(files)
    entry = next((entry for entry in found if entry.size), None)
    if entry is None:
        if not found and any(not is_hidden(entry.key) for entry in files.entries):
            return  # _file_types has said it
        yield Why.NO_DOCUMENT, f"{wanted.uri} holds no text: all of its {len(files.entries)} files are empty"
        return
    tally = Tally()
    try:
        piece = opening(files, entry)
    except DataError as error:
        yield Why.NO_DOCUMENT, f"{wanted.uri}: {error}"
        return
    if piece.data and not list(documents_of(piece, wanted.text_field, tally)):
        why = tally.examples[0] if tally.examples else f"{entry.key} begins with empty documents"
        yield Why.NO_DOCUMENT, f"{wanted.uri}: {why}; put the name of the field with the text into textField"


def _items(files: Files, wanted: PreflightInput) -> Iterator[Trouble]:
    try:
        folder = ItemFolder(files.store)
        manifest = folder.manifest
    except (DataError, MissingError) as error:
        yield Why.NO_ITEMS, f"{wanted.uri}: {error}"
        return
    there = {entry.key for entry in files.entries}
    missing = [file.key for file in manifest.files if file.key not in there]
    if missing:
        yield (
            Why.NO_ITEMS,
            f"{wanted.uri}: the manifest names {missing[0]} and {len(missing) - 1} other files that are not there; "
            "copy the whole folder again",
        )
    for name in wanted.suites or ():
        try:
            suite = suite_of(name, files)
        except (ConfigError, MissingError) as error:
            yield Why.NO_SUITE, str(error)
            continue
        if troubles := [str(why) for task in suite.tasks if (why := _lacking(folder, task))]:
            yield Why.NO_ITEMS, f"suite {name}: {troubles[0]}; {len(troubles)} of {len(suite.tasks)} tasks lack items"


def _lacking(folder: ItemFolder, task: Task) -> DataError | MissingError | None:
    """Why the manifest does not offer what the task asks; what the files hold is read when they are asked."""
    try:
        folder.file_for(task)
    except (DataError, MissingError) as error:
        return error
    return None


_CHECKS: Mapping[InputKind, tuple[Check, ...]] = {
    InputKind.MODEL: (_config, _tokenizer, _weights),
    InputKind.TOKENIZER: (_config, _tokenizer),
    InputKind.DATASET: (_file_types, _first_document),
    InputKind.ITEMS: (_items,),
}
