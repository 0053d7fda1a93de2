"""Question Duration: how long is worth it? Which durations of a trunk cannot be excluded to be the best, and go on?

    tokens   target   behind the best   largest t against the others   critical
    4M       1.982        0.055                4.1                       2.3      excluded
    8M       1.934        0.007                0.5                       2.3      chosen: within minimumEffect
    16M      1.927        best                                                    8M to 16M gains at most 0.03: stop

The set is that of multiple comparisons with the best: a duration is excluded when it is behind any other beyond what
the largest of its differences is by chance (joint.py), so in 95 of 100 sweeps it holds the one that is best in truth,
however many there are. Chosen is its shortest member that is within `minimumEffect` of the best measured one. The trunk
goes on as long as the upper bound of what the last step gained exceeds `minimumEffect`.

The arm for which the trunk's rate was picked, at the sweep's last rung, looks better than it is: where it stands in a
comparison the error rate is split among the rates that it was picked from.

Durations are branches of one trunk. Their differences get the noise of two separate runs all the same: what two recipes
would show. A trunk's own noise cancels, so intervals err on the careful side; they are conditional on that trunk.

Price: 0.1 s for a dataset of five durations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cpt_api.digest import subject_digest
from cpt_api.result import Decision, DurationArm, DurationChoice, Estimate
from cpt_api.trial import DatasetArms, DecideWork, Question
from cpt_api.unit import unit_of
from cpt_api.values import Digest, Tokens
from cpt_trainer.decide import duration_words as words
from cpt_trainer.decide.document import (
    LEVEL,
    ONE_SIDED,
    Models,
    Scores,
    Texts,
    base_of,
    estimate,
    gain,
    interval,
    lost,
    noise_of,
    score,
    shown,
    spread,
)
from cpt_trainer.decide.estimates import Estimated, difference, level, minus
from cpt_trainer.decide.joint import MaximumNull, correlations
from cpt_trainer.decide.judgement import t_of
from cpt_trainer.decide.noise import RunNoise, with_runs
from cpt_trainer.trial import known

METHOD = "duration/1"
"""Changes with the procedure: equal methods and equal inputs give equal documents."""


@dataclass(frozen=True, slots=True, eq=False)
class Ladder:
    """The durations that have a score, rising."""

    best: Tokens
    """With the lowest loss; of equals the shortest."""
    behind: Mapping[Tokens, Estimated]
    """Paired loss to the best; zero for the best."""
    acceptable: tuple[Tokens, ...]
    chosen: Tokens
    last_step: Estimated | None
    """What the last duration saves against the one before; None where there is one."""


def decide(work: DecideWork, models: Models) -> Decision:
    """The answer for every dataset, by digest."""
    noise = noise_of(work, models)
    entries = sorted(work.datasets, key=subject_digest)
    return Decision(
        question=Question.DURATION,
        method=METHOD,
        run_noise=spread(noise),
        durations=tuple(_choice(entry, work, models, noise) for entry in entries),
        sentence=words.of_durations(noise, unit_of(work.target)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Everything that was found out about one dataset."""

    ladder: Ladder
    last_step: Estimate | None
    """Its upper end is the one-sided 95 % bound."""
    go_on: bool
    diverged: tuple[Tokens, ...]
    missing: tuple[Tokens, ...]
    gain: Estimate
    """Of the chosen one over the base."""
    lost: Estimate | None
    """Retention, by the chosen model."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How durations are judged."""

    threshold: float
    """Effects inside are too small to matter."""
    rates: int
    """Of which the trunk's was picked."""
    picked_at: Tokens
    """For its arm of that length."""
    seed: int

    def picked_from(self, *durations: Tokens) -> int:
        """Rates among which luck may have chosen one of these."""
        return self.rates if self.picked_at in durations else 1

    def level(self, confidence: float, *durations: Tokens) -> float:
        """So much, with the error split where luck may have chosen one of these."""
        return 1 - (1 - confidence) / self.picked_from(*durations)


def climb(targets: Mapping[Tokens, Texts], noise: RunNoise | None, rule: Rule) -> Ladder:
    """Compare all durations with each other."""
    durations = sorted(targets)
    losses = {tokens: level(targets[tokens]).value for tokens in durations}
    best = min(durations, key=lambda tokens: (losses[tokens], tokens))
    behind = {tokens: _compared(targets, tokens, best, noise) for tokens in durations}
    acceptable = tuple(tokens for tokens in durations if not _is_excluded(targets, tokens, noise, rule))
    return Ladder(
        best=best,
        behind=behind,
        acceptable=acceptable,
        chosen=min(tokens for tokens in {*acceptable, best} if behind[tokens].value <= rule.threshold),
        last_step=_compared(targets, durations[-2], durations[-1], noise) if len(durations) > 1 else None,
    )


def _compared(targets: Mapping[Tokens, Texts], tokens: Tokens, other: Tokens, noise: RunNoise | None) -> Estimated:
    """Loss of the one minus loss of the other."""
    items_only = difference(targets[tokens], targets[other])
    return with_runs(items_only, noise, runs=2) if noise and tokens != other else items_only


def _is_excluded(targets: Mapping[Tokens, Texts], tokens: Tokens, noise: RunNoise | None, rule: Rule) -> bool:
    """Behind any other beyond the critical value of the largest of its differences."""
    others = [other for other in sorted(targets) if other != tokens]
    if not others:
        return False
    behind = [_compared(targets, tokens, other, noise) for other in others]
    items = [minus(targets[tokens], targets[other]) for other in others]
    shared = max(0.0, noise.variance) if noise else 0.0  # of its own run, which stands in every difference
    null = MaximumNull.of(correlations(items, behind, shared), df=min(one.df for one in behind), seed=rule.seed)
    critical = {level: null.quantile(level) for level in {rule.level(LEVEL, other) for other in others}}
    return any(t_of(one) > critical[rule.level(LEVEL, other)] for other, one in zip(others, behind, strict=True))


# --- the document ---------------------------------------------------------------------------------------------------


def _choice(entry: DatasetArms, work: DecideWork, models: Models, noise: RunNoise | None) -> DurationChoice:
    trials = {_tokens(arm.tokens): known(arm.trial) for arm in entry.arms}
    scores = {tokens: scored for tokens, trial in sorted(trials.items()) if (scored := models[trial])}
    diverged = tuple(tokens for tokens in sorted(trials) if tokens not in scores)
    missing = tuple(sorted(entry.missing_tokens or ()))
    if not scores:
        return DurationChoice(
            dataset=subject_digest(entry),
            learning_rate=entry.arms[0].learning_rate,
            arms=tuple(_diverged(tokens, trials[tokens]) for tokens in diverged),
            chosen=None,
            verdict="AllDiverged",
            go_on=False,
            reason=words.of_divergence(diverged, missing),
        )
    found = _found(work, models, scores, noise, diverged, missing)
    return DurationChoice(
        dataset=subject_digest(entry),
        learning_rate=entry.arms[0].learning_rate,
        arms=tuple(
            _arm(tokens, trial, scores[tokens], found.ladder, rule_of(work))
            if tokens in scores
            else _diverged(tokens, trial)
            for tokens, trial in sorted(trials.items())
        ),
        chosen=found.ladder.chosen,
        verdict="Undecided" if noise is None or missing else "Chosen",
        last_step=found.last_step,
        go_on=found.go_on,
        gain=found.gain,
        retention_loss=found.lost,
        reason=words.of_choice(found, work, noise),
    )


def _found(
    work: DecideWork,
    models: Models,
    scores: Mapping[Tokens, Scores],
    noise: RunNoise | None,
    diverged: tuple[Tokens, ...],
    missing: tuple[Tokens, ...],
) -> Found:
    base = base_of(work, models)
    rule = rule_of(work)
    ladder = climb({tokens: scored.target for tokens, scored in scores.items()}, noise, rule)
    chosen = scores[ladder.chosen]
    last_step = estimate(ladder.last_step, rule.level(ONE_SIDED, *sorted(scores)[-2:])) if ladder.last_step else None
    return Found(
        ladder=ladder,
        last_step=last_step,
        go_on=not diverged and not missing and _may_gain(last_step, rule.threshold),
        diverged=diverged,
        missing=missing,
        gain=gain(
            difference(base.target, chosen.target),
            noise,
            picked_from=len(scores) * rule.picked_from(ladder.chosen),
        ),
        lost=lost(chosen, base),
    )


def _tokens(tokens: Tokens | None) -> Tokens:
    assert tokens is not None, "arms of this question have them"
    return tokens


def _may_gain(last_step: Estimate | None, threshold: float) -> bool:
    """One duration alone says nothing about the next."""
    return last_step is None or last_step.upper is None or last_step.upper > threshold


def rule_of(work: DecideWork) -> Rule:
    """Of the question."""
    assert work.rates is not None, "this question has them"
    assert work.picked_at is not None, "this question says where"
    return Rule(float(work.target.threshold), work.rates, work.picked_at, work.seed)


def _arm(tokens: Tokens, trial: Digest, scores: Scores, ladder: Ladder, rule: Rule) -> DurationArm:
    target = level(scores.target)
    behind = None
    if tokens != ladder.best:
        confidence = rule.level(LEVEL, tokens, ladder.best)
        behind = estimate(ladder.behind[tokens], confidence, picked_from=len(ladder.behind) - 1)
    return DurationArm(
        tokens=tokens,
        trial=trial,
        outcome="Completed",
        target=shown(target.value),
        target_interval=interval(target),
        retention=score(scores.retention),
        behind_best=behind,
        acceptable=tokens in ladder.acceptable,
    )


def _diverged(tokens: Tokens, trial: Digest) -> DurationArm:
    return DurationArm(tokens=tokens, trial=trial, outcome="Diverged")
