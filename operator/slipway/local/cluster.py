"""The operator's loop and the stand-ins for Kubernetes, over one twin, in real time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic

from slipway.api.kinds import ARTIFACT_STORE, DEPLOYMENT, JOB, POD, SERVICE, WATCHED, Key, Kind, Object, key_of, kind_of
from slipway.cluster.twin import Twin, WatchEvent
from slipway.local import controllers, snapshot
from slipway.local.environment import Sources
from slipway.local.images import Images
from slipway.local.kubelet import Devices, Kubelet, count_devices
from slipway.local.network import HOST, Proxy, Target, is_headless, list_targets
from slipway.local.snapshot import write_run_info
from slipway.local.state import StateFolder
from slipway.plan.jobs.outcomes import is_over
from slipway.plan.observation import Observation, controller_uid
from slipway.plan.plan import Plan
from slipway.reconcile.cache import Cache
from slipway.reconcile.execute import Executor
from slipway.reconcile.feed import Feed
from slipway.reconcile.log import structured_log
from slipway.reconcile.loop import Planner, Reconciler, run_workers
from slipway.reconcile.planners import PLANNERS
from slipway.reconcile.queue import WorkQueue
from slipway.reconcile.references import is_foreign, user_resource_of

WORKERS = 4
RESYNC_SECONDS = 5.0
"""Interval of a look without a change: deadlines of Deployments and Jobs pass by time alone."""
IDLE_SECONDS = 0.02
"""Interval of looks at a queue that is to become empty."""


def now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - here the clock comes in


@dataclass
class LocalCluster:
    """A running local cluster.

    active: the resources that this run works on; others of the state folder stay as they are.
    addresses: `127.0.0.1:8000` by (Service, name of the port).
    """

    twin: Twin
    state: StateFolder
    images: Images
    kubelet: Kubelet
    active: Collection[Key]
    addresses: dict[tuple[Key, str], str] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _proxies: dict[tuple[Key, str], Proxy] = field(default_factory=dict)
    _announced: bool = False

    def wake(self) -> None:
        """Reconcile everything soon: something may have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Stand in for Kubernetes until cancelled. Raises StateError if the state cannot be saved."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(RESYNC_SECONDS):
                    await self._changed.wait()
            self._changed.clear()
            await self._reconcile()
            snapshot.save(self.twin, self.state.objects)

    def announce(self) -> None:
        """Write run.json for other processes, once all objects are planned by this run. Raises StateError."""
        self._announced = True
        snapshot.save(self.twin, self.state.objects)
        write_run_info(self.state, os.getpid(), self.active, self.addresses)

    async def close(self) -> None:
        """End all processes in order, and save the objects."""
        await asyncio.gather(*(proxy.close() for proxy in self._proxies.values()))
        await self.kubelet.shut_down()
        snapshot.save(self.twin, self.state.objects)

    # --- Inside -------------------------------------------------------------------------------------------------

    async def _reconcile(self) -> None:
        pods = list(await self.twin.list(POD))
        for job in await self.twin.list(JOB):
            if self._is_active(job) and not is_over(job):
                self._execute(job, controllers.sync_job(job, _select_owned(pods, job), now()))
        for deployment in await self.twin.list(DEPLOYMENT):
            if self._is_active(deployment):
                self._execute(
                    deployment, controllers.sync_deployment(deployment, _select_owned(pods, deployment), now())
                )
        await self.kubelet.sync_pods(list(await self.twin.list(POD)))
        await self._sync_proxies([service for service in await self.twin.list(SERVICE) if self._is_active(service)])

    def _is_active(self, obj: Object) -> bool:
        return _is_active(obj, self.active)

    def _execute(self, owner: Object, writes: controllers.JobWrites | controllers.DeploymentWrites) -> None:
        for pod in writes.create:
            self.twin.add(pod)
        for pod in writes.delete:
            self.twin.remove(key_of(pod))
        self.twin.edit(key_of(owner), lambda obj: obj.update(status=writes.status))

    async def _sync_proxies(self, services: list[Object]) -> None:
        """Open a port of this machine for each port of each Service, and close those of deleted ones."""
        wanted = {
            (key_of(service), port["name"]): port["port"]
            for service in services
            if not is_headless(service)
            for port in service["spec"]["ports"]
        }
        before = dict(self.addresses)
        for place in self._proxies.keys() - wanted.keys():
            await self._proxies.pop(place).close()
            del self.addresses[place]
        for place in [place for place in wanted if place not in self._proxies]:
            proxy = Proxy(lambda place=place: self._targets(*place))  # type: ignore[misc]
            self._proxies[place] = proxy
            self.addresses[place] = f"{HOST}:{await proxy.listen(wanted[place])}"
        if self._announced and self.addresses != before:
            write_run_info(self.state, os.getpid(), self.active, self.addresses)

    async def _targets(self, key: Key, name: str) -> list[Target]:
        service = await self.twin.get(key)
        port = next(one for one in service["spec"]["ports"] if one["name"] == name)
        return list_targets(service, port, await self.twin.list(POD))


def _select_owned(pods: list[Object], owner: Object) -> list[Object]:
    return [pod for pod in pods if controller_uid(pod) == owner["metadata"]["uid"]]


@asynccontextmanager
async def run_local_cluster(
    twin: Twin, state: StateFolder, images: Images, sources: Sources, block: str, active: Collection[Key]
) -> AsyncIterator[LocalCluster]:
    """Run the loop and the stand-ins until the block ends; then every process has ended.

    Raises the error that ended one of them before: StateError, or a defect.
    """
    kubelet = Kubelet(twin, state, images, sources, block, Devices(count_devices()), now)
    cluster = LocalCluster(twin, state, images, kubelet, active)
    cache, queue = Cache(), WorkQueue(monotonic)
    planners = {kind: _plan_active_only(planner, active) for kind, planner in PLANNERS.items()}
    feed = Feed(cache, queue, planners)
    watches = TwinWatches(cache, feed)
    log = structured_log()
    executor = Executor(twin, cache, "slipway-run", log=log)
    reconciler = Reconciler(planners, images.settings, cache, executor, queue, now, log=log)
    await watches.relist(twin.list)
    twin.subscribe(lambda change: watches.on_changes((change,)))
    twin.subscribe(lambda _change: cluster.wake())
    feed.lead()
    cluster.wake()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run_workers(reconciler, WORKERS)), group.create_task(cluster.run())]
            try:
                # Until the first plans are made, the status of objects is that of an earlier run.
                await _wait_until_idle(queue)
                cluster.announce()
                yield cluster
            finally:
                queue.close()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await cluster.close()
    except BaseExceptionGroup as several:
        raise _first_error(several) from several


async def _wait_until_idle(queue: WorkQueue) -> None:
    while len(queue) or queue.working:
        await asyncio.sleep(IDLE_SECONDS)


def _first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that the others followed from: a group is a detail of how tasks are kept."""
    error = group.exceptions[0]
    return _first_error(error) if isinstance(error, BaseExceptionGroup) else error


def _is_active(obj: Object, active: Collection[Key]) -> bool:
    """Return whether this run works on the object. Stores always are: any resource may use them."""
    key = user_resource_of(obj)
    return key is not None and (key in active or key.kind == ARTIFACT_STORE)


def _plan_active_only(planner: Planner, active: Collection[Key]) -> Planner:
    """Return the planner for active resources; it plans nothing for others."""

    def plan(obj: Object, observation: Observation) -> Plan:
        return planner(obj, observation) if _is_active(obj, active) else Plan()

    return plan


ListObjects = Callable[[Kind], Awaitable[Sequence[Object]]]


class TwinWatches:
    """Feeds an operator from a twin, by lists and by changes, as the watches of an API server would.

    They show every change of objects with the selected label; an object that loses the label is deleted to them.
    """

    def __init__(self, cache: Cache, feed: Feed) -> None:
        self._cache = cache
        self._feed = feed
        self._shown: set[str] = set()  # UIDs of what the watches show

    async def relist(self, list_objects: ListObjects) -> int:
        """List every kind again, and return how many objects vanished without an event."""
        vanished = 0
        for kind in WATCHED:
            since = self._cache.mark()
            objects = [obj for obj in await list_objects(kind) if not is_foreign(obj)]
            for obj in objects:
                self._shown.add(obj["metadata"]["uid"])
                self._feed.on_event(obj, deleted=False)
            vanished += self._feed.on_list(
                kind, [(key.namespace, key.name) for key in map(key_of, objects)], since, None
            )
        return vanished

    def on_changes(self, changes: Iterable[WatchEvent]) -> None:
        """Pass changes of the twin on to the feed."""
        for change in changes:
            if kind_of(change.object) not in WATCHED:
                continue
            uid, apart = change.object["metadata"]["uid"], is_foreign(change.object)
            if apart and uid not in self._shown:
                continue
            leaves = apart or change.type == "DELETED"
            (self._shown.discard if leaves else self._shown.add)(uid)
            self._feed.on_event(change.object, deleted=leaves)
