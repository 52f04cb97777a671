"""The operator process: it watches, fills caches, wins the Lease and reconciles, until a signal or a defect.

    kopf's watches -> Feed -> Cache, WorkQueue -> workers -> planners -> Executor -> the API server

A standby does all but reconcile, so a new leader starts with warm caches.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Literal
from uuid import uuid4

import kopf
import structlog
import uvloop

from slipway.api.errors import ClusterError
from slipway.api.kinds import GROUP, VERSION, WATCHED, Kind
from slipway.cluster.apiserver import ApiServer
from slipway.cluster.connection import Connection
from slipway.cluster.port import Cluster
from slipway.controller import watches
from slipway.controller.defaults import keep_applied, read_defaults
from slipway.controller.lease import Election, LeaderFenced
from slipway.controller.telemetry import Telemetry, configure_logs, serve_endpoints
from slipway.controller.watches import Lists, Scope
from slipway.plan.plan import Settings
from slipway.reconcile.cache import Cache
from slipway.reconcile.execute import Executor
from slipway.reconcile.feed import Feed
from slipway.reconcile.log import structured_log
from slipway.reconcile.loop import Planner, Reconciler, run_workers
from slipway.reconcile.queue import WorkQueue
from slipway.reconcile.watchdog import Watchdog

log = structlog.get_logger(__name__)

Wrapper = Callable[[Cluster], Cluster]

CRDS_SECONDS = 2.0
"""Interval of looks for our CRDs, which may be installed together with the operator."""
GRACE_SECONDS = 10.0
"""Time for workers to finish after SIGTERM; the pod's own grace period is 30 s."""
LEASE_LOST = 3
"""Exit code of a process that has lost the Lease; it ends at once, without another call."""


def run_operator(
    options: Options, *, planners: Mapping[Kind, Planner] | None = None, cluster_wrapper: Wrapper | None = None
) -> int:
    """Run until SIGTERM or SIGINT (0) or a defect (1); a lost Lease ends the process at once (LEASE_LOST).

    planners: by kind; None for Slipway's own. cluster_wrapper: wraps the port, for tests that count or fail calls.
    """
    configure_logs(options.log_format, options.log_level)
    if planners is None:
        from slipway.reconcile.planners import PLANNERS  # pydantic's models of all kinds

        planners = PLANNERS
    gc.freeze()  # 90,000 objects of modules live as long as the process: every full collection would walk them
    try:
        return uvloop.run(_operate(options, planners, cluster_wrapper or (lambda cluster: cluster)))
    except (ClusterError, ValueError) as error:
        log.error("cannot start the operator", error=str(error))  # noqa: TRY400 - the message is enough; a traceback adds nothing
        return 1


async def _operate(options: Options, planners: Mapping[Kind, Planner], wrapper: Wrapper) -> int:
    defaults = read_defaults(options.defaults) if options.defaults else []
    async with await Connection.open() as connection:
        telemetry = Telemetry(connection.host, options.lease_name)
        connection.on_answer = telemetry.called
        api = ApiServer(connection)
        election = Election(api, options.lease_namespace, options.lease_name, options.identity, monotonic, _now)
        cluster = wrapper(LeaderFenced(api, lambda: election.holds) if options.elect else api)
        cache = Cache()
        queue = WorkQueue(monotonic, metrics=telemetry)
        feed = Feed(cache, queue, planners)
        lists = Lists(api, cache, feed, _watched_scopes(options.namespaces))
        log = structured_log()
        watchdog = Watchdog(slow=telemetry.held, log=log)
        reconciler = Reconciler(
            planners,
            options.settings,
            cache,
            Executor(cluster, cache, options.identity, log=log),
            queue,
            _now,
            telemetry,
            watchdog,
            log,
        )

        async def lead() -> None:
            await lists.wait_until_filled()
            gc.collect()
            gc.freeze()  # likewise the cache; it has no cycles, so what leaves it is freed anyway
            if options.elect:
                await election.acquire()
            telemetry.leading(True)
            feed.lead()
            watchdog.start()
            await asyncio.gather(
                run_workers(reconciler, options.workers),
                *(keep_applied(manifest, cluster) for manifest in defaults),
                *([_keep_lease_or_exit(election)] if options.elect else []),
            )

        async with serve_endpoints(
            telemetry,
            lambda: lists.filled,
            host=options.host,
            metrics_port=options.metrics_port,
            health_port=options.health_port,
        ):
            stop = _stop_on_signal()
            ended = asyncio.create_task(stop.wait())
            leading = asyncio.create_task(lead())
            tasks = [
                ended,
                leading,
                asyncio.create_task(_watch(options, connection, feed, lists, stop)),
                asyncio.create_task(lists.run()),
                asyncio.create_task(lists.resync(options.resync_seconds)),
                asyncio.create_task(lists.revisit_unmanaged(options.revisit_seconds)),
            ]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            log.info("stopping")
            queue.close()
            if leading not in done and election.holds:
                with suppress(TimeoutError):
                    await asyncio.wait_for(_wait_until_idle(queue), GRACE_SECONDS)
            await election.release()
            outcome = _exit_code(ended, tasks)
            # Cancel only our own tasks; kopf then ends its own in order. asyncio.run cancels all at once, and kopf's
            # watchers would wait for ever for tasks that are already cancelled.
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            return outcome


async def _watch(options: Options, connection: Connection, feed: Feed, lists: Lists, stop: asyncio.Event) -> None:
    """Run kopf's watches, once our CRDs exist; return when one of them fails for good."""
    await _wait_for_crds(connection)
    tasks = await kopf.spawn_tasks(
        registry=watches.build_registry(feed, lambda: watches.open_session(connection, lists.want)),
        settings=watches.build_settings(),
        clusterwide=not options.namespaces,
        namespaces=options.namespaces,
    )
    _set_on_signals(
        stop
    )  # kopf has just replaced them; workers end first, and the Lease is released before watches end
    ignored = asyncio.all_tasks() - set(tasks)
    await kopf.run_tasks(tasks, ignored=ignored)


async def _wait_for_crds(connection: Connection) -> None:
    wanted = {kind.plural for kind in WATCHED if kind.group == GROUP}
    while True:
        try:
            found = await connection.call("find the kinds of Slipway", "GET", f"/apis/{GROUP}/{VERSION}")
            missing = sorted(wanted - {resource["name"] for resource in found["resources"]})
        except ClusterError as error:
            missing = [str(error)]
        if not missing:
            return
        log.warning("CRDs are missing; install them with the chart or from crds/", missing=missing)
        await asyncio.sleep(CRDS_SECONDS)


async def _keep_lease_or_exit(election: Election) -> None:
    await election.keep()
    log.error("lost the Lease; the process ends now")
    sys.stderr.flush()
    os._exit(LEASE_LOST)


async def _wait_until_idle(queue: WorkQueue) -> None:
    while queue.working:
        await asyncio.sleep(0.02)


def _exit_code(ended: asyncio.Task[Any], tasks: list[asyncio.Task[Any]]) -> int:
    """Return 0 after a signal; otherwise 1, with the reason in the log."""
    if ended.done():
        return 0
    for task in tasks:
        if task.done() and not task.cancelled():
            log.error("a task of the operator ended unexpectedly", part=str(task.get_coro()), exc_info=task.exception())
    return 1


def _stop_on_signal() -> asyncio.Event:
    stop = asyncio.Event()
    _set_on_signals(stop)
    return stop


def _set_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def _watched_scopes(namespaces: tuple[str, ...]) -> list[Scope]:
    return [
        Scope(kind, namespace if kind.namespaced else None) for kind in WATCHED for namespace in namespaces or (None,)
    ]


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the clock of the whole operator


NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def own_namespace() -> str:
    """Return the namespace that this process runs in; `default` outside a cluster."""
    if namespace := os.environ.get("POD_NAMESPACE"):
        return namespace
    return NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.exists() else "default"


def own_identity() -> str:
    """Return the Lease's holder: pod or host name, and a random part, as a restarted pod keeps its name."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid4().hex[:8]}"


@dataclass(frozen=True, slots=True)
class Options:
    """Options of one operator process.

    namespaces: those to serve; none means all. workers: resources that are reconciled at the same time.
    host: address of the endpoints for probes and metrics; None for all addresses, IPv6 as well.
    defaults: a folder of manifests (*.yaml) that the leader applies (see defaults.py); None for none.
    resync_seconds: interval of comparing the cache with lists of the API server.
    revisit_seconds: interval of reading foreign objects with a name of ours, which no watch shows.
    """

    settings: Settings
    namespaces: tuple[str, ...] = ()
    workers: int = 8
    elect: bool = True
    lease_namespace: str = field(default_factory=own_namespace)
    lease_name: str = "slipway-operator"
    identity: str = field(default_factory=own_identity)
    host: str | None = None
    metrics_port: int = 9090
    health_port: int = 8080
    log_format: Literal["json", "console"] = "json"
    log_level: str = "info"
    defaults: Path | None = None
    resync_seconds: float = 600.0
    revisit_seconds: float = 30.0
