"""Sentences for people, made of what was decided and nothing else.

"3e-4 is chosen: the lowest rate within one standard error (0.0121) of the best, 1e-3, and 0.00712 behind it. Between
two rates 0.0356 would be seen with 80 % power. Dropped: 1e-5 (0.351 behind). Against the base it saves 0.412 bits
per byte (95 % interval 0.39 to 0.434). Retention: 0.012 bits per byte lost, at most 0.0204 (one-sided 95 %); within
the margin of 0.1."
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cpt_api.result import Estimate
from cpt_api.trial import DecisionMetric
from cpt_api.unit import BITS, Unit, unit_of
from cpt_api.values import LearningRate
from cpt_trainer.decide.estimates import Estimated, t_quantile
from cpt_trainer.decide.noise import RunNoise
from cpt_trainer.decide.race import Race

_NAMED = 3
"""A sentence names so many rates at most."""
_REASON_MAX = 1024


def of_noise(noise: RunNoise | None, unit: Unit) -> str:
    """How far two runs of one recipe lie apart."""
    if noise is None:
        return (
            "No estimate of the run noise, since no rate has two control arms: standard errors are those of the items "
            "alone, no rate is dropped and no choice is sure; set training.replicates to 3 and name replay data."
        )
    return (
        f"Run noise: {number(noise.standard_deviation)} {unit.name} (standard deviation between replicates of the "
        f"control, {noise.degrees_of_freedom} degrees of freedom)."
    )


def of_divergence(diverged: Sequence[LearningRate], missing: Sequence[LearningRate]) -> str:
    """Nothing can be chosen."""
    failed = f" Failed: {listed(map(str, missing))}." if missing else ""
    return f"Every rate diverged: {listed(map(str, diverged))}.{failed} Add lower rates."


def of_choice(outcome: Race, diverged: Sequence[LearningRate]) -> str:
    """Which rate, and against which."""
    chosen, best, behind = outcome.chosen, outcome.best, outcome.behind
    if len(behind) == 1:
        sentence = f"{chosen} is chosen: it is the only rate with a score."
    elif chosen == best:
        sentence = f"{chosen} is chosen: it is the best, and no lower rate is within one standard error of it."
    else:
        sentence = (
            f"{chosen} is chosen: the lowest rate within one standard error ({number(behind[chosen].standard_error)}) "
            f"of the best, {best}, and {number(behind[chosen].value)} behind it."
        )
    others = [loss for rate, loss in behind.items() if rate != best]
    if others:
        sentence += f" Between two rates {number(max(map(_detectable, others)))} would be seen with 80 % power."
    if outcome.dropped:
        sentence += f" Dropped: {listed(f'{rate} ({number(behind[rate].value)} behind)' for rate in outcome.dropped)}."
    return sentence + (f" Diverged: {listed(map(str, diverged))}." if diverged else "")


def of_doubt(noise: RunNoise | None, failed: str) -> str:
    """Why the choice is not sure; empty when it is. `failed`: which arms did, in words, or empty."""
    unknown = "there is no estimate of the run noise" if noise is None else ""
    doubts = " and ".join(filter(None, [unknown, failed]))
    return f"Undecided: {doubts}." if doubts else ""


def failed_rates(missing: Sequence[LearningRate]) -> str:
    """Arms that have no score."""
    return f"these arms failed and might have been better: {listed(map(str, missing))}" if missing else ""


def of_gain(gain: Estimate, unit: Unit) -> str:
    """Against the base on the target."""
    sentence = f"Against the base it {changed(gain.value, unit)}"
    if gain.lower is None or gain.upper is None:
        return sentence + "."
    interval = sorted((gain.lower, gain.upper) if gain.value >= 0 else (-gain.lower, -gain.upper))
    return f"{sentence} (95 % interval {number(interval[0])} to {number(interval[1])})."


def of_retention(lost: Estimate | None, metric: DecisionMetric | None, what: str = "one-sided 95 %, items only") -> str:
    """Whether this model forgot more than the margin; empty where nobody asked. `what`: of which kind the bound is."""
    if lost is None or metric is None or lost.upper is None:
        return ""
    verdict = "within" if lost.upper <= metric.threshold else "not shown to be within"
    change = f"{number(abs(lost.value))} {unit_of(metric).name} {'lost' if lost.value >= 0 else 'gained'}"
    bound = f"at most {number(lost.upper)} lost" if lost.upper >= 0 else f"at least {number(-lost.upper)} gained"
    return f"Retention: {change}, {bound} ({what}): {verdict} the margin of {metric.threshold}."


def changed(value: float, unit: Unit) -> str:
    """Such as 'saves 0.412 bits per byte', 'loses 1.2 points'; positive is better."""
    return f"{unit.better if value >= 0 else 'loses'} {number(abs(value))} {unit.name}"


def held_out(unit: Unit) -> str:
    """What more of would tell more."""
    return f"held-out {unit.items}" if unit is BITS else unit.items


def _detectable(loss: Estimated) -> float:
    """The smallest difference that a two-sided 5 % test finds with 80 % power."""
    return (t_quantile(0.975, loss.df) + t_quantile(0.8, loss.df)) * loss.standard_error


def listed(names: Iterable[str]) -> str:
    """The first few by name, the rest by number."""
    names = list(names)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def many(count: int, word: str) -> str:
    """Such as '1 dataset', '2 datasets'."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def number(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}"


def cut(text: str) -> str:
    """As much as a document holds."""
    return text if len(text) <= _REASON_MAX else text[: _REASON_MAX - 1] + "…"
