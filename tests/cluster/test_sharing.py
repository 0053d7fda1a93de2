"""Experiments beside each other: equal work is done once, and nothing else is shared."""

from __future__ import annotations

import asyncio
from collections import Counter

from cluster.harness import Lab, Team, commits, kubelet
from cpt_api.result import Result
from cpt_api.trial import TrialDocument, TrialType
from cpt_operator.kinds import Kind
from cpt_operator.standing import is_at_work, reason_of
from make import make_experiment


async def test_equal_experiments_train_once(lab: Lab, team: Team) -> None:
    """Applied in the same second: each digest has one job, both end with the same choice."""
    with lab.operator(team.namespace):
        async with kubelet(team) as node:
            await asyncio.gather(*(team.apply(name, make_experiment()) for name in ("one", "two")))
            for name in ("one", "two"):
                await team.until_reason("Completed", name)
    assert max(Counter(node.seen.values()).values()) == 1
    one, two = await team.status("one"), await team.status("two")
    assert one["datasets"] == two["datasets"]
    preflights = 2
    assert one["trials"]["reused"] + two["trials"]["reused"] == 2 * 24 - preflights - len(set(node.seen.values())) + 2


async def test_names_that_begin_alike(lab: Lab, team: Team) -> None:
    """They share 30 characters, of which 26 stand in their children's names; their children never meet."""
    names = ("a-name-that-is-thirty-char-long-x", "a-name-that-is-thirty-char-long-y")
    seeds = ({"seed": 1}, {"seed": 2})
    training = make_experiment().training.to_dict()
    with lab.operator(team.namespace):
        async with kubelet(team):
            for name, seed in zip(names, seeds, strict=True):
                await team.apply(name, make_experiment(training=training | seed))
            for name in names:
                await team.until_reason("Completed", name)
    trials = [{trial.name for trial in await team.trials(name)} for name in names]
    assert [len(own) for own in trials] == [24, 24]
    assert trials[0] & trials[1] == set()
    assert {*team.made(Kind.TRIAL).values(), *team.made(Kind.JOB).values()} == {1}


async def test_fewer_places_stop_nothing(lab: Lab, team: Team) -> None:
    """Lowering parallelTrials only holds back new starts."""
    with lab.operator(team.namespace):
        async with kubelet(team, never_trains):
            await team.apply("sweep", make_experiment())

            async def training(want: int = 4) -> bool:
                at_work = [t for t in await team.trials() if is_at_work(t.status) and reason_of(t.status) == "Running"]
                return len(at_work) == want

            await team.until(training)
            await team.apply("sweep", make_experiment(scheduling={"parallelTrials": 1}))

            async def observed() -> bool:
                return bool((await team.status())["observedGeneration"] == 2)

            await team.until(observed)
            assert await training()
            deleted = [r for r in team.requests() if r.verb == "delete"]
            assert deleted == []


def never_trains(document: TrialDocument) -> Result | None:
    """Everything else ends at once."""
    return None if document.spec.type is TrialType.TRAIN else commits(document)
