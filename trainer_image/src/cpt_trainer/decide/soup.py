"""Question Soup: which mean of the base and a trained model is released, if any?

    of python at 3e-4, 4M     target   saved     retention lost   at most
    0.25                      2.71     0.14          0.001         0.004
    0.5                       2.58     0.27          0.006         0.013    Chosen: the best target whose retention
    0.75                      2.49     0.36          0.017         0.028      holds with a margin of 0.02
    1 (the model itself)      2.47     0.38          0.039         0.055

The claims are about these very models, so their variance is that of the items alone. Retention holds where the upper
bound of what was lost is at most the margin. The bound is simultaneous: beyond it no true loss lies, of all means
together, in 95 of 100 (the largest of correlated t's, joint.py), so it holds for whichever is picked, and all documents
may take part in it. The target is what is maximised: half of the documents pick the best one whose retention holds, and
the other half, where it was not picked for its luck, has to confirm that it is better than the base.

Without retention the best target wins. Price: 0.3 s for 16 means, 2 s and 150 MB for 64 (2,000 documents).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cpt_api.digest import subject_digest
from cpt_api.result import Decision, Estimate, SoupArm, SoupChoice
from cpt_api.trial import Arm, DecideWork, Question
from cpt_api.values import Digest, Share, Tokens
from cpt_trainer.decide import soup_words as words
from cpt_trainer.decide.document import LEVEL, ONE_SIDED, Models, Scores, base_of, bounded, estimate, interval
from cpt_trainer.decide.estimates import difference, level, minus, rounded
from cpt_trainer.decide.halves import split
from cpt_trainer.decide.joint import MaximumNull, correlations
from cpt_trainer.errors import DataError
from cpt_trainer.trial import known

METHOD = "soup/1"
"""Changes with the procedure: equal methods and equal inputs give equal documents."""

Verdict = Literal["Chosen", "Unconfirmed", "NoneBetter", "NoneFeasible"]


@dataclass(frozen=True, slots=True, eq=False)
class Mean:
    """A mean of the base and a trained model, held against the base."""

    dataset: Digest
    arm: Arm
    scores: Scores
    lost: Estimate | None
    """Of the retention, on all documents; its upper end is the bound for all means together. None: nobody asked."""

    @property
    def weight(self) -> Share:
        """Of the trained model."""
        assert self.arm.weight is not None, "arms of this question have one"
        return self.arm.weight

    @property
    def tokens(self) -> Tokens:
        """Of the trained model."""
        assert self.arm.tokens is not None, "arms of this question have them"
        return self.arm.tokens

    @property
    def at_most(self) -> float:
        """That it lost of the retention."""
        assert self.lost is not None, "retention is asked for"
        assert self.lost.upper is not None, "it has a bound"
        return self.lost.upper


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Everything that was found out."""

    means: Sequence[Mean]
    feasible: Sequence[Mean]
    """Whose retention holds."""
    verdict: Verdict
    picked: Mean | None = None
    gain: Estimate | None = None
    """On the documents that did not pick; its ends are one-sided bounds. None where the texts have too few."""
    documents: int = 0
    """That did not pick."""


def decide(work: DecideWork, models: Models) -> Decision:
    """One answer for all means."""
    base = base_of(work, models)
    means = _means(work, models, base)
    if not means:
        raise DataError("every model of this soup has diverged: ask for models that have a score")
    found = judge(means, base, float(work.retention.threshold) if work.retention else None)
    return Decision(
        question=Question.SOUP,
        method=METHOD,
        soup=SoupChoice(
            arms=_arms(found, base),
            picked=known(found.picked.arm.trial) if found.picked else None,
            verdict=found.verdict,
            gain=found.gain,
            documents=found.documents,
            reason=words.of_choice(found, work),
        ),
        sentence=words.of_soup(found, work.retention),
    )


def judge(means: Sequence[Mean], base: Scores, margin: float | None) -> Found:
    """Pick the best of those whose retention holds, and confirm it."""
    feasible = [mean for mean in means if margin is None or mean.at_most <= margin]
    if not feasible:
        return Found(means, feasible, "NoneFeasible")
    picking, confirming = split(base.target)
    losses = {known(mean.arm.trial): level(split(mean.scores.target).picking).value for mean in feasible}
    picked = min(feasible, key=lambda mean: (losses[known(mean.arm.trial)], mean.weight))
    if losses[known(picked.arm.trial)] >= level(picking).value:
        return Found(means, feasible, "NoneBetter", picked)
    if not confirming:
        return Found(means, feasible, "Unconfirmed", picked)
    gain = estimate(difference(confirming, split(picked.scores.target).confirming), ONE_SIDED)
    assert gain.lower is not None, "an interval was asked for"
    return Found(
        means,
        feasible,
        "Chosen" if gain.lower > 0 else "Unconfirmed",
        picked,
        gain,
        sum(len(text.bytes) for text in confirming),
    )


# --- the means --------------------------------------------------------------------------------------------------------


def _means(work: DecideWork, models: Models, base: Scores) -> list[Mean]:
    """By data, tokens and weight."""
    arms = [(subject_digest(entry), arm) for entry in work.datasets for arm in entry.arms]
    scored = [(data, arm, scores) for data, arm in arms if (scores := models[known(arm.trial)]) is not None]
    scored.sort(key=lambda one: (one[0], one[1].tokens or 0, one[1].learning_rate, one[1].weight or 0))
    lost = _lost([scores for _, _, scores in scored], base, work.seed) if work.retention and scored else ()
    return [
        Mean(data, arm, scores, lost[number] if lost else None) for number, (data, arm, scores) in enumerate(scored)
    ]


def _lost(means: Sequence[Scores], base: Scores, seed: int) -> Sequence[Estimate]:
    """Of the retention, with upper bounds that hold for all together in 95 of 100; of lower ones nobody speaks."""
    losses = [difference(scores.retention, base.retention) for scores in means]
    items = [minus(scores.retention, base.retention) for scores in means]
    null = MaximumNull.of(correlations(items, losses), df=min(lost.df for lost in losses), seed=seed)
    reach = null.quantile(LEVEL)
    return [bounded(lost, None, lost.value + reach * lost.standard_error) for lost in losses]


# --- the document -----------------------------------------------------------------------------------------------------


def _arms(found: Found, base: Scores) -> tuple[SoupArm, ...]:
    feasible = {known(mean.arm.trial) for mean in found.feasible}
    points = [_point(mean.scores) for mean in found.means]
    return tuple(
        SoupArm(
            dataset=mean.dataset,
            learning_rate=mean.arm.learning_rate,
            tokens=mean.tokens,
            weight=mean.weight,
            trial=known(mean.arm.trial),
            target=point[0],
            target_interval=interval(level(mean.scores.target)),
            gain=estimate(difference(base.target, mean.scores.target)),
            retention=point[1] if len(point) > 1 else None,
            lost=mean.lost,
            holds=known(mean.arm.trial) in feasible,
            front=not any(_dominates(other, point) for other in (_point(base), *points)),
        )
        for mean, point in zip(found.means, points, strict=True)
    )


def _point(scores: Scores) -> tuple[float, ...]:
    """Target and retention, lower is better."""
    return tuple(rounded(level(texts).value) for texts in (scores.target, scores.retention) if texts)


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
