"""What design 4 promises about learning rates, held against the truth: each claim looks at one ended experiment.

A claim gives one answer per dataset. The share of right ones must lie in the promised range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cpt_api.digest import subject_digest
from cpt_api.result import Estimate, RateChoice
from cpt_api.trial import DecideWork
from cpt_api.values import Digest, LearningRate
from cpt_trainer.decide.estimates import Estimated, difference
from cpt_trainer.decide.noise import RunNoise, run_noise, with_runs
from simulator.experiment import Ended
from simulator.truth import BASE_LOSS, Truth
from simulator.world import RETENTION

WIDE_SPAN = 4
"""In standard errors of a difference between two rates: from there on the optimum can be located."""
DETECTABLE = 1.96 + 0.84
"""In standard errors: found with 80 % power by a two-sided 5 % test."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One promise."""

    name: str
    low: float
    """The promised range of the share."""
    high: float
    check: Callable[[Ended], Iterable[bool]]
    strict: bool = False
    """The range is for the Monte-Carlo bound, not for the share."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How often a claim was right."""

    right: int
    of: int

    @property
    def share(self) -> float:
        """Of all answers."""
        return self.right / self.of

    def bounds(self, z: float = 2.576) -> tuple[float, float]:
        """Wilson's interval; 99 % unless told otherwise."""
        center = (self.right + z * z / 2) / (self.of + z * z)
        reach = z / (self.of + z * z) * math.sqrt(self.right * (self.of - self.right) / self.of + z * z / 4)
        return center - reach, center + reach


def standard_error(truth: Truth) -> float:
    """True standard error of the difference between two rates that are nearly as good."""
    shares = math.exp(truth.size_spread**2) / truth.documents
    return math.sqrt(2 * (truth.run_noise**2 + truth.tail_noise**2 + truth.item_noise**2 * shares))


# --- the choice -----------------------------------------------------------------------------------------------------


def regret_is_small(ended: Ended) -> Iterable[bool]:
    """The chosen rate's true loss is within the detectable effect of the best rate's."""
    for name, choice in ended.chosen.items():
        if choice.chosen:
            regret = ended.world.loss(name, choice.chosen) - min(_losses(ended, name).values())
            yield regret <= DETECTABLE * standard_error(ended.world.truth)


def within_one_step(ended: Ended) -> Iterable[bool]:
    """The chosen rate is at most one grid step from the best, where the true curve spans enough."""
    for name, choice in ended.chosen.items():
        losses = _losses(ended, name)
        spans = max(losses.values()) - min(losses.values()) >= WIDE_SPAN * standard_error(ended.world.truth)
        if choice.chosen and spans:
            rates = sorted(losses)
            best = min(rates, key=losses.__getitem__)
            yield abs(rates.index(choice.chosen) - rates.index(best)) <= 1


def best_is_kept(ended: Ended) -> Iterable[bool]:
    """The rate that is best at the last rung was never dropped."""
    for name in ended.chosen:
        losses = _losses(ended, name)
        best = min(losses, key=losses.__getitem__)
        answers = [choice for _, choices in ended.decisions for choice in choices if _name(ended, choice) == name]
        yield not any(arm.dropped and arm.learning_rate == best for choice in answers for arm in choice.arms)


def _losses(ended: Ended, name: str) -> dict[LearningRate, float]:
    """True losses at the last rung of every rate that was tried."""
    rates = {
        arm.learning_rate
        for _, choices in ended.decisions
        for choice in choices
        if _name(ended, choice) == name
        for arm in choice.arms
    }
    return {rate: ended.world.loss(name, rate) for rate in rates}


def _name(ended: Ended, choice: RateChoice) -> str:
    return ended.world.names[choice.dataset]


# --- intervals ------------------------------------------------------------------------------------------------------


def fixed_contrast(ended: Ended) -> Iterable[bool]:
    """The 95 % interval of two rates that were named beforehand covers the true difference of the recipes."""
    work, _ = ended.decisions[0]
    scores = ended.world.scores(work)
    noise = noise_of(ended, work)
    for entry in work.datasets:
        one, other = (scores[known(arm.trial.digest)] for arm in entry.arms[1:3])
        if one and other and noise:
            rates = [arm.learning_rate for arm in entry.arms[1:3]]
            name = ended.world.names[subject_digest(entry)]
            true = [ended.world.loss(name, rate, work.rung_tokens) for rate in rates]
            yield covers(with_runs(difference(one.target, other.target), noise, runs=2), true[0] - true[1])


def fixed_gain(ended: Ended) -> Iterable[bool]:
    """The 95 % interval of the gain of a rate that was named beforehand covers the true gain of the recipe."""
    work, _ = ended.decisions[0]
    scores = ended.world.scores(work)
    noise, base = noise_of(ended, work), scores[known(work.baseline.digest)]
    for entry in work.datasets:
        found = scores[known(entry.arms[1].trial.digest)]
        if found and base and noise:
            name = ended.world.names[subject_digest(entry)]
            true = BASE_LOSS - ended.world.loss(name, entry.arms[1].learning_rate, work.rung_tokens)
            yield covers(with_runs(difference(base.target, found.target), noise, runs=1), true)


def chosen_gain(ended: Ended) -> Iterable[bool]:
    """The 95 % interval of the chosen rate's gain covers the true gain of the recipe."""
    for name, choice in ended.chosen.items():
        if choice.chosen and choice.gain:
            yield within(choice.gain, BASE_LOSS - ended.world.loss(name, choice.chosen))


def behind_best(ended: Ended) -> Iterable[bool]:
    """The 95 % interval of a rate's loss to the rung's best covers the true difference (first rung)."""
    work, choices = ended.decisions[0]
    for choice in choices:
        name = _name(ended, choice)
        best = next((arm for arm in choice.arms if arm.target is not None and arm.behind_best is None), None)
        for arm in choice.arms:
            if best and arm.behind_best:
                losses = [ended.world.loss(name, a.learning_rate, work.rung_tokens) for a in (arm, best)]
                yield within(arm.behind_best, losses[0] - losses[1])


def retention_bound(ended: Ended) -> Iterable[bool]:
    """The one-sided 95 % bound of what the chosen model forgot is not exceeded by what it forgot over all documents."""
    text = retention_text(ended)
    for choice in ended.chosen.values():
        arm = next((arm for arm in choice.arms if arm.learning_rate == choice.chosen), None)
        if arm and choice.retention_loss and choice.retention_loss.upper is not None:
            yield ended.world.realised(arm.trial, text) - BASE_LOSS <= choice.retention_loss.upper


def retention_text(ended: Ended) -> Digest:
    """Its Prepare trial."""
    return next(digest for digest, name in ended.world.names.items() if name == RETENTION)


def noise_of(ended: Ended, work: DecideWork) -> RunNoise | None:
    """On the target, as a decision estimates it."""
    scores = ended.world.scores(work)
    found = [[scores[known(trial.digest)] for trial in control.trials] for control in work.controls]
    return run_noise([[one.target for one in control if one] for control in found])


def covers(estimated: Estimated, true: float) -> bool:
    """By its 95 % interval."""
    lower, upper = estimated.interval()
    return lower <= true <= upper


def within(estimate: Estimate, true: float) -> bool:
    """Between the ends that the document gives."""
    assert estimate.lower is not None
    assert estimate.upper is not None
    return estimate.lower <= true <= estimate.upper


def known(digest: Digest | None) -> Digest:
    """Of a trial that was asked for."""
    assert digest is not None
    return digest


CLAIMS = (
    Claim("regret of the chosen rate <= detectable effect", 0.95, 1, regret_is_small),
    Claim("chosen rate within one grid step of the best, curve spans >= 4 SE", 0.95, 1, within_one_step),
    Claim("the best rate is never dropped", 0.95, 1, best_is_kept),
    Claim("95 % interval of a fixed contrast of two rates", 0.93, 0.97, fixed_contrast),
    Claim("95 % interval of the gain of a fixed rate", 0.93, 0.97, fixed_gain),
    Claim("95 % interval of the gain of the chosen rate", 0.93, 1, chosen_gain),
    Claim("95 % interval of a rate's loss to the rung's best", 0.93, 1, behind_best),
    Claim("one-sided 95 % bound of the chosen model's forgetting", 0.93, 1, retention_bound),
)
