"""A trial's status from a verdict. Pure; written only when it differs from what stands there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cpt_api.conditions import Condition, ConditionType, Reason
from cpt_api.layout import data_prefix
from cpt_api.result import CurvePoint, GroupScore, HeldOutScore, Progress, Result, SuiteScore
from cpt_api.trial import Attempts, CheckpointStatus, CPTTrialStatus, Score
from cpt_api.values import Digest, Tokens
from cpt_operator import attempts as record_of
from cpt_operator import rfc3339
from cpt_operator.artifacts import Present
from cpt_operator.folding import TrialView
from cpt_operator.status import Phase, trial_conditions
from cpt_operator.verdicts import Verdict


def next_status(
    view: TrialView, record: Attempts, verdict: Verdict, store_uri: str, names: Mapping[Digest, str]
) -> CPTTrialStatus:
    """What the status shall say. `names` are those of held-out texts, in the order in which to show them."""
    now = rfc3339.text(view.now)
    before = view.status
    if _waits_on(view, record, verdict):
        return before  # a status that said only that the one wait has become the other would be a write per trial
    attempts = record_of.opened(record, view.now) if verdict.start else record
    changes: dict[str, Any] = {
        "observed_generation": view.record.generation,
        "conditions": _conditions(view, verdict, now),
        "digest": view.digest or before.digest,
        "attempts": attempts,
        "gpu_seconds": attempts.gpu_seconds if attempts.total else None,
        "start_time": before.start_time or (now if verdict.start else None),
    }
    if verdict.phase in (Phase.FINISHED, Phase.FAILED):
        changes["completion_time"] = before.completion_time or now
    if verdict.phase is Phase.FINISHED and isinstance(view.result, Present):
        changes |= _of_result(view, view.result, store_uri, names)
    elif isinstance(view.progress, Present):
        changes |= _of_progress(view, view.progress.document, names)
    return before.model_copy(update=changes)


def _conditions(view: TrialView, verdict: Verdict, now: str) -> tuple[Condition, ...]:
    before = view.status.conditions
    message = verdict.message
    old = next((c for c in before if c.type == ConditionType.SUCCEEDED), None)
    if old and old.status == "Unknown" and old.reason == verdict.reason:
        # a cause keeps its first words, which say most: each change would be a write and an event
        message = message if _has_queue_news(view, old.message, message) else old.message
    return trial_conditions(verdict.phase, verdict.reason, message, before, view.record.generation, now)


def _has_queue_news(view: TrialView, old: str, new: str) -> bool:
    """A queue goes from one cause to another; that it counts other numbers now is no news."""
    held = view.observation is not None and view.observation.suspended
    return held and _NUMBER.sub("", old) != _NUMBER.sub("", new)


_NUMBER = re.compile(r"[0-9]+")


def _waits_on(view: TrialView, record: Attempts, verdict: Verdict) -> bool:
    """It has its inputs now and no place, and the status speaks of both: "... and then for its turn"."""
    before = view.status
    said = next((c.reason for c in before.conditions if c.type == ConditionType.SUCCEEDED), None)
    is_news = before.observed_generation != view.record.generation or before.attempts != record
    return verdict.mere_wait and said == Reason.WAITING_FOR_INPUT and not is_news


def _of_result(
    view: TrialView, present: Present[Result], store_uri: str, names: Mapping[Digest, str]
) -> dict[str, Any]:
    result = present.document
    changes: dict[str, Any] = {
        "result_digest": present.sha256,
        "progress": 100,
        "scores": (*_scores(result.held_out, names), *_of_suites(result.suites)),
    }
    if result.checkpoint and view.digest:
        prefix = data_prefix(view.record.namespace, view.digest)
        end = result.checkpoint
        changes["checkpoint"] = CheckpointStatus(uri=f"{store_uri}/{prefix}{end.manifest}", tokens=end.tokens)
        changes["tokens"] = Tokens(max(0, end.tokens - _start_tokens(view)))
    return changes


def _of_progress(view: TrialView, progress: Progress, names: Mapping[Digest, str]) -> dict[str, Any]:
    done = max(0, progress.tokens - _start_tokens(view))
    planned = max(1, progress.planned_tokens - _start_tokens(view))
    changes: dict[str, Any] = {"progress": min(100, 100 * done // planned)}
    if view.spec and view.spec.train:  # the others' are read, not trained: they are no cost
        changes["tokens"] = Tokens(done)
    if progress.held_out or progress.suites:
        points = (_on_suite(point.suite, point) for point in progress.suites)
        changes["scores"] = (*_scores(progress.held_out, names), *points)
    return changes


def _start_tokens(view: TrialView) -> int:
    return view.spec.train.start_tokens if view.spec and view.spec.train else 0


def _scores(scores: Sequence[HeldOutScore], names: Mapping[Digest, str]) -> tuple[Score, ...]:
    """In the order of `names`: `kubectl get` shows the first."""
    order = list(names)
    known = sorted((score for score in scores if score.text in names), key=lambda score: order.index(score.text))
    return tuple(_score(score, names) for score in (*known, *(s for s in scores if s.text not in names)))


def _of_suites(scores: Sequence[SuiteScore]) -> tuple[Score, ...]:
    """The number that each suite is known by."""
    return tuple(_on_suite(each.suite, each.groups[0]) for each in scores)


def _on_suite(suite: str, number: CurvePoint | GroupScore) -> Score:
    return Score(suite=suite, score=f"{number.value:.4f}", stderr=f"{number.standard_error:.4f}")


def _score(score: HeldOutScore, names: Mapping[Digest, str]) -> Score:
    return Score(
        suite=names.get(score.text, score.text.short),
        score=f"{score.bits_per_byte:.4f}",
        stderr=f"{score.standard_error:.4f}",
    )
