"""The trials that an experiment's plan wants, held against those that there are. Pure.

    planned a, b, c    there are a (ended), b, x       mine a, b;  unsettled b, c;  superseded x

Whatever takes a walk over all of them is walked once: the same `Family` serves every turn until a trial or the plan
changes, so that a turn of 5,000 trials with nothing new takes 10 ms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from cpt_api.experiment import TrialCounts
from cpt_api.trial import TrialType
from cpt_operator.plan import PlannedTrial
from cpt_operator.records import TrialRecord


@dataclass(frozen=True)
class Family:
    """Of one plan, at one revision of the trials."""

    planned: Mapping[str, PlannedTrial]
    """By name, in the plan's order."""
    children: Mapping[str, TrialRecord]
    """By the name that the plan gives them; superseded ones under their own."""

    @cached_property
    def mine(self) -> Sequence[TrialRecord]:
        """Children that are in the plan, in its order."""
        return [self.children[name] for name in self.planned if name in self.children]

    @cached_property
    def open(self) -> Sequence[TrialRecord]:
        """Those that have not ended."""
        return [child for child in self.mine if not child.standing.has_ended]

    @cached_property
    def at_work(self) -> Sequence[TrialRecord]:
        """All children with an open attempt, superseded ones too."""
        return [child for child in self.children.values() if child.standing.is_at_work]

    @cached_property
    def failed(self) -> Sequence[TrialRecord]:
        """Those that ended for good without a result."""
        return [child for child in self.mine if child.standing.has_failed]

    @cached_property
    def superseded(self) -> Sequence[TrialRecord]:
        """Children that the plan does not hold."""
        return [child for name, child in self.children.items() if name not in self.planned]

    @cached_property
    def unsettled(self) -> Sequence[tuple[int, str]]:
        """Place in the plan and name of what is still to be made, or may still be changed."""
        found = ((order, name, self.children.get(name)) for order, name in enumerate(self.planned))
        return [(order, name) for order, name, child in found if child is None or not child.standing.has_ended]

    @cached_property
    def counts(self) -> TrialCounts:
        """By where they stand."""
        standings = [child.standing for child in self.mine]
        succeeded = sum(standing.has_succeeded for standing in standings)
        running = sum(standing.is_at_work for standing in standings)
        return TrialCounts(
            total=len(self.planned),
            running=running,
            queued=len(self.planned) - succeeded - len(self.failed) - running,
            succeeded=succeeded,
            failed=len(self.failed),
            reused=sum(standing.is_reused for standing in standings),
            superseded=len(self.superseded),
        )

    @cached_property
    def started(self) -> str | None:
        """When the first attempt of any child began."""
        begins = (child.status.get("startTime") for child in self.children.values())
        return min((str(begin) for begin in begins if begin), default=None)

    # --- tokens -------------------------------------------------------------------------------------------------------

    @cached_property
    def _training(self) -> Sequence[tuple[int, TrialRecord | None]]:
        """The tokens of each trial that is planned to train, and the trial where it exists."""
        return [(trial.tokens, self.children.get(name)) for name, trial in self.planned.items() if trial.tokens]

    @cached_property
    def tokens_planned(self) -> int:
        """Of all planned trials."""
        return sum(tokens for tokens, _ in self._training)

    @cached_property
    def tokens_done(self) -> int:
        """Of these: all of a trial that has ended, and what the others have so far."""
        begun = ((tokens, child) for tokens, child in self._training if child is not None)
        return sum(tokens if child.standing.has_ended else min(tokens, child.tokens) for tokens, child in begun)

    @property
    def tokens_left(self) -> int:
        """Of these: what is not done."""
        return self.tokens_planned - self.tokens_done

    @cached_property
    def tokens_own(self) -> int:
        """Of all planned trials whose result did not exist before."""
        return sum(tokens for tokens, child in self._training if child is None or not child.standing.is_reused)

    @cached_property
    def tokens_trained(self) -> int:
        """By all children, superseded ones too."""
        return sum(child.tokens for child in self.children.values() if not child.standing.is_reused)

    @cached_property
    def tokens_reused(self) -> int:
        """That equal trials had trained before."""
        return sum(child.tokens for child in self.children.values() if child.standing.is_reused)

    @cached_property
    def trainings_left(self) -> int:
        """Trials that would train more."""
        return sum(child is None or not child.standing.has_ended for _, child in self._training)

    @cached_property
    def gpu_seconds(self) -> int:
        """Of all attempts."""
        return sum(_gpu_seconds(child) for child in self.children.values())

    @cached_property
    def evaluation_gpu_seconds(self) -> int:
        """Of these, those of Evaluate trials."""
        evaluations = (child for child in self.children.values() if child.spec.get("type") == TrialType.EVALUATE)
        return sum(_gpu_seconds(child) for child in evaluations)


def _gpu_seconds(child: TrialRecord) -> int:
    return child.status.get("gpuSeconds") or 0
