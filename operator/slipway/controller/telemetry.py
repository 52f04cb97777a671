"""Prometheus metrics by controller-runtime's names, so that dashboards made for it fit."""

from __future__ import annotations

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
    """The metrics of one operator; hears of the queue (queue.Watched), of turns (loop.Timed) and of calls."""

    def __init__(self, host: str, lease: str) -> None:
        """host: the API server's. lease: the Lease's name."""
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._turns = Counter(
            "controller_runtime_reconcile", "Reconciliations.", ["controller", "result"], registry=registry
        )
        self._turn_seconds = Histogram(
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

    def exposed(self) -> bytes:
        """All metrics in the text format."""
        return generate_latest(self.registry)

    def called(self, method: str, code: int) -> None:
        self._calls.labels(str(code), method, self._host).inc()

    def leading(self, leads: bool) -> None:
        self._leads.set(leads)

    def reconciled(self, key: Key, result: Result, seconds: float) -> None:
        self._turns.labels(_name(key), result).inc()
        self._turn_seconds.labels(_name(key)).observe(seconds)

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
