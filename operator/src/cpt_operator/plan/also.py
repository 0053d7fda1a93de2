"""Suites that decide nothing: the base and what the recipe ends with are scored on them last, for the report.

    base                                   core-offline
    python 3e-4 @ 4M, perl 1e-4 @ 8M       core-offline     the chosen arm of each dataset that survived, and of the mix
    0.5 of the mix 3e-4 @ 16M              core-offline     the soup, as written

An evaluation that fails for good is left out and named; nothing hangs on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cpt_api.trial import AlsoScored, ModelRef, TrialRef
from cpt_api.values import Digest
from cpt_operator.plan.candidates import Candidate
from cpt_operator.plan.segments import Segments
from cpt_operator.plan.soup import Released
from cpt_operator.plan.types import StageState, Succeeded

STAGE = "also"
_MODELS_MAX = 63
"""That a report shows beside the base."""


@dataclass(frozen=True, slots=True)
class Also(StageState):
    """How far it is; nothing is trained or decided."""

    scored: tuple[AlsoScored, ...] = ()
    """The base first."""


def plan_also(segments: Segments, ends: Sequence[Candidate], released: Released | None) -> Also:
    """Add the evaluations. All stages are decided."""
    inputs = segments.inputs
    spec = inputs.last_evaluation(model=inputs.model)
    asked = [("the base", AlsoScored(evaluation=_ref(segments.add(spec, STAGE, "the base"))))]
    room = _MODELS_MAX - bool(released)
    left_out = (f"of {len(ends)} models {room} have room in the report",) if len(ends) > room else ()
    for end in ends[:room]:
        title = f"{end.name} {end.rate} @ {end.tokens}"
        spec = inputs.last_evaluation(segment=_ref(end.trial))
        asked.append((title, _of(segments, end, segments.add(spec, STAGE, title))))
    if released:
        title = f"{released.mean.title}, as written"
        spec = inputs.last_evaluation(model=ModelRef(trial=_ref(released.model)))
        scored = _of(segments, released.mean.candidate, segments.add(spec, STAGE, title))
        asked.append((title, scored.model_copy(update={"weight": released.mean.weight})))
    trials = [(title, one.evaluation.digest) for title, one in asked if one.evaluation.digest]
    failures = (*left_out, *segments.failures(trials))
    if any(digest not in segments.outcomes for _, digest in trials):
        return Also(failures=failures)
    present = {digest for _, digest in trials if isinstance(segments.outcomes[digest], Succeeded)}
    return Also(
        scored=tuple(one for _, one in asked if one.evaluation.digest in present), decided=True, failures=failures
    )


def _of(segments: Segments, end: Candidate, evaluation: Digest) -> AlsoScored:
    return AlsoScored(
        evaluation=_ref(evaluation),
        dataset=segments.subjects[end.name].digest,
        learning_rate=end.rate,
        tokens=end.tokens,
    )


def _ref(digest: Digest) -> TrialRef:
    return TrialRef(digest=digest)
