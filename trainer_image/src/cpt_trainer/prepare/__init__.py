"""`prepare`: a user's texts become a dataset of tokens that any training can read by ranges.

    a.jsonl, b.txt.gz …  ->  parts (tokenised, sorted by key)  ->  held-out text, shards  ->  manifest.json

What is done is never done again: parts and shards of an earlier attempt are taken as they are, and the manifest comes
last. The dataset is the same bytes whatever the number of processes, attempts and files, and whatever the files are
called: a document's place in the stream is a hash of its text.

Price: the source is read once, the tokens are written twice; about 1 GB of memory, and 300 MB per process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import structlog

from cpt_api.model import canonical_json, sha256
from cpt_api.result import Finding, Output
from cpt_api.trial import PrepareWork
from cpt_trainer.dataset import MANIFEST, DatasetManifest, File, HeldOutPart, Prepared
from cpt_trainer.errors import DataError, MissingError
from cpt_trainer.prepare.documents import BAD, Task
from cpt_trainer.prepare.heldout import FEW_DOCUMENTS, candidates_below, choose, trains, write_held_out
from cpt_trainer.prepare.parts import Part, delete_parts
from cpt_trainer.prepare.read import Sizes
from cpt_trainer.prepare.shards import Cut, ShardEntry, write_shards
from cpt_trainer.prepare.tokenise import tokenise
from cpt_trainer.sources import open_model, open_source
from cpt_trainer.tokenizer import Tokenizer, read_tokenizer
from cpt_trainer.trial import Trial, commit_result

log = structlog.get_logger()

_SIZES = Sizes()


def run(trial: Trial, sizes: Sizes = _SIZES) -> None:
    """The dataset, and the result that says what is in it."""
    work = trial.spec.prepare
    assert work is not None, "main has seen the type"
    try:
        manifest = Prepared.open(trial.store, trial.data).manifest
        log.info("prepared_already")
    except MissingError:
        manifest = _prepare(trial, work, sizes)
    delete_parts(trial.store, trial.data)
    commit_result(
        trial,
        outputs=tuple(_outputs(manifest)),
        numbers=_numbers(manifest),
        findings=tuple(_warnings(manifest)),
    )


def _prepare(trial: Trial, work: PrepareWork, sizes: Sizes) -> DatasetManifest:
    files = open_source(trial, work.source)
    folder = open_model(trial, work.tokenizer)
    tokenizer = read_tokenizer(folder.store, folder.prefix)
    task = Task(tokenizer, work.text_field, candidates_below(work.holdout), trains(work.holdout))
    parts = tokenise(trial, files, task, work.holdout.max_documents + 1, sizes)
    _require_documents(parts, work)
    choice = choose(parts, work.holdout)
    held_out = write_held_out(trial.store, trial.data, choice, Tokenizer(tokenizer))
    entries: list[ShardEntry] = []
    if task.trains:
        cut = Cut(choice.first_training_key, work.max_tokens)
        entries = write_shards(trial.store, trial.data, parts, cut, sizes.shard_bytes)
    shards = tuple(entry.shard for entry in entries if entry.shard is not None)
    if task.trains and not shards:
        raise DataError(
            f"{work.source.uri}: no document is left to train on: {held_out.documents} are held out, and "
            f"{sum(entry.beyond for entry in entries)} do not fit into maxTokens {work.max_tokens}; "
            "give it more text, or raise maxTokens"
        )
    open_source(trial, work.source)  # what changed while it was read must not be taken for what Preflight saw
    manifest = DatasetManifest(
        source=files.digest,
        tokenizer=tokenizer.digest,
        vocabulary=tokenizer.vocabulary,
        dtype="uint16" if tokenizer.dtype.itemsize == 2 else "uint32",
        eos=tokenizer.eos,
        bos=tokenizer.bos,
        tokens=sum(shard.tokens for shard in shards),
        documents=sum(shard.documents for shard in shards),
        source_bytes=sum(entry.source_bytes for entry in entries),
        shards=shards,
        held_out=held_out,
        left_out=_left_out(parts, held_out, entries),
        bad_lines=tuple(line for part in parts for line in part.summary.examples)[:5],
    )
    trial.store.put_if_absent(trial.data + MANIFEST, canonical_json(manifest.to_dict()))
    return Prepared.open(trial.store, trial.data).manifest


def _require_documents(parts: Sequence[Part], work: PrepareWork) -> None:
    """An empty dataset is an error, with the likely reason."""
    if any(part.summary.documents for part in parts):
        return
    examples = [line for part in parts for line in part.summary.examples]
    why = f"no line has a text in field {work.text_field!r}: {examples[0]}" if examples else "all its files are empty"
    raise DataError(f"dataset {work.source.uri} is empty: {why}; check the address and textField")


def _left_out(parts: Sequence[Part], held_out: HeldOutPart, entries: Sequence[ShardEntry]) -> dict[str, int]:
    """Every line that is neither in the stream nor held out, by reason."""
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.summary.left_out)
    counts["duplicates"] = sum(entry.duplicates for entry in entries)
    counts["beyondMaxTokens"] = sum(entry.beyond for entry in entries)
    read = sum(part.summary.documents for part in parts)
    streamed = sum(entry.shard.documents for entry in entries if entry.shard)
    counts["heldOutRest"] = read - streamed - held_out.documents - counts["duplicates"] - counts["beyondMaxTokens"]
    return {reason: count for reason, count in sorted(counts.items()) if count}


# --- the result -----------------------------------------------------------------------------------------------------


def _outputs(manifest: DatasetManifest) -> Iterator[Output]:
    """Every object of the dataset."""
    own = canonical_json(manifest.to_dict())
    yield Output(key=MANIFEST, bytes=len(own), sha256=sha256(own))
    for shard in manifest.shards:
        yield from (_output(shard.stream), _output(shard.ends))
    yield from (_output(manifest.held_out.stream), _output(manifest.held_out.index))


def _output(file: File) -> Output:
    return Output(key=file.key, bytes=file.bytes, sha256=file.sha256)


def _numbers(manifest: DatasetManifest) -> dict[str, float]:
    left_out = manifest.left_out
    return {
        "trainTokens": manifest.tokens,
        "trainDocuments": manifest.documents,
        "trainBytes": manifest.source_bytes,
        "heldOutDocuments": manifest.held_out.documents,
        "heldOutSections": manifest.held_out.sections,
        "heldOutTokens": manifest.held_out.tokens,
        "heldOutBytes": manifest.held_out.source_bytes,
        "badLines": _bad(manifest),
        "duplicates": left_out.get("duplicates", 0),
    }


def _bad(manifest: DatasetManifest) -> int:
    return sum(manifest.left_out.get(why, 0) for why in BAD)


def _warnings(manifest: DatasetManifest) -> Iterator[Finding]:
    """What a person should know, though the dataset can be used."""
    if bad := _bad(manifest):
        yield Finding(
            reason="BadLines",
            message=f"{bad} lines are left out; the first: {'; '.join(manifest.bad_lines)}"[:1024],
        )
    if manifest.held_out.documents < FEW_DOCUMENTS:
        yield Finding(
            reason="FewHeldOutDocuments",
            message=f"{manifest.held_out.documents} documents are held out, expected at least {FEW_DOCUMENTS}: "
            "standard errors of bits per byte cannot be trusted; raise holdout.share, or give it more documents",
        )
