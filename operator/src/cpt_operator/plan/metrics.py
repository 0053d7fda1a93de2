"""What decides: held-out texts by their digests, or a number of a suite, by what the base's evaluation says of it.

Which numbers a suite has is known where it is scored, not here. For the target that in bits per byte decides, where the
suite has one (a letter tells less than the answer's text), for the retention the one that the suite is known by:

    base on mmlu     accuracy 0.458, accuracy-macro 0.464, bits-per-byte 0.713       target: bits-per-byte
    base on ours     core-average 0.343                                              target and retention: core-average

So questions wait for the base, and where that fails for good nothing can be decided.
"""

from __future__ import annotations

from collections.abc import Mapping

from cpt_api.conditions import Reason
from cpt_api.result import GroupScore, SuiteScore
from cpt_api.trial import DecisionMetric, Measure, SuiteGroup, TrialRef
from cpt_api.unit import BITS, unit_of
from cpt_api.values import Amount, Digest
from cpt_operator.plan.segments import Segments
from cpt_operator.plan.types import Failed, Finding, Succeeded, Units


def knows_metrics(segments: Segments) -> bool:
    """Whether the base has been scored on every suite that decides."""
    return set(segments.recipe.suites) <= _scores(segments).keys()


def metrics_of(segments: Segments) -> tuple[DecisionMetric, DecisionMetric | None]:
    """Target and retention, once they are known."""
    inputs, recipe = segments.inputs, segments.recipe
    target = _of_suite(segments, recipe.target_suite, recipe.minimum_effect, is_target=True)
    retention = _of_suite(segments, recipe.retention_suite, recipe.margin, is_target=False)
    return (
        target or _of_texts(inputs.target, recipe.minimum_effect),
        retention or (_of_texts(inputs.retention, recipe.margin) if inputs.retention else None),
    )


def units_of(segments: Segments) -> Units:
    """While nothing is known that of held-out text."""
    if not knows_metrics(segments):
        return Units()
    target, retention = metrics_of(segments)
    return Units(unit_of(target), unit_of(retention) if retention else BITS)


def unknown_metrics(segments: Segments) -> Finding | None:
    """Why what decides will never be known; None while it may be, and where it is."""
    wanted = segments.recipe.suites
    match segments.outcomes.get(segments.baseline):
        case Failed(reason, message) if wanted:
            return _finding(f"the base could not be scored on {', '.join(wanted)}: {reason}: {message}")
        case Succeeded() if not knows_metrics(segments):
            missing = sorted(set(wanted) - _scores(segments).keys())
            return _finding(f"the evaluation of the base has no score of {missing[0]}: delete its result")
        case _:
            return None


def _finding(message: str) -> Finding:
    return Finding(Reason.FAILED, message[:1024])


def _scores(segments: Segments) -> Mapping[str, SuiteScore]:
    """Of the base, by suite."""
    outcome = segments.outcomes.get(segments.baseline)
    return {score.suite: score for score in outcome.result.suites} if isinstance(outcome, Succeeded) else {}


def _of_texts(texts: tuple[Digest, ...], threshold: Amount | None) -> DecisionMetric:
    return DecisionMetric(
        held_out=tuple(TrialRef(digest=text) for text in texts),
        threshold=BITS.default if threshold is None else threshold,
    )


def _of_suite(
    segments: Segments, suite: str | None, threshold: Amount | None, *, is_target: bool
) -> DecisionMetric | None:
    if suite is None:
        return None
    group = _deciding(_scores(segments)[suite], is_target=is_target)
    named = SuiteGroup(suite=suite, group=group.group, measure=group.measure)
    metric = DecisionMetric(suite=named, threshold=BITS.default)
    unit = unit_of(metric)
    return metric.model_copy(update={"threshold": unit.default if threshold is None else unit.own(threshold)})


def _deciding(score: SuiteScore, *, is_target: bool) -> GroupScore:
    bits = [group for group in score.groups if group.measure is Measure.BITS_PER_BYTE]
    return bits[0] if bits and is_target else score.groups[0]
