"""Question Mix: is the proposed mix detectably worse than a simple one?

    mix             target   saves against the proposal   t      critical value for two
    OptimalTokens   1.941                                        the proposal
    Uniform         1.938    0.003                        0.2    2.2
    Proportional    1.902    0.039                        3.1    2.2: Replaced by this one

All mixes are trained to the same tokens at the same rate, so nothing but the weights differs. A control is ahead when
what it saves, paired by item and with the noise of two runs, is beyond what the largest of so many differences is by
chance (joint.py: they share the proposal's run). So a proposal that is as good as every control is kept in 95 of 100
experiments. Where one is ahead the control with the lowest loss is taken.

A proposal that was found on merges comes with what these promised of every mix. Where that is not in the order of what
was trained (rank correlation below 0.5: of three mixes more than two neighbours are swapped) and a control is more than
one standard error ahead, merges do not speak for mixes here, and the best control is taken.

Without replicates there is no run noise, and without a score nothing to compare: the proposal is kept, Undecided. A
proposal that failed or diverged is replaced.

Price: 20 ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cpt_api.digest import subject_digest
from cpt_api.result import Decision, Estimate, MixArm, MixChoice, MixPart
from cpt_api.trial import Arm, DatasetArms, DecideWork, Phase, Question
from cpt_api.unit import unit_of
from cpt_api.values import Digest, Tokens
from cpt_trainer.decide import mix_words as words
from cpt_trainer.decide.document import (
    LEVEL,
    Models,
    Scores,
    Texts,
    base_of,
    bounded,
    gain,
    interval,
    lost,
    noise_of,
    score,
    shown,
    spread,
)
from cpt_trainer.decide.estimates import Estimated, difference, level, minus, rounded, t_quantile
from cpt_trainer.decide.joint import MaximumNull, correlations
from cpt_trainer.decide.judgement import POWER, t_of
from cpt_trainer.decide.law import rank_correlation
from cpt_trainer.decide.noise import RunNoise, with_runs
from cpt_trainer.decide.words import cut
from cpt_trainer.trial import known

METHOD = "mix/1"
"""Changes with the procedure: equal methods and equal inputs give equal documents."""
AGREEMENT_MIN = 0.5
"""Rank correlation of promises and scores below which the proposal is not believed."""


@dataclass(frozen=True, slots=True, eq=False)
class Contest:
    """The proposal against every control that has a score; there is at least one."""

    ahead: Mapping[Digest, Estimated]
    """What each saves against the proposal; with run noise where it is known."""
    critical: float
    """For the largest t of them."""

    @property
    def is_lost(self) -> bool:
        """Some control is beyond the critical value."""
        return any(t_of(one) > self.critical for one in self.ahead.values())

    @property
    def is_doubtful(self) -> bool:
        """Some control is more than one standard error ahead: less would be chance every third time."""
        return any(t_of(one) > 1 for one in self.ahead.values())

    @property
    def detectable(self) -> float:
        """By how much a control must be better to be found so with 80 % power."""
        return max((self.critical + t_quantile(POWER, one.df)) * one.standard_error for one in self.ahead.values())


def decide(work: DecideWork, models: Models) -> Decision:
    """Which mix is taken."""
    noise = noise_of(work, models)
    return Decision(
        question=Question.MIX,
        method=METHOD,
        run_noise=spread(noise),
        mix=_choice(work, models, noise),
        sentence=words.of_mixes(noise, unit_of(work.target)),
    )


def contest(proposal: Texts, controls: Mapping[Digest, Texts], noise: RunNoise | None, seed: int) -> Contest:
    """Compare the proposal with each of them."""
    names = sorted(controls)
    items = [minus(proposal, controls[name]) for name in names]
    ahead = [level(one) for one in items]
    if noise:
        ahead = [with_runs(one, noise, runs=2) for one in ahead]
    shared = max(0.0, noise.variance) if noise else 0.0  # of the proposal's run, which stands in every difference
    null = MaximumNull.of(correlations(items, ahead, shared), df=min(one.df for one in ahead), seed=seed)
    return Contest(dict(zip(names, ahead, strict=True)), null.quantile(LEVEL))


# --- the document ---------------------------------------------------------------------------------------------------


def _choice(work: DecideWork, models: Models, noise: RunNoise | None) -> MixChoice:
    assert work.proposal is not None, "this question has one"
    entries = {subject_digest(entry): entry for entry in work.datasets}
    scores = {name: scored for name, entry in sorted(entries.items()) if (scored := models[_trial(entry)])}
    proposed = scores.get(work.proposal)
    controls = {name: scored.target for name, scored in scores.items() if name != work.proposal}
    held = contest(proposed.target, controls, noise, work.seed) if proposed and controls else None
    is_worse = proposed is None or (noise is not None and held is not None and held.is_lost)
    agreement = _agreement(entries, scores)
    is_unfounded = agreement is not None and agreement < AGREEMENT_MIN and held is not None and held.is_doubtful
    is_replaced = bool(controls) and (is_worse or is_unfounded)
    chosen = min(controls, key=lambda name: (level(controls[name]).value, name)) if is_replaced else work.proposal
    arm = _arm_of(next(iter(entries.values())))
    gained, forgotten = _against_base(work, models, scores.get(chosen), noise, tried=len(scores) if is_replaced else 1)
    doubts = words.doubts(work, noise, proposed=proposed is not None, failed=_failed(work), controls=len(controls))
    return MixChoice(
        learning_rate=arm.learning_rate,
        tokens=_tokens(arm),
        arms=tuple(_arm(entry, models, held, noise) for _, entry in sorted(entries.items())),
        proposal=work.proposal,
        chosen=chosen,
        verdict="Replaced" if is_replaced else "Undecided" if doubts else "Kept",
        rank_correlation=agreement,
        detectable=shown(held.detectable) if held and noise else None,
        gain=gained,
        retention_loss=forgotten,
        reason=cut(
            words.of_agreement(agreement, is_unfounded=is_unfounded)
            + words.of_choice(held, chosen, doubts, work, gained, forgotten, is_replaced=is_replaced)
        ),
    )


def _failed(work: DecideWork) -> int:
    """Mixes that were trained and have no result."""
    assert work.mixes is not None, "this question says so"
    return work.mixes - len(work.datasets)


def _agreement(entries: Mapping[Digest, DatasetArms], scores: Mapping[Digest, Scores]) -> float | None:
    """Between what was promised of the mixes and what they scored; two say nothing."""
    pairs = [
        (float(promised), level(scored.target).value)
        for name, scored in scores.items()
        if (promised := entries[name].expected) is not None
    ]
    if len(pairs) < 3:
        return None
    promised, scored = np.array(pairs).T
    return rounded(rank_correlation(promised, scored))


def _against_base(
    work: DecideWork, models: Models, scores: Scores | None, noise: RunNoise | None, tried: int
) -> tuple[Estimate | None, Estimate | None]:
    """What the chosen mix gains on the target, and what its model loses on the retention."""
    if scores is None:
        return None, None
    base = base_of(work, models)
    return gain(difference(base.target, scores.target), noise, picked_from=tried), lost(scores, base)


def _arm(entry: DatasetArms, models: Models, held: Contest | None, noise: RunNoise | None) -> MixArm:
    name, scores = subject_digest(entry), models[_trial(entry)]
    ahead = held.ahead.get(name) if held else None
    target = level(scores.target) if scores else None
    return MixArm(
        mix=name,
        parts=tuple(_parts(entry.phases or ())),
        trial=_trial(entry),
        outcome="Completed" if scores else "Diverged",
        target=shown(target.value) if target else None,
        target_interval=interval(target) if target else None,
        retention=score(scores.retention) if scores else None,
        expected=float(entry.expected) if entry.expected is not None else None,
        ahead=_against(ahead, held.critical, noise) if held and ahead else None,
    )


def _against(ahead: Estimated, critical: float, noise: RunNoise | None) -> Estimate:
    """With the bounds of the test: the lower one is above zero where the proposal is detectably worse."""
    if noise is None:
        return Estimate(value=shown(ahead.value))
    reach = critical * ahead.standard_error
    return bounded(ahead, ahead.value - reach, ahead.value + reach)


def _parts(phases: tuple[Phase, ...]) -> list[MixPart]:
    """Of the only phase that a compared mix has."""
    parts = [MixPart(dataset=known(part.dataset), weight=part.weight) for phase in phases for part in phase.mixture]
    return sorted(parts, key=lambda part: part.dataset)


def _arm_of(entry: DatasetArms) -> Arm:
    """Its only one."""
    return entry.arms[0]


def _trial(entry: DatasetArms) -> Digest:
    return known(_arm_of(entry).trial)


def _tokens(arm: Arm) -> Tokens:
    assert arm.tokens is not None, "arms of this question have them"
    return arm.tokens
