"""What lies in the artifact store, and what does not, on a real S3."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cluster.harness import Lab, Team, kubelet
from cpt_api.digest import trial_digest
from cpt_api.layout import result_key
from cpt_api.trial import CPTTrialSpec
from cpt_operator.kinds import Kind
from make import make_experiment, make_result


def look(uri: str) -> dict[str, Any]:
    """A Preflight that a person wrote."""
    return {"type": "Preflight", "preflight": {"inputs": [{"name": "corpus", "kind": "Dataset", "uri": uri}]}}


async def test_planted_results_are_not_believed(lab: Lab, team: Team) -> None:
    """Foreign inputs, another type, a megabyte, NaN, no JSON: none of them ends a trial, none gets a pod."""
    plants: dict[str, Any] = {}
    for name in ("foreign", "type", "megabyte", "nan", "garbage"):
        spec = look(f"s3://cpt/{name}")
        await team.create(Kind.TRIAL, name, spec)
        parsed = CPTTrialSpec.model_validate(spec)
        key = result_key(team.namespace, trial_digest(parsed))
        plants[key] = planted(name, make_result(parsed).to_dict())
    for key, document in plants.items():
        await asyncio.to_thread(lab.store.put, key, document)
    with lab.operator(team.namespace):

        async def all_stalled() -> bool:
            reasons = [t.status.get("conditions", [{}])[0].get("reason") for t in await team.trials()]
            return reasons == ["ResultInvalid"] * len(plants)

        await team.until(all_stalled)
    assert await team.jobs() == []


def planted(name: str, document: dict[str, Any]) -> Any:
    match name:
        case "foreign":
            return document | {"inputs": ["0" * 64]}
        case "type":
            return document | {"type": "Train"}
        case "megabyte":
            return document | {"sentence": "x" * 1_000_000}
        case "nan":
            return str(document | {"gpuSeconds": float("nan")}).replace("'", '"').replace("nan", "NaN").encode()
        case _:
            return b"\x80garbage"


@pytest.mark.parametrize("keys", [("operator", "wrong"), ("stranger", "wrong")])
async def test_wrong_credentials(lab: Lab, team: Team, keys: tuple[str, str]) -> None:
    """Stalled with the reason, the store is left in peace, and right ones cure it."""
    with lab.operator(team.namespace, keys=keys) as process:
        await team.apply("sweep", make_experiment())

        async def stalled() -> bool:
            return (await team.condition(Kind.EXPERIMENT, "sweep", "Stalled")).get("reason") == "StoreRefused"

        await team.until(stalled)
        before = len(team.requests())
        gets = await asyncio.to_thread(process.metric, "cpt_s3_request_seconds_count")
        await asyncio.sleep(5)  # nothing is what must happen
        assert await asyncio.to_thread(process.metric, "cpt_s3_request_seconds_count") - gets <= 3
        assert not [r for r in team.requests()[before:] if r.is_write and r.resource != "leases"]
    with lab.operator(team.namespace):
        async with kubelet(team):
            await team.until_reason("Completed")
