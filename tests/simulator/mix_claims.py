"""What design 4 promises about mixes, and the worlds in which it must hold: each claim looks at one experiment.

Four datasets whose curves differ a little, so that durations and sizes propose unlike mixes; a mix gains more than its
parts do near a best mix, which may lie anywhere. How much that matters spans 1 to 32 standard errors of a difference.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from cpt_api.result import MixArm
from simulator.claims import DETECTABLE, Claim, retention_text, standard_error, within
from simulator.experiment import Ended
from simulator.settings import CURVES, Setting
from simulator.truth import BASE_LOSS, Curve, Truth
from simulator.world import REPLAY

_NAMES = "abcd"


def _parts(ended: Ended, arm: MixArm) -> dict[str, float]:
    """Of what it reads beside replay data."""
    weights = {ended.world.names[part.dataset]: float(part.weight) for part in arm.parts}
    weights.pop(REPLAY, None)
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def _losses(ended: Ended) -> dict[str, float]:
    """True losses of the mixes that were compared."""
    mix = ended.mix
    assert mix is not None, "mixes were compared"
    return {arm.mix: ended.world.mix_loss(_parts(ended, arm), mix.learning_rate, mix.tokens) for arm in mix.arms}


# --- the choice -----------------------------------------------------------------------------------------------------


def near_the_best_control(ended: Ended) -> Iterable[bool]:
    """The true loss of the mix that is taken is within the detectable effect of the best control's."""
    if ended.mix:
        losses = _losses(ended)
        controls = [loss for mix, loss in losses.items() if mix != ended.mix.proposal]
        yield losses[ended.mix.chosen] - min(controls) <= DETECTABLE * standard_error(ended.world.truth)


def a_good_proposal_is_kept(ended: Ended) -> Iterable[bool]:
    """A proposal that is truly as good as every control is not replaced."""
    if ended.mix:
        losses = _losses(ended)
        if losses[ended.mix.proposal] <= min(losses.values()):
            yield ended.mix.verdict != "Replaced"


# --- intervals ------------------------------------------------------------------------------------------------------


def ahead(ended: Ended) -> Iterable[bool]:
    """What the controls save against the proposal is at least their bounds, all of them together."""
    if ended.mix:
        losses = _losses(ended)
        saved = [(arm.ahead.lower, losses[ended.mix.proposal] - losses[arm.mix]) for arm in ended.mix.arms if arm.ahead]
        yield all(lower is not None and lower <= true for lower, true in saved)


def chosen_gain(ended: Ended) -> Iterable[bool]:
    """The 95 % interval of the chosen mix's gain covers the true gain of the recipe."""
    if ended.mix and ended.mix.gain:
        yield within(ended.mix.gain, BASE_LOSS - _losses(ended)[ended.mix.chosen])


def forgetting(ended: Ended) -> Iterable[bool]:
    """What the chosen model forgot over all documents is not more than its bound."""
    mix = ended.mix
    if mix and mix.retention_loss and mix.retention_loss.upper is not None:
        trial = next(arm.trial for arm in mix.arms if arm.mix == mix.chosen)
        yield ended.world.realised(trial, retention_text(ended)) - BASE_LOSS <= mix.retention_loss.upper


CLAIMS = (
    Claim("the mix is within the detectable effect of the best control", 0.95, 1, near_the_best_control),
    Claim("a proposal that is as good as every control is kept", 0.95, 1, a_good_proposal_is_kept),
    Claim("one-sided 95 % bounds of what controls save against the proposal", 0.93, 1, ahead),
    Claim("95 % interval of the gain of the mix that is taken", 0.93, 1, chosen_gain),
    Claim("one-sided 95 % bound of the mix's forgetting", 0.93, 1, forgetting),
)


# --- worlds ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MixSetting(Setting):
    """Experiments that differ in more than their curves."""

    is_useless: bool = False
    """Mixing gains nothing beside what the parts do, and these are all alike: any choice is noise."""

    def truth(self, number: int) -> Truth:
        """Of experiment `number`."""
        random = np.random.default_rng([CURVES, 4, number])
        sizes = {name: int(1e9 * 2 ** random.uniform(0, 4)) for name in _NAMES}
        truth = replace(self.noises, curves=self.curves(self.noises, number), sizes=sizes)
        if self.is_useless:
            return truth
        best = dict(zip(_NAMES, map(float, random.dirichlet(np.full(len(_NAMES), 1.5))), strict=True))
        return replace(truth, best_mix=best, bent=standard_error(self.noises) * 2 ** random.uniform(0, 5))


def alike(_noises: Truth, _number: int) -> dict[str, Curve]:
    """Datasets that do the same."""
    return dict.fromkeys(_NAMES, Curve(best_rate=2e-4, curvature=0.02))


def unlike(_noises: Truth, number: int) -> dict[str, Curve]:
    """Some saturate, so that their durations differ, and some gain more."""
    random = np.random.default_rng([CURVES, 5, number])
    return {
        name: Curve(2e-4, 0.02, gain=0.5 + random.uniform(0, 0.05), saturates=float(random.choice([1, 2, 4])))
        for name in _NAMES
    }


_NOISES = {
    "run 0.01, tail 0.3 x": Truth({}, run_noise=0.01, tail_noise=0.003),
    "run 0.01, tail 1 x": Truth({}, run_noise=0.01, tail_noise=0.01),
    "run 0.007, tail 2 x": Truth({}, run_noise=0.007, tail_noise=0.014),
    "items only": Truth({}, run_noise=0.0, tail_noise=0.0, item_noise=0.1),
}
SETTINGS = (
    *(MixSetting(f"{name}; any best mix", noises, unlike) for name, noises in _NOISES.items()),
    *(MixSetting(f"{name}; all mixes alike", noises, alike, is_useless=True) for name, noises in _NOISES.items()),
)
