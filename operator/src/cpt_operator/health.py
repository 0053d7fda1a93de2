"""/healthz, /readyz and /metrics on one port.

/healthz  200 while the event loop turns. Never a restart because the API server is away: that cures nothing
/readyz   200 when the store is complete, or as a standby; else 503 and what is waited for
/metrics  computed at scrape time
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

METRICS_TYPE = "text/plain; version=0.0.4"


class Health:
    """What the endpoints answer."""

    def __init__(self, metrics: Callable[[], bytes]) -> None:
        self._metrics = metrics
        self._waits_for: str | None = "the process starts"

    def waits_for(self, what: str | None) -> None:
        """Until when it is not ready; None: it is."""
        self._waits_for = what

    @asynccontextmanager
    async def serving(self, host: str | None, port: int) -> AsyncIterator[int]:
        """Serve while inside; the port, which the system chose if 0 was asked for."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._scrape)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
            yield int(runner.addresses[0][1])
        finally:
            await runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        if self._waits_for is None:
            return web.Response(text="ok\n")
        return web.Response(status=503, text=f"{self._waits_for}\n")

    async def _scrape(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), headers={"Content-Type": METRICS_TYPE})
