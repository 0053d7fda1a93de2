"""What a decision compares, read from the store and checked: nothing is compared but scores on the very same items.

For every trial of the question: its `result.json`, then the item table of every text and suite. Its bytes must be those
that the result names, its items those of the baseline's table. The first difference ends the decision, and is named.

Price: two or three GETs a model, sixteen at a time, and some milliseconds per thousand items.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cpt_api.result import HeldOutScore, Outcome, Result
from cpt_api.trial import DecideWork, DecisionMetric, TrialRef, TrialType
from cpt_api.values import Digest
from cpt_trainer.decide.document import Scores
from cpt_trainer.decide.estimates import TextSums, text_sums
from cpt_trainer.decide.suites import ScoredSuite, read_suite, require_same, sums_of
from cpt_trainer.errors import ConfigError, DamagedError, DataError
from cpt_trainer.tables import Items, first_difference, from_parquet
from cpt_trainer.trial import Trial, known

_THREADS = 16
"""They wait for the store most of the time."""
_SAME = ("suite", "task", "item", "item_hash", "prompt_hash", "stratum", "cluster", "bytes")
"""What must be equal in two tables that are compared."""
_SAME_DOCUMENTS = tuple(name for name in _SAME if name != "task")
"""The same where another tokenizer prepared the text: it has another name, its pieces are cut by bytes."""
_SAME_QUESTIONS = (*_SAME, "gold")
"""Of suites, whoever answers them."""


@dataclass(frozen=True, slots=True)
class _Baseline:
    """What everything else must equal, but for its answers."""

    trial: Digest
    texts: Mapping[Digest, Items]
    suites: Mapping[str, ScoredSuite]


def read_models(trial: Trial, work: DecideWork) -> dict[Digest, Scores | None]:
    """Every model of the question by its trial; None where it diverged."""
    expected = _baseline(trial, work)
    theirs = _theirs(work)

    def read(digest: Digest) -> Scores | None:
        result = trial.result_of(digest, TrialType.TRAIN, TrialType.EVALUATE)
        if result.outcome is Outcome.DIVERGED:
            return None
        texts = _texts_of(trial, result, expected, theirs.get(digest, {}))
        suites = _suites_of(trial, result, expected)
        return _scores(work, texts, suites, result.numbers.get("parameters"))

    models = sorted({known(model) for model in _models(work)})
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(models, pool.map(read, models), strict=True))


def _baseline(trial: Trial, work: DecideWork) -> _Baseline:
    metrics = [work.target, *([work.retention] if work.retention else [])]
    if any((metric.held_out is None) == (metric.suite is None) for metric in metrics):
        raise ConfigError("a metric is made of exactly one of heldOut and suite")
    texts = sorted({text for metric in metrics for text in _texts(metric)})
    suites = sorted({metric.suite.suite for metric in metrics if metric.suite})
    baseline = known(work.baseline)
    result = trial.result_of(baseline, TrialType.EVALUATE)
    return _Baseline(
        baseline,
        {text: from_parquet(*_read(trial, result, _score(result, text).table)) for text in texts},
        {suite: _suite(trial, result, suite) for suite in suites},
    )


def _texts_of(
    trial: Trial, result: Result, expected: _Baseline, theirs: Mapping[Digest, Digest]
) -> dict[Digest, TextSums]:
    """One model on the texts, by the baseline's name of each."""
    sums = {}
    for text, wanted in expected.texts.items():
        own = theirs.get(text, text)
        items = from_parquet(*_read(trial, result, _score(result, own).table))
        what = f"trials {result.digest.short}… and {expected.trial.short}…, text {text.short}…"
        _require_equal_items(items, wanted, what, _SAME if own == text else _SAME_DOCUMENTS)
        sums[text] = text_sums(items)
    return sums


def _suites_of(trial: Trial, result: Result, expected: _Baseline) -> dict[str, ScoredSuite]:
    """One model on the suites."""
    found = {}
    for suite, wanted in expected.suites.items():
        own = _suite(trial, result, suite)
        what = f"trials {result.digest.short}… and {expected.trial.short}…, suite {suite}"
        require_same(own, wanted, what)
        _require_equal_items(own.table.items, wanted.table.items, what, _SAME_QUESTIONS)
        found[suite] = own
    return found


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
    return [known(text) for text in metric.texts]


def _scores(
    work: DecideWork, texts: Mapping[Digest, TextSums], suites: Mapping[str, ScoredSuite], parameters: float | None
) -> Scores:
    def sums(metric: DecisionMetric | None) -> tuple[TextSums, ...]:
        if metric is None:
            return ()
        if metric.suite:
            return sums_of(suites[metric.suite.suite].table, metric.suite)
        return tuple(texts[text] for text in _texts(metric))

    return Scores(sums(work.target), sums(work.retention), int(parameters) if parameters else None)


def _suite(trial: Trial, result: Result, suite: str) -> ScoredSuite:
    return read_suite(result, suite, lambda result, table: _read(trial, result, table)[0])


def _read(trial: Trial, result: Result, table: str) -> tuple[bytes, str]:
    """A table with the bytes that its result names, and where it lies."""
    key = trial.data_of(result.digest) + table
    data = trial.store.get(key)
    named = next((output.sha256 for output in result.outputs if output.key == table), "no such output")
    found = hashlib.sha256(data).hexdigest()
    if found != named:
        raise DamagedError(
            f"{key} has SHA-256 {found}, the result of its trial names {named}: something else wrote there; delete "
            "that result and run the trial again"
        )
    return data, key


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
