"""Sentences of a scaling, made of what was decided and nothing else.

"0.64 before, 0.571 after 20B tokens at 3e-5. Against the base it saves 0.069 bits per byte (95 % interval 0.059 to
0.079). The bases alone reach that with 3.6 times the 8.1e+22 operations that this model took in all (95 % interval 2.9
to 4.4)."
"""

from __future__ import annotations

from cpt_api.result import Equivalent, Scaled
from cpt_api.trial import DecideWork
from cpt_api.unit import Unit, unit_of
from cpt_trainer.decide.noise import RunNoise
from cpt_trainer.decide.words import cut, number, of_gain, of_noise, of_retention


def of_scaling(points: int, noise: RunNoise | None, unit: Unit) -> str:
    """What all models share."""
    line = (
        f"The line of {points} bases is interpolated over the logarithm of 6 x parameters x tokens."
        if points > 1
        else f"No compute-equivalent gain: a line needs two bases whose compute is known, there {_are(points)}."
    )
    if noise is None:
        return f"{line} No run-noise estimate: there are no intervals; set training.replicates to 3, name replay data."
    return f"{line} {of_noise(noise, unit)} It is that of the experiment's own base, taken to hold at every size."


def of_model(answer: Scaled, noise: RunNoise | None, work: DecideWork, *, points: int) -> str:
    """Before and after, and what that is worth."""
    unit = unit_of(work.target)
    before = number(unit.shown(answer.base_target))
    if answer.outcome == "Evaluated":
        return f"{before} {unit.name}; it was only evaluated. {_of_compute(answer)}".rstrip()
    if answer.outcome == "Diverged" or answer.target is None:
        diverged = f"Its training diverged at {answer.learning_rate}, by {answer.tokens} tokens"
        return f"{diverged}: append it under another name with a lower peakLearningRate."
    change = f"{before} before, {number(unit.shown(answer.target))} after {answer.tokens} tokens"
    sentences = [
        f"{change} at {answer.learning_rate}.",
        of_gain(answer.gain, unit) if answer.gain else "",
        _of_equivalent(answer.equivalent, answer, noise) if answer.equivalent else _of_compute(answer),
        "" if answer.equivalent or points > 1 else "One base makes no line.",
        of_retention(answer.retention_loss, work.retention),
    ]
    return cut(" ".join(filter(None, sentences)))


def _of_compute(answer: Scaled) -> str:
    """Why it has no place on the axis; empty where it has."""
    if answer.pretraining_flops is not None:
        return ""
    if answer.parameters is None:
        return "Its compute is unknown: its evaluation does not say how many parameters it has."
    return "Its compute is unknown: name its pretrainingTokens."


def _of_equivalent(found: Equivalent, answer: Scaled, noise: RunNoise | None) -> str:
    compute = f"the {number(answer.total_flops or 0)} operations that this model took in all"
    if found.place == "Beyond":
        sentence = f"It is better than the largest base, which took {number(found.largest)} times {compute}"
    elif found.place == "Below" or found.value is None:
        sentence = f"It is no better than the smallest base, which took {number(found.smallest)} times {compute}"
    else:
        sentence = f"The bases alone reach that with {number(found.value)} times {compute}"
    if noise is None:
        return sentence + "."
    lower = number(found.lower) if found.lower is not None else f"less than {number(found.smallest)}"
    upper = number(found.upper) if found.upper is not None else f"more than {number(found.largest)}"
    return f"{sentence} (95 % interval {lower} to {upper})."


def _are(points: int) -> str:
    return "is one" if points == 1 else "is none"
