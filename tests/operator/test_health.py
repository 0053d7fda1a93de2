"""/healthz, /readyz and /metrics, over real HTTP."""

from __future__ import annotations

import aiohttp

from cpt_operator.health import Health


async def get(port: int, path: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text(), answer.headers["Content-Type"]


async def test_not_ready_says_why() -> None:
    """It is alive meanwhile."""
    health = Health(lambda: b"")
    async with health.serving("127.0.0.1", 0) as port:
        health.waits_for("the first LIST is not complete")
        assert await get(port, "/readyz") == (503, "the first LIST is not complete\n", "text/plain; charset=utf-8")
        assert (await get(port, "/healthz"))[0] == 200
        health.waits_for(None)
        assert (await get(port, "/readyz"))[0] == 200


async def test_metrics_are_computed_at_scrape_time() -> None:
    """In the type that Prometheus expects."""
    scrapes = iter([b"a 1\n", b"a 2\n"])
    health = Health(lambda: next(scrapes))
    async with health.serving("127.0.0.1", 0) as port:
        assert await get(port, "/metrics") == (200, "a 1\n", "text/plain; version=0.0.4")
        assert (await get(port, "/metrics"))[1] == "a 2\n"
