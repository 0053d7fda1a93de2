"""A world for the planner that answers every trial at once, or only some of them, in any order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cpt_api.experiment import CPTExperimentSpec
from cpt_api.trial import CPTTrialSpec, TrialType
from cpt_api.values import Digest
from cpt_operator.plan import Context, Earlier, Look, Outcome, Plan, Succeeded, plan
from make import make_result

Answer = Callable[[CPTTrialSpec], Outcome]
CONTEXT = Context(experiment_uid="uid-1", protocol=1)


def good(spec: CPTTrialSpec) -> Outcome:
    """All goes well."""
    return Succeeded(make_result(spec))


class World:
    """Runs a plan: every call of `step` answers some trials that could run."""

    def __init__(self, spec: CPTExperimentSpec, context: Context = CONTEXT, answer: Answer = good) -> None:
        self.spec, self.context, self.answer = spec, context, answer
        self.outcomes: dict[Digest, Outcome] = {}
        self.answered: list[CPTTrialSpec] = []
        self.earlier = Earlier()

    def plan(self) -> Plan:
        """By what is known."""
        return plan(self.spec, self.context, self.outcomes, self.earlier)

    def step(self, pick: Callable[[int], int] = lambda count: count) -> bool:
        """Answer the first so many of the trials that could run; False when there is none."""
        ready = [
            trial
            for trial in self.plan().trials
            if trial.digest not in self.outcomes
            and all(isinstance(self.outcomes.get(n), Succeeded) for n in trial.needs)
        ]
        for trial in ready[: pick(len(ready))]:
            self.outcomes[trial.digest] = self.answer(trial.spec)
            self.answered.append(trial.spec)
            if trial.spec.type is TrialType.PREFLIGHT:
                looks = [look for look in self.context.looks if look.outcome is not None]
                self.context = replace(
                    self.context, looks=(*looks, Look(trial.spec, self.outcomes[trial.digest])), look_again=False
                )
        return bool(ready)

    def totals(self) -> list[int]:
        """Of every plan on the way, from the first answers on: tokens that it trains, and those that lie ahead."""
        found = []
        more = self.step()
        while more:
            now = self.plan()
            found.append(sum(trial.tokens for trial in now.trials) + now.tokens_ahead)
            more = self.step()
        return found

    def run(self) -> Plan:
        """To the end."""
        for _ in range(100):
            if not self.step():
                return self.plan()
        raise AssertionError("the plan does not end")


def reason_of(made: Plan, stage: str) -> str:
    """What the stage says."""
    return next(status.reason or "" for status in made.stages if status.name == stage)
