"""Worlds for screening: at every setting of the noise knobs one in which no dataset helps, which is where false words
are most likely, and one in which datasets help, hurt, and do just what matters.

The numbers of experiments are their seeds; curves hang on the noises alone.
"""

from __future__ import annotations

from dataclasses import replace

from simulator.claims import standard_error
from simulator.screening_claims import THRESHOLD, detectable
from simulator.settings import Setting
from simulator.truth import BASE_LOSS, Curve, Truth

_USEFUL_RATE = 2.5e-4
"""Best rate of what helps: not the control's."""
_CURVATURE = 0.01


def useless(noises: Truth, _number: int) -> dict[str, Curve]:
    """Four datasets that do what replay data does."""
    return dict.fromkeys("abcd", noises.controls)


def mixed(noises: Truth, _number: int) -> dict[str, Curve]:
    """One useless, one that helps and one that hurts by what can be detected, one that helps by what matters."""
    seen = detectable(noises, standard_error(noises))
    return {
        "useless": noises.controls,
        "helps": _against(noises.controls, seen, _USEFUL_RATE),
        "hurts": replace(noises.controls, gain=noises.controls.gain - 2 * seen),
        "matters": replace(noises.controls, gain=noises.controls.gain + THRESHOLD),
    }


def _against(control: Curve, effect: float, best_rate: float) -> Curve:
    """Saves that much against the control at its best rate, at the last rung."""
    return Curve(best_rate, _CURVATURE, gain=BASE_LOSS - control.loss(best_rate, 1) + effect)


_NOISES = {
    "run 0.01, tail 0.3 x": Truth({}, run_noise=0.01, tail_noise=0.003),
    "run 0.01, tail 1 x": Truth({}, run_noise=0.01, tail_noise=0.01),
    "run 0.007, tail 2 x": Truth({}, run_noise=0.007, tail_noise=0.014),
    "items only": Truth({}, run_noise=0.0, tail_noise=0.0, item_noise=0.1),
    "40 documents, a few long": Truth({}, documents=40, size_spread=1.2),
}

_LITTLE = Truth({}, run_noise=0.002, tail_noise=0.002, item_noise=0.01)
"""So little that Unaffected is said at all."""

SETTINGS = (
    *(Setting(f"{name}; none helps", noises, useless) for name, noises in _NOISES.items()),
    *(Setting(f"{name}; some help", noises, mixed) for name, noises in _NOISES.items()),
    Setting("little noise; some help", _LITTLE, mixed),
)
