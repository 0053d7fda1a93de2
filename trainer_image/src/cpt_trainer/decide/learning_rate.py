"""Question LearningRate: which rate suits each dataset?

    rate    target   behind the best   one standard error
    1e-5    2.271        0.351             0.013            dropped: beyond the bound
    3e-4    1.927        0.007             0.012            chosen: the lowest within one standard error
    1e-3    1.920        best
    1e-2    diverged                                        a result, not a failure

A rate is always chosen, unless all diverged. Without replicates the noise between runs is unknown: standard errors are
those of the items alone, no rate is dropped, and the choice is marked as undecided. So it is when an arm failed.

What a recipe gains over the base is a claim about recipes, with item and run noise; what the chosen model forgets is a
claim about that model, with item noise alone. The lower ends of intervals of what was picked (the gain of the chosen
rate, the loss to the best one) allow for the picking: plain ones cover in 90 of 100 where all rates are equal.
"""

from __future__ import annotations

from cpt_api.digest import subject_digest
from cpt_api.result import Decision, RateArm, RateChoice
from cpt_api.trial import DatasetArms, DecideWork, Question
from cpt_api.unit import unit_of
from cpt_api.values import Digest, LearningRate
from cpt_trainer.decide import words
from cpt_trainer.decide.document import (
    Models,
    Scores,
    base_of,
    estimate,
    gain,
    interval,
    lost,
    noise_of,
    score,
    shown,
    spread,
)
from cpt_trainer.decide.estimates import difference, level
from cpt_trainer.decide.noise import RunNoise
from cpt_trainer.decide.race import Race, fitted_vertex, race
from cpt_trainer.trial import known

METHOD = "learning-rate/1"
"""Changes with the procedure: equal methods and equal inputs give equal documents."""


def decide(work: DecideWork, models: Models) -> Decision:
    """The answer for every dataset, by digest."""
    noise = noise_of(work, models)
    entries = sorted(work.datasets, key=subject_digest)
    return Decision(
        question=Question.LEARNING_RATE,
        method=METHOD,
        run_noise=spread(noise),
        rates=tuple(_choice(entry, work, models, noise) for entry in entries),
        sentence=words.of_noise(noise, unit_of(work.target)),
    )


def _choice(entry: DatasetArms, work: DecideWork, models: Models, noise: RunNoise | None) -> RateChoice:
    trials = {arm.learning_rate: known(arm.trial) for arm in sorted(entry.arms, key=lambda arm: arm.learning_rate)}
    scores = {rate: found for rate, trial in trials.items() if (found := models[trial])}
    diverged = tuple(rate for rate in trials if rate not in scores)
    if not scores:
        return RateChoice(
            dataset=subject_digest(entry),
            arms=tuple(_diverged(rate, trial) for rate, trial in trials.items()),
            survivors=(),
            chosen=None,
            verdict="AllDiverged",
            reason=words.of_divergence(diverged, entry.missing),
        )
    base = base_of(work, models)
    assert work.rungs is not None, "this question has them"
    assert work.last is not None, "this question says so"
    outcome = race({rate: found.target for rate, found in scores.items()}, noise, work.rungs, last=work.last)
    chosen = scores[outcome.chosen]
    gained = gain(difference(base.target, chosen.target), noise, picked_from=len(scores))
    forgotten = lost(chosen, base)
    sentences = [
        words.of_choice(outcome, diverged),
        words.of_doubt(noise, words.failed_rates(entry.missing)),
        words.of_gain(gained, unit_of(work.target)),
        words.of_retention(forgotten, work.retention),
    ]
    return RateChoice(
        dataset=subject_digest(entry),
        arms=tuple(
            _arm(rate, trial, scores[rate], outcome) if rate in scores else _diverged(rate, trial)
            for rate, trial in trials.items()
        ),
        survivors=tuple(rate for rate in scores if rate not in outcome.dropped),
        chosen=outcome.chosen,
        verdict="Undecided" if noise is None or entry.missing else "Chosen",
        gain=gained,
        retention_loss=forgotten,
        fitted_vertex=fitted_vertex({rate: behind.value for rate, behind in outcome.behind.items()}, diverged),
        reason=" ".join(filter(None, sentences)),
    )


def _arm(rate: LearningRate, trial: Digest, scores: Scores, outcome: Race) -> RateArm:
    target = level(scores.target)
    retention = level(scores.retention) if scores.retention else None
    return RateArm(
        learning_rate=rate,
        trial=trial,
        outcome="Completed",
        target=shown(target.value),
        target_interval=interval(target),
        retention=score(scores.retention),
        retention_interval=interval(retention) if retention else None,
        behind_best=None
        if rate == outcome.best
        else estimate(outcome.behind[rate], picked_from=len(outcome.behind) - 1),
        dropped=rate in outcome.dropped,
    )


def _diverged(rate: LearningRate, trial: Digest) -> RateArm:
    return RateArm(learning_rate=rate, trial=trial, outcome="Diverged")
