"""What design 4 promises about a scaling, and the worlds in which it must hold: each claim looks at one experiment.

Three bases a factor of ten apart. The recipe is worth about three times the compute on the smallest; on the largest
nothing can be said but that it is worth more than the line holds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from cpt_api.result import Scaled
from cpt_api.values import LearningRate, Tokens
from simulator.claims import Claim, within
from simulator.experiment import PRETRAINED, Ended
from simulator.settings import CURVES, Setting
from simulator.truth import BASE_LOSS, Curve, Size, Truth
from simulator.world import BASE

_STEEP = 0.3
"""Bits per byte that a factor of ten of compute brings; a flat line tells little, and says so."""
STAGES = {
    "scaling": {
        "models": [
            {"name": name, "uri": f"s3://cpt/sources/{name}", "pretrainingTokens": PRETRAINED}
            for name in ("middle", "large")
        ]
    }
}


def _loss_after(ended: Ended, name: str, one: Scaled) -> float | None:
    """Of the recipe on that model, over runs and documents."""
    if one.learning_rate is None or one.tokens is None:
        return None
    (data,) = {ended.world.names[choice.dataset] for choice in ended.chosen.values()}
    size = ended.world.truth.bases[name]
    return size.loss + size.keeps * (_loss(ended, data, one.learning_rate, one.tokens) - BASE_LOSS)


def _loss(ended: Ended, data: str, rate: LearningRate, tokens: Tokens) -> float:
    return ended.world.loss(data, rate, tokens)


def _true_place(line: Sequence[Size], loss: float) -> float:
    """Compute at which the bases' true line first reaches it: 0 before its beginning, infinite beyond its end."""
    if line[0].loss <= loss:
        return 0.0
    for one, other in itertools.pairwise(line):
        if other.loss <= loss:
            part = (one.loss - loss) / (one.loss - other.loss)
            return math.exp((1 - part) * math.log(one.flops) + part * math.log(other.flops))
    return math.inf


def equivalent(ended: Ended) -> Iterable[bool]:
    """The 95 % interval of the compute-equivalent gain covers the true one; open ends hold all beyond."""
    line = sorted(ended.world.truth.bases.values(), key=lambda size: size.flops)
    for name, one in ended.scaled.items():
        after = _loss_after(ended, name, one)
        if one.equivalent and one.total_flops and after is not None:
            true = _true_place(line, after) / one.total_flops
            low = one.equivalent.lower if one.equivalent.lower is not None else 0.0
            high = one.equivalent.upper if one.equivalent.upper is not None else math.inf
            # what lies beyond the line is said with its end
            yield low <= max(true, one.equivalent.smallest) and min(true, one.equivalent.largest) <= high


def is_bounded(ended: Ended) -> Iterable[bool]:
    """On the smallest model, where the line is long and steep enough, the interval has two ends."""
    found, line = ended.scaled.get(BASE), ended.world.truth.bases
    if found and found.equivalent and line[BASE].loss - line["middle"].loss >= _STEEP:
        yield found.equivalent.lower is not None and found.equivalent.upper is not None


def gain(ended: Ended) -> Iterable[bool]:
    """The 95 % interval of what the recipe saves on each model covers the truth."""
    for name, one in ended.scaled.items():
        after = _loss_after(ended, name, one)
        if one.gain and after is not None:
            yield within(one.gain, ended.world.truth.bases[name].loss - after)


CLAIMS = (
    Claim("95 % interval of the compute-equivalent gain", 0.93, 1, equivalent),
    Claim("the interval on the smallest model has two ends, the line is steep", 0.8, 1, is_bounded),
    Claim("95 % interval of the gain on each model", 0.93, 1, gain),
)


# --- worlds ---------------------------------------------------------------------------------------------------------


def helpful(noises: Truth, number: int) -> dict[str, Curve]:
    """One dataset, whose gain is a quarter to three quarters of what a factor of ten of compute brings."""
    random = np.random.default_rng([CURVES, number])
    step = noises.bases[BASE].loss - noises.bases["middle"].loss
    return {"a": Curve(best_rate=2e-4, curvature=0.005, gain=step * random.uniform(0.25, 0.75))}


def bases(step: float, keeps: float = 0.8) -> dict[str, Size]:
    """Three, each `step` bits per byte better than the one before, on which the recipe keeps so much of its gain."""
    names = (BASE, "middle", "large")
    tokens = int(Tokens.parse(PRETRAINED))
    return {
        name: Size(10 ** (6 + place), tokens, BASE_LOSS - place * step, keeps**place)
        for place, name in enumerate(names)
    }


_NOISES = (
    ("run 0.01, tail 0.3 x", Truth({}, run_noise=0.01, tail_noise=0.003)),
    ("run 0.01, tail 1 x", Truth({}, run_noise=0.01, tail_noise=0.01)),
    ("run 0.007, tail 2 x", Truth({}, run_noise=0.007, tail_noise=0.014)),
    ("items only", Truth({}, run_noise=0.0, tail_noise=0.0, item_noise=0.1)),
)
SETTINGS = (
    *(Setting(f"{name}; three sizes", replace(noises, bases=bases(0.5)), helpful) for name, noises in _NOISES),
    Setting("run 0.01, tail 1 x; nearly flat line", replace(_NOISES[1][1], bases=bases(0.1)), helpful),
)
