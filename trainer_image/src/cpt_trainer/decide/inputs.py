"""What a decision compares, read from the store and checked: nothing is compared but scores on the very same items.

For every trial of the question: its `result.json`, then the item table of every text. Its bytes must be those that the
result names, its items those of the baseline's table. The first difference ends the decision, and is named.

Price: two or three GETs a model, sixteen at a time, and some milliseconds per thousand items.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from cpt_api.result import HeldOutScore, Outcome, Result
from cpt_api.trial import DecideWork, DecisionMetric, TrialRef, TrialType
from cpt_api.values import Digest
from cpt_trainer.decide.document import Scores
from cpt_trainer.decide.estimates import TextSums, text_sums
from cpt_trainer.errors import DamagedError, DataError
from cpt_trainer.tables import Items, first_difference, from_parquet
from cpt_trainer.trial import Trial, known

_THREADS = 16
"""They wait for the store most of the time."""
_SAME = ("suite", "task", "item", "item_hash", "prompt_hash", "stratum", "cluster", "bytes")
"""What must be equal in two tables that are compared."""
_SAME_DOCUMENTS = tuple(name for name in _SAME if name != "task")
"""The same where another tokenizer prepared the text: it has another name, its pieces are cut by bytes."""


def read_models(trial: Trial, work: DecideWork) -> dict[Digest, Scores | None]:
    """Every model of the question by its trial; None where it diverged."""
    metrics = [work.target, *([work.retention] if work.retention else [])]
    texts = sorted({text for metric in metrics for text in _texts(metric)})
    baseline = known(work.baseline)
    result = trial.result_of(baseline, TrialType.EVALUATE)
    expected = {text: _read(trial, result, text) for text in texts}
    theirs = _theirs(work)

    def read(digest: Digest) -> Scores | None:
        result = trial.result_of(digest, TrialType.TRAIN, TrialType.EVALUATE)
        if result.outcome is Outcome.DIVERGED:
            return None
        sums: dict[Digest, TextSums] = {}
        for text, wanted in expected.items():
            own = theirs.get(digest, {}).get(text, text)
            items = _read(trial, result, own)
            what = f"trials {digest.short}… and {baseline.short}…, text {text.short}…"
            _require_equal_items(items, wanted, what, _SAME if own == text else _SAME_DOCUMENTS)
            sums[text] = text_sums(items)
        return _scores(work, sums, result.numbers.get("parameters"))

    models = sorted({known(model) for model in _models(work)})
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(models, pool.map(read, models), strict=True))


def _models(work: DecideWork) -> Iterable[TrialRef]:
    yield work.baseline
    yield from (arm.trial for entry in work.datasets for arm in entry.arms)
    yield from (replicate for control in work.controls for replicate in control.trials)
    yield from (merge.trial for merge in work.merges or ())
    for model in work.models or ():
        yield model.baseline
        if model.arm:
            yield model.arm.trial


def _theirs(work: DecideWork) -> dict[Digest, dict[Digest, Digest]]:
    """Of each trial of another base: its own text for each of the question's."""
    asked = _texts(work.target), _texts(work.retention) if work.retention else []
    found: dict[Digest, dict[Digest, Digest]] = {}
    for model in work.models or ():
        own = [known(text) for text in model.target], [known(text) for text in model.retention]
        if [len(texts) for texts in own] != [len(texts) for texts in asked]:
            raise DataError(
                f"the base {known(model.baseline).short}… has {len(own[0])} and {len(own[1])} texts of target and "
                f"retention, the question has {len(asked[0])} and {len(asked[1])}: name as many, in the same order"
            )
        pairs = {
            text: other
            for texts, others in zip(asked, own, strict=True)
            for text, other in zip(texts, others, strict=True)
        }
        found |= {known(trial): pairs for trial in (model.baseline, *([model.arm.trial] if model.arm else []))}
    return found


def _texts(metric: DecisionMetric) -> list[Digest]:
    return [known(text) for text in metric.held_out]


def _scores(work: DecideWork, sums: Mapping[Digest, TextSums], parameters: float | None) -> Scores:
    target = tuple(sums[text] for text in _texts(work.target))
    retention = tuple(sums[text] for text in _texts(work.retention)) if work.retention else ()
    return Scores(target, retention, int(parameters) if parameters else None)


def _read(trial: Trial, result: Result, text: Digest) -> Items:
    """The table of one text, with the bytes that its result names."""
    score = _score(result, text)
    key = trial.data_of(result.digest) + score.table
    data = trial.store.get(key)
    named = next((output.sha256 for output in result.outputs if output.key == score.table), "no such output")
    found = hashlib.sha256(data).hexdigest()
    if found != named:
        raise DamagedError(
            f"{key} has SHA-256 {found}, the result of its trial names {named}: something else wrote there; delete "
            "that result and run the trial again"
        )
    return from_parquet(data, key)


def _score(result: Result, text: Digest) -> HeldOutScore:
    for score in result.held_out:
        if score.text == text:
            return score
    raise DataError(
        f"the {result.type} trial {result.digest.short}… has no item table of text {text.short}…, it has "
        f"{[score.text.short for score in result.held_out]}: score it with an Evaluate trial and name that one"
    )


def _require_equal_items(items: Items, expected: Items, what: str, columns: Sequence[str]) -> None:
    if len(items) != len(expected):
        raise DataError(f"{what}: {len(items)} and {len(expected)} items cannot be paired: score both on the same text")
    if different := first_difference(items, expected, columns):
        name, row = different
        here, there = getattr(items, name)[row], getattr(expected, name)[row]
        raise DataError(
            f"{what}: {name} of row {row} is {here} and {there}: score both on the same text by the same version"
        )
