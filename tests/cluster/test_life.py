"""One experiment from `kubectl apply` to its choice, on a real API server, under the chart's rights; and what people do
to it afterwards. One run serves the whole file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from cluster.harness import Kubelet, Lab, Team, commits, kubelet
from cpt_operator.kinds import Kind
from cpt_operator.standing import has_ended, reason_of
from make import make_experiment

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRIALS = 24


@dataclass
class Run:
    """A finished experiment, `sweep`; operator and kubelet go on."""

    team: Team
    node: Kubelet
    applied: list[tuple[str, bool]] = field(default_factory=list)
    """The same manifest was applied when Ready had this reason; whether anything changed."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def run(lab: Lab) -> AsyncIterator[Run]:
    """The manifest is applied again and again while it runs."""
    async with Team(lab, "life") as team:
        with lab.operator(team.namespace):
            async with kubelet(team) as node:
                run = Run(team, node)
                await team.apply("sweep", make_experiment())

                async def finished() -> bool:
                    reason = (await team.condition(Kind.EXPERIMENT, "sweep", "Ready")).get("reason", "")
                    if not run.applied or reason != run.applied[-1][0]:
                        run.applied.append(await apply_again(team))
                    return run.applied[-1][0] == "Completed"

                await team.until(finished, 90)
                yield run


async def apply_again(team: Team) -> tuple[str, bool]:
    """The reason of Ready, and whether the same manifest changed anything but the time of its manager's entry."""
    before = await team.get(Kind.EXPERIMENT, "sweep")
    after = await team.apply("sweep", make_experiment())
    assert before is not None
    same = before["metadata"]["generation"] == after["metadata"]["generation"] and before["spec"] == after["spec"]
    conditions = {c["type"]: c["reason"] for c in after.get("status", {}).get("conditions", ())}
    return conditions.get("Ready", ""), not same


class TestRun:
    """What is seen of an undisturbed run."""

    async def test_it_ends_with_a_choice(self, run: Run) -> None:
        """A rate per dataset, and every trial completed in its first attempt."""
        status = await run.team.status()
        assert {d["name"]: d["bestLearningRate"] for d in status["datasets"]} == {"python": "1e-4", "perl": "1e-4"}
        trials = await run.team.trials("sweep")
        assert (len(trials), {reason_of(trial.status) for trial in trials}) == (TRIALS, {"Completed"})
        assert {trial.status["attempts"]["total"] for trial in trials} == {1}

    async def test_every_object_is_made_once(self, run: Run) -> None:
        """One trial per digest, one job per trial."""
        jobs, trials = run.team.made(Kind.JOB), run.team.made(Kind.TRIAL)
        assert (len(jobs), len(trials)) == (TRIALS, TRIALS)
        assert {*jobs.values(), *trials.values()} == {1}
        assert max(Counter(run.node.seen.values()).values()) == 1

    async def test_six_writes_per_trial(self, run: Run) -> None:
        """Over its whole life: two objects and four states."""
        writes: Counter[str] = Counter()
        for request in run.team.requests():
            if request.is_write:
                is_job = request.resource == Kind.JOB.plural
                writes[request.name.rpartition("-")[0] if is_job else request.name] += 1
        del writes["sweep"]
        assert max(writes.values()) <= 6, writes

    async def test_the_same_manifest_changes_nothing(self, run: Run) -> None:
        """In every phase: no new generation, and nothing for a GitOps tool to see."""
        assert {"", "Running", "Completed"} <= {reason for reason, _ in run.applied}
        assert not any(changed for _, changed in run.applied)

    async def test_the_operator_leaves_the_manifest_alone(self, run: Run) -> None:
        """No annotation, label or finalizer on a CPTExperiment, and its field manager owns status only."""
        body = await run.team.get(Kind.EXPERIMENT, "sweep")
        assert body is not None
        assert not {"annotations", "labels", "finalizers"} & body["metadata"].keys()
        owned = [e for e in body["metadata"]["managedFields"] if e["manager"] == "cpt-operator"]
        assert [(e["operation"], e["subresource"]) for e in owned] == [("Apply", "status")]


class TestAfterwards:
    """What was done is not done again."""

    async def test_a_deleted_job_stays_away(self, run: Run) -> None:
        """Its trial has ended."""
        job = next(job for job in await run.team.jobs() if "-train-" in job.name)
        await run.team.delete(Kind.JOB, job.name)

        async def looked_at() -> bool:
            return await run.team.get(Kind.JOB, job.name) is None

        await run.team.until(looked_at)
        await self._twin(run, "after-job")
        assert run.team.made(Kind.JOB)[job.name] == 1

    async def test_a_deleted_trial_comes_back_as_reused(self, run: Run) -> None:
        """With no pod."""
        name = next(trial.name for trial in await run.team.trials("sweep") if "-train-" in trial.name)
        jobs = run.team.made(Kind.JOB)
        await run.team.delete(Kind.TRIAL, name)

        async def reused() -> bool:
            return (await run.team.condition(Kind.TRIAL, name, "Succeeded")).get("reason") == "Reused"

        await run.team.until(reused)
        assert run.team.made(Kind.JOB) == jobs

    async def test_another_name_is_reused(self, run: Run) -> None:
        """Every trial but Preflight, which looks at the inputs as they are now, and the report, which has its name."""
        status = await self._twin(run, "twin")
        assert (status["trials"]["reused"], status["ledger"]["tokensTrained"]) == (TRIALS - 2, "0")

    async def test_delete_and_apply_in_the_same_second(self, run: Run) -> None:
        """The new one adopts nothing of the old one and loses no result."""
        old = await run.team.get(Kind.EXPERIMENT, "sweep")
        await run.team.delete(Kind.EXPERIMENT, "sweep")
        new = await run.team.apply("sweep", make_experiment())
        assert old is not None
        assert new["metadata"]["uid"] != old["metadata"]["uid"]
        await run.team.until_reason("Completed")

        async def alone() -> bool:
            return {t.owner_uid for t in await run.team.trials("sweep")} == {new["metadata"]["uid"]}

        await run.team.until(alone)
        status = await run.team.status()
        assert (status["trials"]["reused"], status["ledger"]["tokensTrained"]) == (TRIALS - 2, "0")

    async def test_foreground_deletion_ends(self, run: Run) -> None:
        """Nothing is made anew while the garbage collector works from the leaves up."""
        run.node.commit = lambda _: None
        try:
            changed = {"training": {"sequenceLength": 64, "globalBatchSize": 8, "seed": 7}}
            await run.team.apply("going", make_experiment(**changed))

            async def at_work() -> bool:
                return any(job.name.startswith("going-") for job in await run.team.jobs())

            await run.team.until(at_work)
            await run.team.delete(Kind.EXPERIMENT, "going", "Foreground")

            async def gone() -> bool:
                left: list[Any] = [await run.team.get(Kind.EXPERIMENT, "going"), *await run.team.trials("going")]
                return not any(left) and not any(j.name.startswith("going-") for j in await run.team.jobs())

            await run.team.until(gone)
            assert max(run.team.made(Kind.JOB).values()) == 1
        finally:
            run.node.commit = commits

    async def _twin(self, run: Run, name: str) -> dict[str, Any]:
        await run.team.apply(name, make_experiment())
        await run.team.until_reason("Completed", name)
        assert all(has_ended(trial.status) for trial in await run.team.trials(name))
        return await run.team.status(name)
