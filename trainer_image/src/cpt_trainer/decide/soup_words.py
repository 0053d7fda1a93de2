"""Sentences of a soup, made of what was decided and nothing else.

"Chosen: weight 0.5 of the model at 3e-4 and 4M tokens, the rest is the base. Of 4 means of the base and 1 trained model
the retention of 2 holds. On the half of the {unit.items} that picks it has the best target of these; on the other 50 it
saves 0.27 bits per byte against the base (one-sided 95 % bounds, items only: 0.24 and 0.3). Retention: 0.006 bits per
byte lost, at most 0.013 lost (one-sided 95 %, for all means together, items only): within the margin of 0.02."
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpt_api.result import Estimate
from cpt_api.trial import DecideWork, DecisionMetric
from cpt_api.unit import Unit, unit_of
from cpt_trainer.decide.words import changed, cut, held_out, many, number, of_retention

if TYPE_CHECKING:
    from cpt_trainer.decide.soup import Found


def of_soup(found: Found, retention: DecisionMetric | None) -> str:
    """How many there are to choose from."""
    models = len({(mean.dataset, mean.arm.learning_rate, mean.arm.tokens) for mean in found.means})
    means = f"{many(len(found.means), 'mean')} of the base and {many(models, 'trained model')}"
    if retention is None:
        return f"Of {means} the best target counts, as no retention is asked for."
    return f"Of {means} the retention of {len(found.feasible)} holds."


def of_choice(found: Found, work: DecideWork) -> str:
    """Which one, and how sure that is; or why none."""
    retention, unit = work.retention, unit_of(work.target)
    sentences = [
        _of_verdict(found, retention, unit),
        of_soup(found, retention),
        _of_gain(found.gain, found.documents, unit),
    ]
    if found.picked:
        bound = "one-sided 95 %, for all means together, items only"
        sentences.append(of_retention(found.picked.lost, retention, bound))
    return cut(" ".join(filter(None, sentences)))


def _of_verdict(found: Found, retention: DecisionMetric | None, unit: Unit) -> str:
    picked = found.picked
    if picked is None:
        return f"NoneFeasible: {_of_nearest(found, retention)}"
    what = f"weight {picked.weight} of the model at {picked.arm.learning_rate} and {picked.tokens} tokens"
    match found.verdict:
        case "Chosen":
            return f"Chosen: {what}{', the rest is the base' if picked.weight != 1 else ', as it is'}."
        case "NoneBetter":
            return f"NoneBetter: no mean that may be released has a better target than the base; nearest is {what}."
        case _ if found.gain is None:
            return (
                f"Unconfirmed: {what} has the best target, and there are too few {unit.items} to hold half of them "
                "back: hold out at least four of each stratum of every target text. The base is best."
            )
        case _:
            return (
                f"Unconfirmed: {what} was picked, and the {unit.items} that did not pick it do not show that it is "
                f"better than the base, which is best: more of the target's {unit.items} may tell."
            )


def _of_nearest(found: Found, retention: DecisionMetric | None) -> str:
    assert retention is not None, "where nobody asks, every mean is feasible"
    nearest = min(found.means, key=lambda mean: mean.at_most)
    return (
        f"no mean is shown to lose at most {retention.threshold} of the retention, so the base is best; nearest is "
        f"weight {nearest.weight} of the model at {nearest.arm.learning_rate} and {nearest.tokens} tokens, which loses "
        f"at most {number(nearest.at_most)}. Lower weights, more {held_out(unit_of(retention))} or a larger margin may "
        "do."
    )


def _of_gain(gain: Estimate | None, documents: int, unit: Unit) -> str:
    if gain is None or gain.lower is None:
        return ""
    return (
        f"On the half of the {unit.items} that picks it has the best target of these; on the other {documents} it "
        f"{changed(gain.value, unit)} against the base (one-sided 95 % bounds, items only: {number(gain.lower)} "
        f"and {number(gain.upper or 0.0)})."
    )
