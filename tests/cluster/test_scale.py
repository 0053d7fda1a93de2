"""A big experiment."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from cluster.harness import Lab, Team, kubelet
from cluster.test_sharing import never_trains
from cpt_operator.kinds import Kind
from cpt_operator.standing import reason_of
from make import make_experiment


async def test_200_trials(lab: Lab, team: Team) -> None:
    """Each is made once and told once what it waits for; the operator stays small."""
    datasets = [{"name": f"d{i}", "uri": f"s3://cpt/sources/d{i}"} for i in range(20)]
    rates = {"learningRates": ["1e-5", "3e-5", "1e-4", "3e-4"], "rungs": ["10240"]}
    changes = {"datasets": datasets, "recipe": {"learningRateSweep": rates}, "scheduling": {"parallelTrials": 8}}
    with lab.operator(team.namespace) as process:
        async with kubelet(team, never_trains):
            await team.apply("sweep", make_experiment(**changes))

            async def expanding() -> bool:
                return len(await team.trials()) > 1

            async def expanded() -> bool:
                total = (await team.status()).get("trials", {}).get("total", 0)
                return bool(total == 200 and len(await team.trials()) == total)

            await team.until(expanding)
            began = time.monotonic()
            await team.until(expanded, 120)
            seconds = time.monotonic() - began

            async def told() -> bool:
                return all(reason_of(trial.status) for trial in await team.trials())

            await team.until(told, 120)
            resident = await asyncio.to_thread(process.metric, "process_resident_memory_bytes")
    trials = len(await team.trials())
    print(f"\n{trials} trials made in {seconds:.1f} s; the operator has {resident / 2**20:.0f} MiB")  # noqa: T201 - the figure is what people ask for
    assert set(team.made(Kind.TRIAL).values()) == {1}
    writes = Counter(r.name for r in team.requests() if r.is_write and r.name != "sweep")
    assert max(writes.values()) <= 6
    assert resident <= 120 * 2**20
