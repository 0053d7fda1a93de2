"""What an experiment's trials took, beside what the study's protocol would have.

    4 rates, rungs of 1B and 2B, half of the rates dropped at the first; cooldowns are a fifth:

    naive            8.0B   4 runs of 2B
    separate         8.0B   what was trained instead, each point as a run of its own: 4 to 1B, 2 to 2B
    arms             6.4B   the same with shared trunks: 4 x 1B, and 2 x 1.2B more
    control          …      and what equal trials had trained before is taken off at the end

Only what has a result is counted. Price: one walk over the trials.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from cpt_api.result import Outcome, Result
from cpt_api.trial import Bill, TrialType
from cpt_api.values import Digest, LearningRate, Tokens
from cpt_operator.plan.segments import Segments
from cpt_operator.plan.sweep import CONTROL
from cpt_operator.plan.types import Operations, Succeeded


def bill_of(segments: Segments, naive: Tokens) -> Bill:
    """Of everything that has ended."""
    control = {digest for (name, *_), digest in segments.added.items() if name == CONTROL}
    arms = set(segments.added.values()) - control
    own = _own(segments)
    operations = operations_of(segments)
    return Bill(
        naive_tokens=naive,
        separate_tokens=_separate(segments, arms),
        arm_tokens=_trained(segments, arms),
        control_tokens=_trained(segments, control),
        reused_tokens=_trained(segments, {digest for digest in arms | control if _is_reused(segments, digest)}),
        training_gigaflops=round(operations.training / 1e9),
        evaluation_gigaflops=round(operations.evaluation / 1e9),
        gpu_seconds=round(sum(result.gpu_seconds for result in own)),
    )


def operations_of(segments: Segments) -> Operations:
    """Of everything that has ended and was not reused."""
    counted = {TrialType.TRAIN: 0.0, TrialType.EVALUATE: 0.0}
    for result in _own(segments):
        if result.flops and result.type in counted:
            counted[result.type] += result.flops.total
    return Operations(training=counted[TrialType.TRAIN], evaluation=counted[TrialType.EVALUATE])


def shown(operations: float) -> str | None:
    """As a status shows them; None where nothing was counted."""
    return f"{operations:.4g}" if operations else None


def _own(segments: Segments) -> list[Result]:
    return [
        outcome.result
        for trial in segments.trials.all()
        if isinstance(outcome := segments.outcomes.get(trial.digest), Succeeded) and not outcome.reused
    ]


def _separate(segments: Segments, arms: AbstractSet[Digest]) -> Tokens:
    """Every cooled end from the start, and every trunk that diverged as far as it came."""
    points: dict[Digest, int] = {}
    trunks: dict[tuple[str, LearningRate, int], dict[Digest, int]] = {}
    for (name, rate, seed, end, cooled), digest in segments.added.items():
        if digest in arms and cooled and segments.can_continue(digest) and digest in segments.outcomes:
            points[digest] = end
        elif digest in arms and not cooled:
            trunks.setdefault((name, rate, seed), {})[digest] = _tokens(segments, digest)
    for trunk in trunks.values():
        points |= {digest: sum(trunk.values()) for digest in trunk if not segments.can_continue(digest)}
    return Tokens(sum(points.values()))


def _trained(segments: Segments, digests: Iterable[Digest]) -> Tokens:
    return Tokens(sum(_tokens(segments, digest) for digest in digests))


def _tokens(segments: Segments, digest: Digest) -> int:
    """All that was planned; of a diverged segment what its result says, within that."""
    planned = segments.trials.tokens(digest)
    match segments.outcomes.get(digest):
        case Succeeded(result) if result.outcome is Outcome.COMPLETED:
            return planned
        case Succeeded(result):
            return min(planned, max(0, int(result.numbers.get("tokens", 0))))
        case _:
            return 0


def _is_reused(segments: Segments, digest: Digest) -> bool:
    outcome = segments.outcomes.get(digest)
    return isinstance(outcome, Succeeded) and outcome.reused
