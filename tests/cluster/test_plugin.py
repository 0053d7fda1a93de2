"""`kubectl cpt` against a real API server and a real operator: what people do, and what they are told."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cluster.harness import Lab, Team, commits, document_of, kubelet
from cluster.seaweed import ADMIN, BUCKET
from cpt_api.layout import data_prefix
from cpt_api.result import Result
from cpt_api.trial import TrialDocument, TrialType
from cpt_api.values import Digest
from cpt_local import programs
from cpt_operator.kinds import Kind
from cpt_operator.records import TrialRecord
from kubectl_cpt.errors import Exit
from make import make_experiment


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str


async def cpt(team: Team, *arguments: str, **environment: str) -> Said:
    """`kubectl cpt` in the team's namespace."""
    flags = [f"--kubeconfig={team.lab.plane.kubeconfig}", f"--namespace={team.namespace}"]
    path = f"{programs.folder('kubernetes')}:{os.environ['PATH']}"

    def run() -> Said:
        done = subprocess.run(
            [sys.executable, "-m", "kubectl_cpt.main", *arguments, *flags],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": path, **environment},
        )
        return Said(done.returncode, done.stdout, done.stderr)

    return await asyncio.to_thread(run)


def all_but(type_: TrialType) -> Any:
    """A kubelet on which trials of that type never end."""

    def commit(document: TrialDocument) -> Result | None:
        return None if document.spec.type is type_ else commits(document)

    return commit


async def one(team: Team, type_: TrialType) -> TrialRecord:
    """The only trial of that type."""
    (found,) = [trial for trial in await team.trials("sweep") if trial.spec["type"] == type_]
    return found


class TestFinished:
    """What is shown of an experiment that has an answer."""

    async def test_status_and_wait(self, lab: Lab, team: Team) -> None:
        """The table for people, documents for programs, and exit code 0."""
        with lab.operator(team.namespace):
            async with kubelet(team):
                await team.apply("sweep", make_experiment())
                waited = await cpt(team, "wait", "sweep", "--for=succeeded", "--timeout=90s")
                assert waited.code == Exit.SUCCESS, waited.err
                assert waited.out == "cptexperiment.cpt.dev/sweep succeeded\n"
        shown = await cpt(team, "status", "sweep", "-o", "wide")
        assert shown.code == Exit.SUCCESS, shown.err
        assert shown.out.startswith("sweep: Completed, 24 of 24 trials, 100 %\n")
        assert "python   Chosen   1e-4" in shown.out
        assert "control 1e-4 seed 0 trunk @ 8192" in shown.out
        document = json.loads((await cpt(team, "status", "sweep", "-o", "json")).out)
        assert len(document["trials"]) == 24
        assert document == yaml.safe_load((await cpt(team, "status", "sweep", "-o", "yaml")).out)
        watched = await cpt(team, "status", "sweep", "--watch")
        assert watched.out.startswith("sweep: Completed")
        for command in ("retry", "cancel"):
            refused = await cpt(team, command, "sweep")
            assert refused.code == Exit.FAILED
            assert "nothing to retry" in refused.err or "is an experiment" in refused.err


class TestActing:
    """Every command changes what it says and nothing else."""

    async def test_suspend_and_resume(self, lab: Lab, team: Team) -> None:
        """The field is the user's: set, then gone again."""
        with lab.operator(team.namespace):
            await team.apply("sweep", make_experiment())
            assert (await cpt(team, "suspend", "sweep")).out == "cptexperiment.cpt.dev/sweep suspended\n"
            await team.until_reason("Suspended")
            assert "next: `kubectl cpt resume sweep`" in (await cpt(team, "status", "sweep")).out
            assert (await cpt(team, "resume", "sweep")).out == "cptexperiment.cpt.dev/sweep resumed\n"
        body = await team.get(Kind.EXPERIMENT, "sweep")
        assert body is not None
        assert "suspend" not in body["spec"]

    async def test_retry(self, lab: Lab, team: Team) -> None:
        """A trial that failed for good is shown with its reason, and made anew; then the experiment succeeds."""
        with lab.operator(team.namespace):
            async with kubelet(team, all_but(TrialType.EVALUATE)) as node:
                await team.apply("sweep", make_experiment())

                async def failed() -> bool:
                    for job in await team.bodies(Kind.JOB):
                        if document_of(job).spec.type is TrialType.EVALUATE and not job.get("status", {}).get(
                            "conditions"
                        ):
                            await node.end(
                                job["metadata"]["name"], 3, '{"reason": "ConfigError", "message": "bad luck"}'
                            )
                    return "bad luck" in (await cpt(team, "status", "sweep")).out

                await team.until(failed)
                node.commit = commits
                name = (await one(team, TrialType.EVALUATE)).name
                shown = (await cpt(team, "status", "sweep")).out
                assert f"next: `kubectl cpt logs {name}`" in shown
                again = await cpt(team, "retry", "sweep")
                assert again.out == f"cpttrial.cpt.dev/{name} will be made anew\n", again.err
                assert (await cpt(team, "wait", "sweep", "--timeout=90s")).code == Exit.SUCCESS

    async def test_cancel(self, lab: Lab, team: Team) -> None:
        """The trial ends for good, and a second cancel has nothing to do."""
        with lab.operator(team.namespace):
            await team.apply("sweep", make_experiment())
            await team.until(lambda: has_trial(team))
            name = (await one(team, TrialType.PREFLIGHT)).name
            assert (await cpt(team, "cancel", f"sweep/{name}")).out == f"cpttrial.cpt.dev/{name} cancelled\n"
            waited = await cpt(team, "wait", "sweep", "--timeout=60s")
            assert waited.code == Exit.FAILED
            assert "run.cancel was set" in waited.err
            assert "nothing to cancel" in (await cpt(team, "cancel", name)).err

    async def test_retry_of_a_trial_by_hand(self, lab: Lab, team: Team) -> None:
        """Nobody else would make it anew, so the command does, as it was written."""
        with lab.operator(team.namespace):
            inputs = {"inputs": [{"name": "a", "kind": "Dataset", "uri": "s3://cpt/a.jsonl"}]}
            await team.create(Kind.TRIAL, "look", {"type": "Preflight", "preflight": inputs}, labels={"team": "x"})
            assert (await cpt(team, "cancel", "look")).code == Exit.SUCCESS
            await team.until(lambda: has_failed(team, "look"))
            before = await team.get(Kind.TRIAL, "look")
            assert (await cpt(team, "retry", "look")).code == Exit.SUCCESS
            after = await team.get(Kind.TRIAL, "look")
        assert before is not None
        assert after is not None
        assert before["metadata"]["uid"] != after["metadata"]["uid"]
        assert after["metadata"]["labels"] == {"team": "x"}
        assert after["spec"]["preflight"] == before["spec"]["preflight"]
        assert "cancel" not in after["spec"].get("run", {})


async def has_trial(team: Team) -> bool:
    return bool(await team.trials("sweep"))


async def has_failed(team: Team, name: str) -> bool:
    return (await team.condition(Kind.TRIAL, name, "Succeeded")).get("status") == "False"


class TestLive:
    """`plan --live`: what applying a manifest would change."""

    async def test_against_the_live_object(self, team: Team, tmp_path: Path) -> None:
        """Added, changed, refused, or nothing at all; an object that is not there yet has no changes."""
        spec = make_experiment().to_dict()
        body = {"apiVersion": "cpt.dev/v1alpha1", "kind": "CPTExperiment", "metadata": {"name": "sweep"}}
        file = tmp_path / "sweep.yaml"

        async def planned(**changes: Any) -> list[str] | None:
            file.write_text(json.dumps(body | {"spec": spec | changes}))
            said = await cpt(team, "plan", "-f", str(file), "--live", "-o", "json")
            assert said.code == Exit.SUCCESS, said.err
            found: list[str] | None = json.loads(said.out)["experiments"][0].get("changes")
            return found

        assert await planned() is None
        await team.apply("sweep", make_experiment())
        assert await planned() == []
        assert await planned(
            datasets=[*spec["datasets"], {"name": "sql", "uri": "s3://cpt/sql.jsonl"}],
            training=spec["training"] | {"seed": 1},
        ) == ["+ datasets[sql]", "! training.seed: 1 (immutable)"]


class TestTold:
    """Errors say what to do."""

    async def test_a_wrong_name(self, team: Team) -> None:
        """The names that exist are listed."""
        await team.apply("sweep", make_experiment())
        for command in ("status", "wait"):
            said = await cpt(team, command, "sweeep")
            assert said.code == Exit.FAILED
            assert "there is no CPTExperiment 'sweeep' in this namespace (there are: sweep)" in said.err
        assert "neither a CPTExperiment nor a CPTTrial 'x'" in (await cpt(team, "suspend", "x")).err

    async def test_nobody_looks_at_it(self, team: Team) -> None:
        """Without an operator the status says how to find out, and a wait ends with code 6."""
        await team.apply("sweep", make_experiment())
        assert "does the operator run?" in (await cpt(team, "status", "sweep")).out
        waited = await cpt(team, "wait", "sweep", "--timeout=1s")
        assert waited.code == Exit.TIMED_OUT

    async def test_logs_of_pods_that_are_gone(self, lab: Lab, team: Team) -> None:
        """They lie in the store; without its name the command asks for it."""
        digest = Digest("ab" * 32)
        inputs = {"inputs": [{"name": "a", "kind": "Dataset", "uri": "s3://cpt/a.jsonl"}]}
        await team.create(Kind.TRIAL, "look", {"type": "Preflight", "preflight": inputs})
        status = {"op": "add", "path": "/status", "value": {"digest": digest, "conditions": []}}
        await team.patch(Kind.TRIAL, "look", status, part="/status")
        assert "--store s3://BUCKET" in (await cpt(team, "logs", "look")).err
        key = f"{data_prefix(team.namespace, digest)}logs/attempt-1-rank-0.log"
        await asyncio.to_thread(lab.store.put, key, {"said": "something"})
        keys = {"AWS_ACCESS_KEY_ID": ADMIN[0], "AWS_SECRET_ACCESS_KEY": ADMIN[1]}
        found = await cpt(
            team, "logs", "look", "--store", f"s3://{BUCKET}", AWS_ENDPOINT_URL_S3=lab.store.endpoint, **keys
        )
        assert found.code == Exit.SUCCESS, found.err
        assert found.out.startswith("--- attempt-1-rank-0.log\n")
        assert "something" in found.out

    async def test_another_context(self, team: Team) -> None:
        """kubectl's own words reach the user."""
        said = await cpt(team, "status", "sweep", "--context=nowhere")
        assert said.code == Exit.FAILED
        assert 'context "nowhere" does not exist' in said.err
