"""What all questions share: the models that were measured, and numbers as they stand in a document.

scores = models[known(arm.trial)]               None where that model diverged
estimate(difference(base.target, scores.target))
                                                nine digits, 95 %; lower, upper, standard error, df
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cpt_api.result import Estimate
from cpt_api.trial import DecideWork
from cpt_api.values import Digest
from cpt_trainer.decide.estimates import Estimated, TextSums, rounded
from cpt_trainer.decide.noise import RunNoise, run_noise, with_runs
from cpt_trainer.trial import known

LEVEL = 0.95
"""Of two-sided intervals."""
ONE_SIDED = 0.90
"""Level of a two-sided interval whose ends are the one-sided 95 % bounds."""

Texts = Sequence[TextSums]
"""One model on the texts of one metric."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """One model on the texts of the question."""

    target: tuple[TextSums, ...]
    retention: tuple[TextSums, ...]
    """Empty where no retention is asked for."""
    parameters: int | None = None
    """Of an evaluated model, where its result says how many it has."""


Models = Mapping[Digest, Scores | None]
"""By trial; None: it diverged."""


def estimate(estimated: Estimated, confidence: float = LEVEL, *, picked_from: int = 1) -> Estimate:
    """With its interval."""
    lower, upper = interval(estimated, confidence, picked_from)
    return Estimate(
        value=rounded(estimated.value),
        standard_error=rounded(estimated.standard_error),
        degrees_of_freedom=rounded(estimated.df),
        lower=lower,
        upper=upper,
    )


def interval(estimated: Estimated, confidence: float = LEVEL, picked_from: int = 1) -> tuple[float, float]:
    """To nine digits."""
    lower, upper = estimated.interval(confidence, picked_from=picked_from)
    return rounded(lower), rounded(upper)


def noise_of(work: DecideWork, models: Models) -> RunNoise | None:
    """On the target, from the controls that have a score."""
    controls = [[models[known(trial)] for trial in control.trials] for control in work.controls]
    return run_noise([[scores.target for scores in control if scores] for control in controls])


def gain(saved: Estimated, noise: RunNoise | None, *, picked_from: int) -> Estimate:
    """Of a recipe that was picked from so many: without run noise there is a number, and no claim."""
    if noise is None:
        return Estimate(value=rounded(saved.value))
    return estimate(with_runs(saved, noise, runs=1), picked_from=picked_from)


def spread(noise: RunNoise | None) -> Estimate | None:
    """Run noise."""
    if noise is None:
        return None
    return Estimate(value=rounded(noise.standard_deviation), degrees_of_freedom=noise.degrees_of_freedom)
