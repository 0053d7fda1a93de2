"""What design 4 promises about soups, and the worlds in which it must hold: each claim looks at one experiment.

What is released is a model, not a recipe, so the truth is that of this very model over all documents.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cpt_api.result import Estimate, SoupArm
from simulator.claims import Claim, retention_text
from simulator.experiment import Ended
from simulator.screening_claims import THRESHOLD
from simulator.settings import Setting, anywhere
from simulator.truth import BASE_LOSS, Curve, Truth
from simulator.world import TARGET

MARGIN = 0.02
"""Of the retention, when a manifest has none."""
_SURE = 1.645
"""In standard errors: what is so far inside of the margin is seen to be inside in 95 of 100."""


def _target(ended: Ended, arm: SoupArm) -> float:
    text = next(digest for digest, name in ended.world.names.items() if name == TARGET)
    return ended.world.realised(arm.trial, text)


def _lost(ended: Ended, arm: SoupArm) -> float:
    return ended.world.realised(arm.trial, retention_text(ended)) - BASE_LOSS


def _arms(ended: Ended) -> tuple[SoupArm, ...]:
    return ended.soup.arms if ended.soup else ()


def _released(ended: Ended) -> SoupArm | None:
    chosen = ended.soup.picked if ended.soup and ended.soup.verdict == "Chosen" else None
    return next((arm for arm in _arms(ended) if arm.trial == chosen), None)


# --- what is released -------------------------------------------------------------------------------------------------


def retention_is_kept(ended: Ended) -> Iterable[bool]:
    """What is released has not forgotten more than the margin; who releases nothing breaks nothing."""
    released = _released(ended)
    yield released is None or _lost(ended, released) <= MARGIN


def is_better(ended: Ended) -> Iterable[bool]:
    """What is released is truly better than the base."""
    released = _released(ended)
    yield released is None or _target(ended, released) < BASE_LOSS


def regret_is_small(ended: Ended) -> Iterable[bool]:
    """It is within what matters of the best mean that clearly keeps the margin; nothing released counts as the base."""
    clear = [_target(ended, arm) for arm in _arms(ended) if arm.lost and _lost(ended, arm) + _reach(arm.lost) <= MARGIN]
    released = _released(ended)
    if clear:
        yield (_target(ended, released) if released else BASE_LOSS) - min(clear) <= THRESHOLD


def _reach(lost: Estimate) -> float:
    assert lost.upper is not None
    assert lost.standard_error is not None
    return lost.upper - lost.value + _SURE * lost.standard_error


def better_in_both_is_found(ended: Ended) -> Iterable[bool]:
    """Where means of a model are better than that model in both metrics, one that is gets released."""
    whole = {(arm.dataset, arm.tokens): arm for arm in _arms(ended) if arm.weight == 1}

    def is_dominant(arm: SoupArm) -> bool:
        model = whole[arm.dataset, arm.tokens]
        return _target(ended, arm) <= _target(ended, model) - THRESHOLD and _lost(ended, arm) <= _lost(ended, model)

    released = _released(ended)
    if any(is_dominant(arm) for arm in _arms(ended) if arm.lost and _lost(ended, arm) + _reach(arm.lost) <= MARGIN):
        yield released is not None and released.weight < 1


# --- bounds -----------------------------------------------------------------------------------------------------------


def bounds_hold_together(ended: Ended) -> Iterable[bool]:
    """No mean has lost more than its bound."""
    yield all(arm.lost and arm.lost.upper is not None and _lost(ended, arm) <= arm.lost.upper for arm in _arms(ended))


def gain_of_the_released(ended: Ended) -> Iterable[bool]:
    """It truly gained at least the one-sided 95 % bound of the half that confirmed it."""
    released = _released(ended)
    if released and ended.soup and ended.soup.gain and ended.soup.gain.lower is not None:
        yield BASE_LOSS - _target(ended, released) >= ended.soup.gain.lower


CLAIMS = (
    Claim("the released soup has kept the margin", 0.95, 1, retention_is_kept),
    Claim("the released soup is better than the base", 0.95, 1, is_better),
    Claim("regret against the best mean that clearly keeps the margin <= what matters", 0.95, 1, regret_is_small),
    Claim("a mean that is better than its model in both metrics is released", 0.95, 1, better_in_both_is_found),
    Claim("one-sided 95 % bounds of what means forgot, all together", 0.93, 1, bounds_hold_together),
    Claim("one-sided 95 % bound of the released soup's gain", 0.93, 1, gain_of_the_released),
)


# --- worlds -----------------------------------------------------------------------------------------------------------


def sharp(_noises: Truth, _number: int) -> dict[str, Curve]:
    """All datasets have their best rate at the same point of the grid: there every model forgets as much in truth."""
    return dict.fromkeys("abcd", Curve(best_rate=1e-4, curvature=0.2))


def tiny(_noises: Truth, _number: int) -> dict[str, Curve]:
    """Nothing is gained, nor much lost, at any rate: whatever is picked, is picked for its noise."""
    return dict.fromkeys("abcd", Curve(best_rate=2e-4, curvature=0.0, gain=0.001))


_NOISES = {
    "run 0.01, tail 0.3 x": Truth({}, run_noise=0.01, tail_noise=0.003),
    "run 0.01, tail 1 x": Truth({}, run_noise=0.01, tail_noise=0.01),
    "run 0.007, tail 2 x": Truth({}, run_noise=0.007, tail_noise=0.014),
    "items only": Truth({}, run_noise=0.0, tail_noise=0.0, item_noise=0.1),
    "40 documents, a few long": Truth({}, documents=40, size_spread=1.2),
}

SETTINGS = (
    *(
        Setting(f"{name}; a half is within", replace(noises, forgets=0.04), anywhere)
        for name, noises in _NOISES.items()
    ),
    *(
        Setting(f"{name}; at the margin", replace(noises, forgets=MARGIN, soup_forgets=0.0), sharp)
        for name, noises in _NOISES.items()
    ),
    *(
        Setting(f"{name}; better in both", replace(noises, forgets=0.005, soup_bend=2.0, item_noise=0.02), anywhere)
        for name, noises in _NOISES.items()
    ),
    Setting("nothing is gained", Truth({}, forgets=0.0), tiny),
)
