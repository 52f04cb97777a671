"""Metrics, logs and health endpoints of the operator process.

Metrics have controller-runtime's names, so that dashboards made for it fit.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Literal

import structlog
from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from slipway.api.kinds import Key
from slipway.reconcile.loop import Result

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)


class Telemetry:
    """The metrics of one operator: its queue (QueueMetrics), its reconciles (ReconcileMetrics) and its calls."""

    def __init__(self, host: str, lease: str) -> None:
        """host: the API server's. lease: the Lease's name."""
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._reconciles = Counter(
            "controller_runtime_reconcile", "Reconciliations.", ["controller", "result"], registry=registry
        )
        self._reconcile_seconds = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "Length of a reconciliation.",
            ["controller"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._held = Counter(
            "slipway_loop_held",
            "Plans that held the one loop longer than a second; the log names the resource.",
            ["controller"],
            registry=registry,
        )
        self._depth = Gauge("workqueue_depth", "Keys that wait for a worker.", ["name"], registry=registry)
        self._adds = Counter("workqueue_adds", "Keys added.", ["name"], registry=registry)
        self._retries = Counter("workqueue_retries", "Keys added again after a failure.", ["name"], registry=registry)
        self._waited = Histogram(
            "workqueue_queue_duration_seconds",
            "How long a key waited for a worker.",
            ["name"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._worked = Histogram(
            "workqueue_work_duration_seconds",
            "How long a worker had a key.",
            ["name"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._calls = Counter(
            "rest_client_requests",
            "Calls of the API server; code 0 where no answer came.",
            ["code", "method", "host"],
            registry=registry,
        )
        self._leads = Gauge(
            "leader_election_master_status", "1 while this process leads.", ["name"], registry=registry
        ).labels(lease)
        self._host = host

    def render(self) -> bytes:
        """Return all metrics in the text format."""
        return generate_latest(self.registry)

    def called(self, method: str, code: int) -> None:
        self._calls.labels(str(code), method, self._host).inc()

    def leading(self, leads: bool) -> None:
        self._leads.set(leads)

    def reconciled(self, key: Key, result: Result, seconds: float) -> None:
        self._reconciles.labels(_name(key), result).inc()
        self._reconcile_seconds.labels(_name(key)).observe(seconds)

    def held(self, key: Key, _seconds: float) -> None:
        self._held.labels(_name(key)).inc()

    def added(self, key: Key) -> None:
        self._adds.labels(_name(key)).inc()
        self._depth.labels(_name(key)).inc()

    def taken(self, key: Key, waited_seconds: float) -> None:
        self._depth.labels(_name(key)).dec()
        self._waited.labels(_name(key)).observe(waited_seconds)

    def done(self, key: Key, worked_seconds: float) -> None:
        self._worked.labels(_name(key)).observe(worked_seconds)

    def retried(self, key: Key) -> None:
        self._retries.labels(_name(key)).inc()


def _name(key: Key) -> str:
    return key.kind.kind.lower()


def configure_logs(format_: Literal["json", "console"], level: str) -> None:
    """Send all logs of the process to standard error. level: debug, info, warning or error."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if format_ == "json":
        shown: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback  # the default one shows local variables, tokens among them
        shown = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    structlog.configure(
        processors=[*shared[:2], shared[3], *shown],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *shown]
        )
    )
    logging.basicConfig(handlers=[handler], level=number, force=True)
    # kopf logs every event at INFO, and every lost connection, which it opens again itself, at ERROR.
    logging.getLogger("kopf").setLevel(max(number, logging.WARNING))
    logging.getLogger("asyncio").setLevel(max(number, logging.WARNING))


@asynccontextmanager
async def serve_endpoints(
    telemetry: Telemetry, ready: Callable[[], bool], *, host: str | None, metrics_port: int, health_port: int
) -> AsyncIterator[None]:
    """Serve until the block ends. ready: whether the caches are filled, of a standby too. host: None for all addresses.

    The event loop that does all the work answers /healthz, so a blocked loop fails its liveness probe.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok") if ready() else web.Response(text="the caches are not filled yet", status=503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=telemetry.render(), headers={"Content-Type": "text/plain; version=0.0.4"})

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
