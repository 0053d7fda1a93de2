"""Why something does not go on: in conditions and events of a real API server, in words; and what people do then."""

from __future__ import annotations

from typing import Any

from cluster.harness import TINY, Lab, Team, commits, kubelet
from cluster.test_refusals import LOOK
from cluster.test_sharing import never_trains
from cpt_api.result import Finding, Outcome, Result
from cpt_api.trial import TrialDocument, TrialType
from cpt_operator.kinds import Kind
from cpt_operator.standing import has_ended, is_at_work
from make import make_experiment, make_result


async def events(team: Team, reason: str) -> list[dict[str, Any]]:
    """Those of the operator."""
    answer = await team.api.request("list", f"/api/v1/namespaces/{team.namespace}/events")
    return [e for e in answer["items"] if e["source"].get("component") == "cpt-operator" and e["reason"] == reason]


async def test_a_permanent_end_is_told(lab: Lab, team: Team) -> None:
    """Exit 4: the trial's condition, an event on it, and the experiment's condition have the trainer's words."""
    words = "line 17 of s3://cpt/sources/python.jsonl is no JSON"
    with lab.operator(team.namespace):
        async with kubelet(team, lambda d: None if d.spec.type is TrialType.PREPARE else commits(d)) as node:
            await team.apply("sweep", make_experiment(**TINY))
            job = await _job(team, "-prep-")
            await node.end(job, 4, words)
            await team.until_reason("Failed")
    trial = job.rpartition("-")[0]
    failed = await team.condition(Kind.TRIAL, trial, "Succeeded")
    assert (failed["status"], failed["reason"]) == ("False", "DataError")
    assert words in failed["message"]
    assert words in (await team.condition(Kind.EXPERIMENT, "sweep", "Ready"))["message"]
    (event,) = [e for e in await events(team, "DataError") if e["involvedObject"]["kind"] == "CPTTrial"][:1]
    assert (event["type"], event["involvedObject"]["name"]) == ("Warning", trial)
    assert words in event["message"]


async def _job(team: Team, part: str) -> str:
    """The first job with that in its name, as soon as its pods run."""
    found: list[str] = []

    async def running() -> bool:
        found[:] = [b["metadata"]["name"] for b in await team.bodies(Kind.POD) if part in b["metadata"]["name"]]
        return bool(found)

    await team.until(running)
    return found[0].removesuffix("-master-0")


async def test_a_pod_that_may_not_be_created(lab: Lab, team: Team) -> None:
    """Quota and Pod Security speak in events of the job only."""
    words = 'pods "x" is forbidden: exceeded quota: gpus'
    with lab.operator(team.namespace):
        await team.apply("sweep", make_experiment(**TINY))

        async def job() -> bool:
            return bool(await team.jobs())

        await team.until(job)
        (record,) = await team.jobs()
        involved = {"kind": "PyTorchJob", "namespace": team.namespace, "name": record.name, "uid": record.uid}
        body = {
            "metadata": {"name": f"{record.name}.1", "namespace": team.namespace},
            "involvedObject": involved,
            "reason": "FailedCreatePod",
            "message": words,
            "type": "Warning",
            "lastTimestamp": "2026-11-25T00:00:00Z",
        }
        await team.api.request("create", f"/api/v1/namespaces/{team.namespace}/events", body=body)
        await team.until_reason("PodForbidden")
    assert words in (await team.condition(Kind.EXPERIMENT, "sweep", "Ready"))["message"]


async def test_suspend_and_resume(lab: Lab, team: Team) -> None:
    """The jobs go, the trials keep their record; resumed, each goes on with its next attempt."""
    with lab.operator(team.namespace):
        async with kubelet(team, never_trains) as node:
            await team.apply("sweep", make_experiment(scheduling={"parallelTrials": 2}))

            async def training() -> bool:
                return sum(is_at_work(t.status) for t in await team.trials() if "-train-" in t.name) == 2

            await team.until(training)
            await team.apply("sweep", make_experiment(scheduling={"parallelTrials": 2}, suspend=True))
            await team.until_reason("Suspended")

            async def stopped() -> bool:
                return not any(is_at_work(trial.status) for trial in await team.trials())

            await team.until(stopped)
            assert [j for j in await team.jobs() if "-train-" in j.name] == []
            assert {t.spec["run"]["suspend"] for t in await team.trials() if "-train-" in t.name} == {True}
            node.commit = commits
            await team.apply("sweep", make_experiment(scheduling={"parallelTrials": 2}))
            await team.until_reason("Completed", seconds=120)
    assert "suspend" not in {key for t in await team.trials() for key in t.spec["run"]}
    again = [t for t in await team.trials() if t.status["attempts"]["total"] == 2]
    assert len(again) == 2
    assert {t.status["attempts"]["last"][0]["cause"] for t in again} == {"Suspended"}


async def test_inputs_are_looked_at_again(lab: Lab, team: Team) -> None:
    """Findings stall the experiment; each dataset more brings a new look, and looks that told nothing go."""

    def finds(document: TrialDocument) -> Result | None:
        look = document.spec.preflight
        if look is None or look.round > 2:
            return commits(document)
        finding = Finding(reason="StoreRefused", message="the store takes no conditional writes")
        return make_result(document.spec, findings=(finding,), outcome=Outcome.FINDINGS)

    datasets = [d.to_dict() for d in make_experiment().datasets]
    with lab.operator(team.namespace):
        async with kubelet(team, finds):
            await team.apply("sweep", make_experiment())
            await team.until_reason("PreflightFailed")
            assert "no conditional writes" in (await team.condition(Kind.EXPERIMENT, "sweep", "Stalled"))["message"]
            for name, rounds in (("sql", [1, 2]), ("tcl", [1, 3])):
                datasets.append({"name": name, "uri": f"s3://cpt/sources/{name}.jsonl"})
                await team.apply("sweep", make_experiment(datasets=datasets))

                async def looked(rounds: list[int] = rounds) -> bool:
                    looks = [trial for trial in await team.trials() if "-pre-" in trial.name]
                    ended = all(has_ended(look.status) for look in looks)
                    return ended and sorted(look.spec["preflight"]["round"] for look in looks) == rounds

                await team.until(looked)
            await team.until_reason("Completed", seconds=120)


async def test_a_foreign_job_of_that_name(lab: Lab, team: Team) -> None:
    """It is left alone, and the trial says what is in the way."""
    template = {"spec": {"containers": [{"name": "pytorch", "image": "x"}]}}
    await team.create(Kind.JOB, "look-1", {"pytorchReplicaSpecs": {"Master": {"template": template}}})
    await team.create(Kind.TRIAL, "look", LOOK)
    with lab.operator(team.namespace):

        async def told() -> bool:
            return (await team.condition(Kind.TRIAL, "look", "Stalled")).get("reason") == "NameTaken"

        await team.until(told)
    assert await team.get(Kind.JOB, "look-1") is not None
