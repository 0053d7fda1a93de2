"""From effects to words: Helps, Hurts, Unaffected or Undecided, for many datasets on one metric.

    judge({python: Evidence(...), perl: Evidence(...)}, rule)["python"].verdict

Each dataset is tested at the level that Holm gives it, so over all of them the chance of any false Helps is the error
rate, and so is that of any false Hurts. A dataset with a failed arm takes part with p = 1: it has bounds, no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cpt_api.result import Estimate, Judgement, Verdict
from cpt_api.unit import BITS, Unit
from cpt_api.values import Digest
from cpt_trainer.decide.document import ONE_SIDED, bounded, shown
from cpt_trainer.decide.estimates import Estimated, rounded, t_quantile
from cpt_trainer.decide.holm import Step, holm
from cpt_trainer.decide.joint import MaximumNull

POWER = 0.8
_SIDE = (1 + ONE_SIDED) / 2


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """A dataset against the control. Positive is better."""

    best: Estimated
    """At the rate with the largest t."""
    every: Sequence[Estimated]
    """At every rate, the best among them."""
    null: MaximumNull
    """Of the largest t."""
    complete: bool
    """No arm is missing that might have been better, or worse."""

    def reach(self, probability: float) -> float:
        """How far below the best rate's effect its lower bound lies."""
        return self.null.quantile(probability) * self.best.standard_error

    def upper(self, probability: float) -> float:
        """Upper bound of the best true effect: above it at every rate, or it is none."""
        return max(each.value + t_quantile(probability, each.df) * each.standard_error for each in self.every)


@dataclass(frozen=True, slots=True)
class Rule:
    """How a metric is judged."""

    threshold: float
    """Effects inside are too small to matter."""
    family: int
    """Datasets that are screened in all."""
    error_rate: float
    documents: int
    """Clusters of the metric's texts."""
    unit: Unit = BITS
    """Of the metric."""

    @property
    def first_level(self) -> float:
        """What Holm asks of the clearest of them."""
        return 1 - self.error_rate / self.family


def judge(evidence: Mapping[Digest, Evidence], rule: Rule) -> dict[Digest, Judgement]:
    """A verdict for each."""
    names = sorted(evidence)
    found = [evidence[name] for name in names]
    helps = [one.null.exceeded(t_of(one.best)) if one.complete else 1.0 for one in found]
    hurts = [max(_below(each) for each in one.every) if one.complete else 1.0 for one in found]
    steps = (holm(ps, rule.family, rule.error_rate) for ps in (helps, hurts))
    return {
        name: _judgement(one, rule, help_, hurt) for name, one, help_, hurt in zip(names, found, *steps, strict=True)
    }


def undecided(effect: float | None, rule: Rule) -> Judgement:
    """A number at most, and no claim."""
    return Judgement(
        verdict=Verdict.UNDECIDED,
        effect=None if effect is None else Estimate(value=shown(effect)),
        documents=rule.documents,
    )


def t_of(estimated: Estimated) -> float:
    """In standard errors; two models that are the same to the last digit differ by none."""
    if estimated.standard_error == 0:
        return math.copysign(math.inf, estimated.value) if estimated.value else 0.0
    return estimated.value / estimated.standard_error


def two_sided(estimated: Estimated) -> float:
    """The chance of a t so far from zero where the effect is zero."""
    below = _below(estimated)
    return 2 * min(below, 1 - below)


def detectable(one: Evidence, rule: Rule) -> float:
    """The smallest effect at the best rate that is called Helps with 80 % power."""
    return one.reach(rule.first_level) + t_quantile(POWER, one.best.df) * one.best.standard_error


def _below(estimated: Estimated) -> float:
    """The chance of so low a t, or a lower one, where the effect is zero."""
    from scipy.special import stdtr  # scipy.stats takes a second to import

    return float(stdtr(estimated.df, t_of(estimated)))


def _judgement(one: Evidence, rule: Rule, helps: Step, hurts: Step) -> Judgement:
    lower, upper = one.best.value - one.reach(1 - helps.level), one.upper(1 - hurts.level)
    inside = one.best.value - one.reach(_SIDE), one.upper(_SIDE)
    return Judgement(
        verdict=_verdict(one, rule, lower, upper, inside),
        effect=bounded(one.best, lower, upper),
        p_helps=rounded(helps.p) if one.complete else None,
        p_hurts=rounded(hurts.p) if one.complete else None,
        interval90=(shown(inside[0]), shown(inside[1])),
        detectable=shown(detectable(one, rule)),
        documents=rule.documents,
    )


def _verdict(one: Evidence, rule: Rule, lower: float, upper: float, inside: tuple[float, float]) -> Verdict:
    if not one.complete:
        return Verdict.UNDECIDED
    if lower > 0:
        return Verdict.HELPS
    if upper < 0:
        return Verdict.HURTS
    if -rule.threshold <= inside[0] and inside[1] <= rule.threshold:
        return Verdict.UNAFFECTED
    return Verdict.UNDECIDED
