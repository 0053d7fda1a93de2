"""Sentences of a choice of duration, made of what was decided and nothing else.

"8M tokens are chosen: the shortest of 8M, 16M (one of which is the best, 95 %), and 0.007 behind the best, 16M. From 8M
to 16M it saves 0.007, at most 0.0312 (one-sided 95 %): less than 0.05, longer is not worth it. Conditional on its one
trunk. Against the base it saves 0.41 bits per byte (95 % interval 0.37 to 0.45)."
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cpt_api.trial import DecideWork
from cpt_api.unit import Unit, unit_of
from cpt_api.values import Tokens
from cpt_trainer.decide.noise import RunNoise
from cpt_trainer.decide.words import cut, listed, number, of_doubt, of_gain, of_noise, of_retention

if TYPE_CHECKING:
    from cpt_trainer.decide.duration import Found, Ladder


def of_durations(noise: RunNoise | None, unit: Unit) -> str:
    """How far two runs of one recipe lie apart."""
    if noise is None:
        return "No run-noise estimate: no choice is sure; set training.replicates to 3 and name replay data."
    return of_noise(noise, unit)


def of_divergence(diverged: Sequence[Tokens], missing: Sequence[Tokens]) -> str:
    """Nothing can be chosen."""
    failed = f" Failed: {listed(map(str, missing))}." if missing else ""
    return f"The trunk diverged before {listed(map(str, diverged))} tokens.{failed}"


def of_choice(found: Found, work: DecideWork, noise: RunNoise | None) -> str:
    """Why this one, and why not longer."""
    diverged = listed(map(str, found.diverged))
    failed = f"these arms failed: {listed(map(str, found.missing))} tokens" if found.missing else ""
    sentences = [
        _of_set(found.ladder),
        _of_step(found, float(work.target.threshold), unit_of(work.target)),
        of_doubt(noise, failed),
        f"The trunk diverged before {diverged} tokens." if diverged else "",
        "Conditional on its one trunk." if len(found.ladder.behind) > 1 else "",
        of_gain(found.gain, unit_of(work.target)),
        of_retention(found.lost, work.retention),
    ]
    return cut(" ".join(filter(None, sentences)))


def _of_set(ladder: Ladder) -> str:
    if len(ladder.behind) == 1:
        return f"{ladder.chosen} tokens are the only duration with a score."
    if ladder.acceptable == (ladder.chosen,):
        return f"{ladder.chosen} tokens are chosen: every other duration is worse (simultaneous 95 %)."
    among = f"{listed(map(str, ladder.acceptable))} (one of which is the best, simultaneous 95 %)"
    if ladder.chosen == ladder.best:
        return f"{ladder.chosen} tokens are chosen: the best of {among}, and no shorter one is near enough."
    behind = number(ladder.behind[ladder.chosen].value)
    return f"{ladder.chosen} tokens are chosen: of {among}, the shortest near the best, {behind} behind {ladder.best}."


def _of_step(found: Found, threshold: float, unit: Unit) -> str:
    step = found.last_step
    if step is None or step.upper is None:
        return ""
    before, last = sorted(found.ladder.behind)[-2:]
    bounds = f"{number(step.value)}, at most {number(step.upper)} (one-sided 95 %)"
    sentence = f"From {before} to {last} it {unit.better} {bounds}"
    if step.upper <= threshold:
        return f"{sentence}: not more than {number(threshold)}, longer is not worth it."
    return f"{sentence}: longer may be worth it." if found.go_on else f"{sentence}."
