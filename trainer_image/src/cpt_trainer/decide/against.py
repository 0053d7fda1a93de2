"""Arms against the control: the same rate, the same tokens, other data.

    compare(entry, models, controls, noise).compared[1].gain        3e-4 at 4M: 0.052 bits per byte saved, SE 0.013

The control is the mean of its runs at that rate and length, so an arm against n of them has the run noise of 1 + 1/n
runs. What diverged is a result and is not compared; what failed leaves the dataset undecided, and is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cpt_api.digest import subject_digest
from cpt_api.trial import Arm, DatasetArms
from cpt_api.values import Digest, LearningRate, Tokens
from cpt_trainer.decide.document import Models, Scores, Texts
from cpt_trainer.decide.estimates import Estimated, computed, level
from cpt_trainer.decide.judgement import t_of
from cpt_trainer.decide.noise import RunNoise, with_runs
from cpt_trainer.trial import known

Controls = Mapping[tuple[LearningRate, Tokens | None], Sequence[Scores | None]]
"""Runs of the control by rate and tokens; None: it diverged."""
Outcome = Literal["Compared", "Diverged", "ControlDiverged", "ControlMissing"]


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """An arm against the control at the same rate and tokens."""

    arm: Arm
    scores: Scores
    target: Texts
    """Bits that the arm saves."""
    retention: Texts
    runs: float
    """Runs in the difference: the arm's, and a part of those whose mean is the control."""
    gain: Estimated
    """On the target; with run noise where it is known."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One dataset."""

    entry: DatasetArms
    outcomes: Mapping[LearningRate, Outcome]
    """Of every arm, rates rising."""
    compared: Mapping[LearningRate, Compared]

    @property
    def dataset(self) -> Digest:
        """Its Prepare trial."""
        return subject_digest(self.entry)

    @property
    def best(self) -> Compared | None:
        """The one with the largest t; of equals the one with the lowest rate."""
        return max(self.compared.values(), key=lambda one: t_of(one.gain), default=None)

    def rates(self, outcome: Outcome) -> tuple[LearningRate, ...]:
        """Those with that outcome."""
        return tuple(rate for rate, found in self.outcomes.items() if found == outcome)

    @property
    def complete(self) -> bool:
        """No arm has failed, nor a control of one."""
        return not self.entry.missing and not self.rates("ControlMissing")


def compare(entry: DatasetArms, models: Models, controls: Controls, noise: RunNoise | None) -> Case:
    """Every arm of a dataset with its control."""
    outcomes: dict[LearningRate, Outcome] = {}
    compared: dict[LearningRate, Compared] = {}
    for arm in sorted(entry.arms, key=lambda arm: arm.learning_rate):
        scores, rate = models[known(arm.trial)], arm.learning_rate
        runs = controls.get((rate, arm.tokens))
        if scores is None:
            outcomes[rate] = "Diverged"
        elif runs is None:
            outcomes[rate] = "ControlMissing"
        elif not (scored := [run for run in runs if run]):
            outcomes[rate] = "ControlDiverged"
        else:
            outcomes[rate] = "Compared"
            compared[rate] = _compared(arm, scores, scored, noise)
    return Case(entry, outcomes, compared)


def _compared(arm: Arm, scores: Scores, controls: Sequence[Scores], noise: RunNoise | None) -> Compared:
    target = saved(scores.target, [control.target for control in controls])
    retention = saved(scores.retention, [control.retention for control in controls])
    items_only, runs = level(target), 1 + 1 / len(controls)
    gain = with_runs(items_only, noise, runs) if noise else items_only
    return Compared(arm, scores, target, retention, runs, gain)


def saved(texts: Texts, others: Sequence[Texts]) -> Texts:
    """Bits that a model saves against the mean of others, document by document."""
    count = len(others)
    return [
        computed(text, sum(other.bits for other in same) / count - text.bits, 0.0)
        for text, same in zip(texts, zip(*others, strict=True), strict=True)
    ]
