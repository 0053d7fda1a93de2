"""What design 4 promises about durations, and the worlds in which it must hold: each claim looks at one experiment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cpt_api.values import Tokens
from simulator.claims import DETECTABLE, Claim, retention_text, standard_error, within
from simulator.experiment import Ended
from simulator.screening_claims import THRESHOLD
from simulator.settings import Setting, anywhere
from simulator.truth import BASE_LOSS, Curve, Truth


def _losses(ended: Ended, name: str) -> dict[Tokens, float]:
    """True losses of the durations that were compared."""
    choice = ended.lasting[name]
    arms = [arm.tokens for arm in choice.arms if arm.outcome == "Completed"]
    return {tokens: ended.world.loss(name, choice.learning_rate, tokens) for tokens in arms}


# --- the choice -----------------------------------------------------------------------------------------------------


def best_is_in_the_set(ended: Ended) -> Iterable[bool]:
    """The duration that is truly best is not excluded; of equals, one of them is not."""
    for name, choice in ended.lasting.items():
        losses = _losses(ended, name)
        best = [tokens for tokens, loss in losses.items() if loss == min(losses.values())]
        yield any(arm.acceptable for arm in choice.arms if arm.tokens in best)


def regret_is_small(ended: Ended) -> Iterable[bool]:
    """The chosen duration's true loss is within what matters, or can be detected, of the best."""
    allowed = max(THRESHOLD, DETECTABLE * standard_error(ended.world.truth))
    for name, choice in ended.lasting.items():
        if choice.chosen:
            losses = _losses(ended, name)
            yield losses[choice.chosen] - min(losses.values()) <= allowed


def last_step(ended: Ended) -> Iterable[bool]:
    """What the last duration truly saves is not more than its bound: the sweep does not stop too early."""
    for name, choice in ended.lasting.items():
        if choice.last_step and choice.last_step.upper is not None:
            before, last = list(_losses(ended, name).values())[-2:]
            yield before - last <= choice.last_step.upper


# --- intervals ------------------------------------------------------------------------------------------------------


def behind_best(ended: Ended) -> Iterable[bool]:
    """The 95 % interval of a duration's loss to the best covers the true difference."""
    for name, choice in ended.lasting.items():
        losses = _losses(ended, name)
        best = next(arm.tokens for arm in choice.arms if arm.target is not None and arm.behind_best is None)
        for arm in choice.arms:
            if arm.behind_best:
                yield within(arm.behind_best, losses[arm.tokens] - losses[best])


def chosen_gain(ended: Ended) -> Iterable[bool]:
    """The 95 % interval of the chosen duration's gain covers the true gain of the recipe."""
    for name, choice in ended.lasting.items():
        if choice.chosen and choice.gain:
            yield within(choice.gain, BASE_LOSS - _losses(ended, name)[choice.chosen])


def forgetting(ended: Ended) -> Iterable[bool]:
    """What the chosen model forgot over all documents is not more than its bound."""
    text = retention_text(ended)
    for choice in ended.lasting.values():
        trial = next((arm.trial for arm in choice.arms if arm.tokens == choice.chosen), None)
        if trial and choice.retention_loss and choice.retention_loss.upper is not None:
            yield ended.world.realised(trial, text) - BASE_LOSS <= choice.retention_loss.upper


CLAIMS = (
    Claim("the best duration is not excluded", 0.95, 1, best_is_in_the_set),
    Claim("regret of the chosen duration <= detectable effect", 0.95, 1, regret_is_small),
    Claim("one-sided 95 % bound of what the last step saves", 0.93, 1, last_step),
    Claim("95 % interval of a duration's loss to the best", 0.93, 1, behind_best),
    Claim("95 % interval of the gain of the chosen duration", 0.93, 1, chosen_gain),
    Claim("one-sided 95 % bound of the chosen duration's forgetting", 0.93, 1, forgetting),
)


# --- worlds ---------------------------------------------------------------------------------------------------------


def growing(noises: Truth, number: int) -> dict[str, Curve]:
    """Every duration is better than the one before."""
    return anywhere(noises, number)


def saturated(noises: Truth, number: int) -> dict[str, Curve]:
    """Nothing is gained after the last rung, or after two, or four times as much: what is picked then, is noise."""
    shares = (1, 1, 2, 4)
    curves = anywhere(noises, number)
    return {name: replace(curve, saturates=share) for (name, curve), share in zip(curves.items(), shares, strict=True)}


SETTINGS = tuple(
    Setting(f"{name}; {which}", noises, curves)
    for which, curves in (("growing", growing), ("saturated", saturated))
    for name, noises in (
        ("run 0.01, tail 0.3 x", Truth({}, run_noise=0.01, tail_noise=0.003)),
        ("run 0.01, tail 1 x", Truth({}, run_noise=0.01, tail_noise=0.01)),
        ("run 0.007, tail 2 x", Truth({}, run_noise=0.007, tail_noise=0.014)),
        ("items only", Truth({}, run_noise=0.0, tail_noise=0.0, item_noise=0.1)),
    )
)
