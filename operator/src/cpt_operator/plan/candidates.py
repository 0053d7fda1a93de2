"""Trained models that an experiment may end with: what was chosen for a dataset or the mix, and everything cooled.

python   sweep: 3e-4 chosen at 4M      durations: 8M chosen of 4M, 8M, 16M
chosen   8M at 3e-4                    ends   4M, 8M and 16M at 3e-4
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cpt_api.experiment import Best
from cpt_api.result import DurationArm, Estimate, RateArm, SoupArm
from cpt_api.values import Digest, LearningRate, Share, Tokens
from cpt_operator.plan.durations import Durations
from cpt_operator.plan.subjects import MIX
from cpt_operator.plan.sweep import Sweep
from cpt_operator.plan.types import Units


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cooled arm that has a score."""

    name: str
    """Of the dataset that it read, or MIX."""
    trial: Digest
    """The Train trial."""
    rate: LearningRate
    tokens: Tokens
    target: float
    """As the last decision about it says; lower is better."""
    arm: RateArm | DurationArm
    """That decision's own words."""
    gain: Estimate | None = None
    """Against the base, of what was chosen."""

    def shown(
        self, units: Units, trial: Digest, arm: RateArm | DurationArm | SoupArm, soup_weight: Share | None = None
    ) -> Best:
        """As the experiment's status shows it, or its mean with the base: that trial, with that arm's scores."""
        interval, retention = arm.target_interval, arm.retention
        return Best(
            trial=trial.short,
            digest=trial,
            dataset=self.name if self.name != MIX else None,
            learning_rate=self.rate,
            tokens=self.tokens,
            target=units.target.text(self.target if arm.target is None else arm.target),
            target_interval=units.target.interval(interval) if interval else None,
            retention=units.retention.text(retention) if retention is not None else None,
            soup_weight=soup_weight,
        )


def chosen(rungs: Sequence[Tokens], sweep: Sweep | None, durations: Durations | None, name: str) -> Candidate | None:
    """The chosen duration, or while there is none the chosen rate's longest arm."""
    for end in _durations(durations, name):
        if durations and end.tokens == durations.answers[name].choice.chosen:
            return end
    answer = sweep.answers.get(name) if sweep else None
    for arm in answer.choice.arms if answer else ():
        if answer and arm.learning_rate == answer.choice.chosen and arm.target is not None:
            trial, rate = answer.arms[arm.learning_rate], arm.learning_rate
            return Candidate(name, trial, rate, rungs[answer.rung], arm.target, arm, answer.choice.gain)
    return None


def ends(rungs: Sequence[Tokens], sweep: Sweep | None, durations: Durations | None, name: str) -> list[Candidate]:
    """Every duration, or while there is none the chosen rate's longest arm."""
    if durations and name in durations.answers:
        return _durations(durations, name)
    one = chosen(rungs, sweep, durations, name)
    return [one] if one else []


def _durations(durations: Durations | None, name: str) -> list[Candidate]:
    """Those that have a score; the gain is that of the chosen one."""
    lasting = durations.answers.get(name) if durations else None
    if lasting is None:
        return []
    choice = lasting.choice
    return [
        Candidate(name, lasting.arms[arm.tokens], choice.learning_rate, arm.tokens, arm.target, arm, choice.gain)
        for arm in choice.arms
        if arm.target is not None
    ]
