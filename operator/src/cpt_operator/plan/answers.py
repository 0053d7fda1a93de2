"""Outcomes that nobody waited for: whoever asks how a trial ended is told how it will.

    plan(spec, context, outcomes)      as far as these reach; with each of them a bit further, for dozens of turns
    plan(spec, context, answer)        to the end, in one turn: what a forecast wants

Price: none; each trial is answered once, when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from cpt_api.values import Digest
from cpt_operator.plan.trials import Trials
from cpt_operator.plan.types import Outcome, PlannedTrial

Answer = Callable[[PlannedTrial], Outcome]
"""How any trial will end; the same trial in the same way."""


class Answers(Mapping[Digest, Outcome]):
    """Of the trials of a plan while it is being made."""

    def __init__(self, trials: Trials, answer: Answer) -> None:
        self._trials = trials
        self._answer = answer
        self._given: dict[Digest, Outcome] = {}

    def __getitem__(self, digest: Digest) -> Outcome:
        if digest not in self._given:
            self._given[digest] = self._answer(self._trials.planned(digest))
        return self._given[digest]

    def __iter__(self) -> Iterator[Digest]:
        return (trial.digest for trial in self._trials.all())

    def __len__(self) -> int:
        return len(self._trials.all())
