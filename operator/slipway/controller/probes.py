"""What the kubelet and Prometheus ask over HTTP: /healthz, /readyz, /metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import web

from slipway.controller.telemetry import Telemetry


@asynccontextmanager
async def served(
    telemetry: Telemetry, ready: Callable[[], bool], *, host: str | None, metrics_port: int, health_port: int
) -> AsyncIterator[None]:
    """Serve until the block ends. ready: whether the caches are filled; a standby is ready too. host: None for all.

    An answer to /healthz comes from the event loop that does all the work, so a stuck one gives none.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok") if ready() else web.Response(text="the caches are not filled yet", status=503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=telemetry.exposed(), headers={"Content-Type": "text/plain; version=0.0.4"})

    routes = {
        health_port: [web.get("/healthz", healthz), web.get("/readyz", readyz)],
        metrics_port: [web.get("/metrics", metrics)],
    }
    async with AsyncExitStack() as stack:
        for port, shown in routes.items():
            app = web.Application()
            app.add_routes(shown)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, host, port).start()
        yield
