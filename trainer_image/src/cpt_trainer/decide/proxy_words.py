"""Sentences of a mixture that merges propose, made of what was decided and nothing else.

"Proposed: 5f1c… 0.694, 90ab… 0.306. By 9 merges of trunks at 3e-4; the best of them has 1.92 bits per byte,
1.917 are expected of this one. Merges that it has not seen come out in the right order (rank correlation 0.98)."
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpt_trainer.decide.words import cut, listed, number

if TYPE_CHECKING:
    from cpt_api.result import Proposal, ProxyComponent
    from cpt_api.unit import Unit

_BENDS = {"None": "log-linear", "Square": "log-linear with squares", "Root": "log-linear with roots"}
_NEAR = 0.001
"""Weights are thousandths: a cap so near is reached."""


def of_merges(proposal: Proposal) -> str:
    """How it was found."""
    return (
        f"A {_BENDS[proposal.law]} law over {len(proposal.merges)} merges; rank correlation with merges that it has "
        f"not seen: {number(proposal.rank_correlation)}."
    )


def of_proposal(proposal: Proposal, unit: Unit) -> str:
    """What to mix, or why not."""
    best = unit.shown(min(merge.target for merge in proposal.merges))
    taken = sorted((one for one in proposal.components if one.weight), key=lambda one: (-one.weight, one.dataset))
    mixture = listed(f"{one.weight} of {one.dataset.short}…" for one in taken)
    fit = f"rank correlation {number(proposal.rank_correlation)}"
    sentences = [
        f"Proposed: {mixture}."
        if proposal.verdict == "Proposed"
        else f"Unfit: the regression does not order merges that it has not seen ({fit}); its mixture is not taken.",
        f"By {len(proposal.merges)} merges of trunks at {proposal.learning_rate}; the best of them has {number4(best)} "
        f"{unit.name}, {number4(unit.shown(proposal.expected))} are expected of this one.",
        f"Merges that it has not seen come out in the right order ({fit})." if proposal.verdict == "Proposed" else "",
        _of_alone(proposal),
        _of_caps([one for one in proposal.components if one.weight and one.cap - one.weight < _NEAR]),
    ]
    return cut(" ".join(filter(None, sentences)))


def _of_alone(proposal: Proposal) -> str:
    if proposal.rank_alone is None:
        return ""
    return f"Trunks and their cooled ends agree on the order of the datasets by {number(proposal.rank_alone)}."


def _of_caps(capped: list[ProxyComponent]) -> str:
    if not capped:
        return ""
    return f"Not more, since it would be repeated too often: {listed(f'{one.dataset.short}…' for one in capped)}."


def number4(value: float) -> str:
    """Four digits: mixtures differ in the third and fourth."""
    return f"{value:.4g}"
