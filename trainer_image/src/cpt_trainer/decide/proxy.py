"""Question MixtureProxy: which mixture of datasets promises most? Asked of merges, so that it costs no training.

The uncooled trunks of a sweep, each trained on one dataset and replay text at one rate for as many tokens, are merged
with many weights; a merge that weighs python 0.8 and perl 0.2 stands for a model that was trained on such a mixture.

    python   perl   target   predicted by the others
     1.0     0.0    1.944        1.946
     0.5     0.5    1.921        1.922
     0.0     1.0    1.987        1.985
     0.694   0.306     -         1.917          proposed: the least, drawn a little towards the datasets' sizes

A law is fitted to the merges (law.py), its best mixture within the caps is the answer (best_mixture.py). Merges of the
same trunks have no run noise between them, so the law is judged by how well it orders merges that it has not seen. That
a merge speaks for a trained mixture at all is another matter: the stage trains some, and looks.

Price: reading the tables; the arithmetic takes 0.1 s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cpt_api.digest import subject_digest
from cpt_api.result import Decision, Proposal, ProxyComponent, ProxyScore
from cpt_api.trial import DecideWork, ProxyMerge, Question
from cpt_api.unit import unit_of
from cpt_api.values import Share
from cpt_trainer.decide import proxy_words as words
from cpt_trainer.decide.best_mixture import UNITS, best_mixture, spread_of
from cpt_trainer.decide.document import Models, Texts
from cpt_trainer.decide.estimates import level, rounded
from cpt_trainer.decide.law import Floats, Law, fit, rank_correlation
from cpt_trainer.trial import known

METHOD = "mixture-proxy/1"
"""Changes with the procedure: equal methods and equal inputs give equal documents."""
PULL = 0.05
"""What a nat of distance from the prior costs, in spreads of the merges' scores."""
FIT_MIN = 0.5
"""Rank correlation below which a law is not believed: 9 merges reach it by chance in 9 of 100 cases, 18 in 2."""


def decide(work: DecideWork, models: Models) -> Decision:
    """The mixture, and what it rests on."""
    assert work.merges is not None, "this question has them"
    merges = [(merge, _loss(scores.target)) for merge in work.merges if (scores := models[known(merge.trial)])]
    weights = np.array([[float(part) for part in merge.weights] for merge, _ in merges])
    law = fit(weights, np.array([loss for _, loss in merges]))
    proposal = _proposal(work, models, merges, weights, law)
    return Decision(
        question=Question.MIXTURE_PROXY, method=METHOD, proposal=proposal, sentence=words.of_merges(proposal)
    )


def _proposal(
    work: DecideWork, models: Models, merges: Sequence[tuple[ProxyMerge, float]], weights: Floats, law: Law
) -> Proposal:
    assert work.prior is not None, "this question has one"
    assert work.caps is not None, "this question has them"
    units = best_mixture(law, [*map(float, work.prior)], [*map(float, work.caps)], PULL * spread_of(law, weights))
    losses = np.array([loss for _, loss in merges])
    components = _components(work, models, merges, units)
    fitted = rounded(rank_correlation(law.unseen, losses))
    expected = math.exp(float(law.log_loss(np.array(units) / UNITS)))
    proposal = Proposal(
        learning_rate=work.datasets[0].arms[0].learning_rate,
        components=components,
        merges=tuple(
            ProxyScore(
                weights=merge.weights, trial=known(merge.trial), target=rounded(loss), unseen=rounded(math.exp(unseen))
            )
            for (merge, loss), unseen in zip(merges, law.unseen, strict=True)
        ),
        law=law.bend,
        expected=rounded(expected),
        rank_correlation=fitted,
        rank_alone=_rank_alone(components),
        verdict="Proposed" if fitted >= FIT_MIN else "Unfit",
        reason="-",
    )
    return proposal.model_copy(update={"reason": words.of_proposal(proposal, unit_of(work.target))})


def _components(
    work: DecideWork, models: Models, merges: Sequence[tuple[ProxyMerge, float]], units: Sequence[int]
) -> tuple[ProxyComponent, ...]:
    assert work.prior is not None, "this question has one"
    assert work.caps is not None, "this question has them"
    alone = {merge.weights.index(Share.parse("1")): loss for merge, loss in merges if max(merge.weights) == 1}
    found = []
    for number, (entry, unit) in enumerate(zip(work.datasets, units, strict=True)):
        cooled = models[known(entry.arms[0].trial)]
        found.append(
            ProxyComponent(
                dataset=subject_digest(entry),
                weight=Share.parse(f"{unit / UNITS:.3f}"),
                prior=work.prior[number],
                cap=work.caps[number],
                alone=rounded(alone[number]) if number in alone else None,
                cooled=rounded(_loss(cooled.target)) if cooled else None,
            )
        )
    return tuple(found)


def _rank_alone(components: Sequence[ProxyComponent]) -> float | None:
    """Whether uncooled trunks are in the order of their cooled ends."""
    pairs = [(one.alone, one.cooled) for one in components if one.alone is not None and one.cooled is not None]
    if len(pairs) < 3:
        return None
    alone, cooled = np.array(pairs).T
    return rounded(rank_correlation(alone, cooled))


def _loss(texts: Texts) -> float:
    """Bits per byte; a law of logarithms needs something above zero."""
    return max(level(texts).value, 1e-9)
