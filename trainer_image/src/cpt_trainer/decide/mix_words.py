"""Sentences of a choice between mixes, made of what was decided and nothing else.

"The proposal is kept: no other mix is detectably better (0.0312 would be seen with 80 % power). The best of them saves
0.0031 against it. Against the base it saves 0.412 bits per byte (95 % interval 0.39 to 0.434)."
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpt_api.result import Estimate
from cpt_api.trial import DecideWork
from cpt_api.unit import Unit, unit_of
from cpt_api.values import Digest
from cpt_trainer.decide.noise import RunNoise
from cpt_trainer.decide.words import changed, cut, number, of_gain, of_noise, of_retention

if TYPE_CHECKING:
    from cpt_trainer.decide.mix import Contest


def of_mixes(noise: RunNoise | None, unit: Unit) -> str:
    """How far two runs of one recipe lie apart."""
    if noise is None:
        return "No run-noise estimate: no mix can be called better; set training.replicates to 3 and name replay data."
    return of_noise(noise, unit)


def doubts(work: DecideWork, noise: RunNoise | None, *, proposed: bool, failed: int, controls: int) -> list[str]:
    """Why the choice is not sure."""
    found = []
    if failed:
        found.append(f"{failed} of {work.mixes} mixes failed")
    if not controls:
        found.append("no other mix has a score" if proposed else "no mix has a score")
    elif noise is None:
        found.append("there is no estimate of the run noise")
    return found


def of_choice(
    held: Contest | None,
    chosen: Digest,
    doubts: list[str],
    work: DecideWork,
    gained: Estimate | None,
    lost: Estimate | None,
    *,
    is_replaced: bool,
) -> str:
    """Which one, and why."""
    unit = unit_of(work.target)
    sentences = [
        _of_replacement(held, chosen, unit) if is_replaced else _of_proposal(held, doubts, unit),
        f"Undecided: {' and '.join(doubts)}." if doubts and not is_replaced else "",
        of_gain(gained, unit) if gained else "",
        of_retention(lost, work.retention),
    ]
    return cut(" ".join(filter(None, sentences)))


def of_agreement(agreement: float | None, *, is_unfounded: bool) -> str:
    """Whether merges speak for mixes, before all else; empty where none were asked."""
    if agreement is None:
        return ""
    order = f"rank correlation {number(agreement)}"
    if is_unfounded:
        return f"Merges do not order the mixes as they were trained ({order}), so the proposal is not believed. "
    return f"Merges and trained mixes: {order}. "


def _of_proposal(held: Contest | None, doubts: list[str], unit: Unit) -> str:
    if held is None:
        return "The proposal is kept."
    best = max(one.value for one in held.ahead.values())
    what = f"{unit.better} {number(best)} against it" if best >= 0 else f"is {number(-best)} behind it"
    if doubts:
        return f"The proposal is kept; the best of the other mixes {what}."
    seen = f"{number(held.detectable)} would be seen with 80 % power"
    return f"The proposal is kept: no other mix is detectably better ({seen}); the best of them {what}."


def _of_replacement(held: Contest | None, chosen: Digest, unit: Unit) -> str:
    if held is None:
        return "The proposal has no score: the best of the other mixes is taken."
    saved = held.ahead[chosen]
    bound = saved.value - held.critical * saved.standard_error
    if bound <= 0:  # it was not believed for another reason
        return (
            f"The best of the other mixes is taken; against the proposal it {unit.better} {number(saved.value)} "
            f"{unit.name}."
        )
    return (
        f"The proposal is replaced by the best of the other mixes, which {changed(saved.value, unit)} against it, "
        f"at least {number(bound)} (one-sided 95 % for all of them together)."
    )
