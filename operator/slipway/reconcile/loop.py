"""The reconcile loop of all kinds: observe, plan, carry out, until the plan is empty.

    queue of keys -> reconcile(key) -> cache -> planner (pure) -> executor -> cluster, cache

The loop is level-triggered: it reads the current state, never the event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from time import perf_counter
from typing import Literal, Protocol

from slipway.api.errors import ClusterError
from slipway.api.kinds import Key, Kind, Object, key_of
from slipway.plan.observation import Observation
from slipway.plan.plan import Plan, Settings, earliest
from slipway.reconcile.cache import Cache
from slipway.reconcile.execute import Executor
from slipway.reconcile.log import NO_LOG, Log
from slipway.reconcile.queue import WorkQueue
from slipway.reconcile.refusals import Refusals
from slipway.reconcile.watchdog import Watchdog

Planner = Callable[[Object, Observation], Plan]
"""A pure function from the resource, as the API server returns it, and the observation to the writes."""

Result = Literal["success", "error", "requeue", "requeue_after"]

MAX_ROUNDS = 10
"""Plans that a worker carries out for one key; a resource that needs more waits behind the other keys."""
CONFLICTS = 5
"""Rounds that retry at once after a conflict on a child; later ones treat the write as refused."""
UNDONE_RETRY_INTERVAL = timedelta(minutes=5)
"""Time before the next apply of an object that a webhook or a policy reverted at once."""
SHORTEST_SLEEP_SECONDS = 0.05
"""Shortest delay of a planner that asks for a time in the past: it prevents a busy loop."""
LONGEST_SLEEP_SECONDS = 600.0
"""Longest delay of a key: the wall clock may be stepped, a monotonic delay is not."""


class ReconcileMetrics(Protocol):
    """The metrics of reconciles: called after each one."""

    def reconciled(self, key: Key, result: Result, seconds: float) -> None: ...


class Reconciler:
    """Reconciles resources, one at a time in each worker, until the plan of each is empty.

    clock: the wall clock (aware), read once for each plan.
    """

    def __init__(
        self,
        planners: Mapping[Kind, Planner],
        settings: Settings,
        cache: Cache,
        executor: Executor,
        queue: WorkQueue,
        clock: Callable[[], datetime],
        metrics: ReconcileMetrics | None = None,
        watchdog: Watchdog | None = None,
        log: Log = NO_LOG,
    ) -> None:
        self._planners = planners
        self._settings = settings
        self._cache = cache
        self._executor = executor
        self._queue = queue
        self._clock = clock
        self._metrics = metrics
        self._watchdog = watchdog or Watchdog()
        self._log = log
        self._refusals = Refusals()

    async def work(self) -> None:
        """Run one worker until the queue is closed. No error of a resource ends it."""
        while (key := await self._queue.get()) is not None:
            try:
                await self.process_key(key)
            finally:
                self._queue.done(key)
            await asyncio.sleep(0)  # a reconcile without a write never yields: thousands of them would delay the Lease

    async def process_key(self, key: Key) -> None:
        """Reconcile a key that was taken from the queue, and queue its next reconcile."""
        started = perf_counter()
        with self._log.bound(kind=key.kind.kind, namespace=key.namespace, name=key.name):
            result = await self._attempt(key)
        if self._metrics is not None:
            self._metrics.reconciled(key, result, perf_counter() - started)

    async def _attempt(self, key: Key) -> Result:
        self._refusals.begin(key, self._queue.now())
        try:
            converged, wake_at = await self.reconcile(key)
        except ClusterError as error:
            wait = self._queue.retry(key, error.retry_after_seconds or 0.0)
            self._log.warning("the API server refused", error=str(error), retry_in_seconds=round(wait, 3))
            return "error"
        except Exception:  # noqa: BLE001 - one resource's defect must not stop the others
            wait = self._queue.retry(key)
            self._log.exception("planning failed: this is a defect of Slipway", retry_in_seconds=round(wait, 3))
            return "error"
        if not converged:
            self._queue.observed(key)  # also for its own last write: the key must wait behind the others
            wait = self._queue.retry(key)
            self._log.warning("not converged", rounds=MAX_ROUNDS, retry_in_seconds=round(wait, 3))
            return "requeue"
        if wake_at is not None:
            seconds = (wake_at - self._clock()).total_seconds()
            self._queue.add_after(key, min(max(seconds, SHORTEST_SLEEP_SECONDS), LONGEST_SLEEP_SECONDS))
        if errors := self._refusals.errors(key):
            self._try_again(key, errors)
            return "error"
        self._queue.forget(key)
        self._refusals.clear(key)
        return "success" if wake_at is None else "requeue_after"

    def _try_again(self, key: Key, errors: Sequence[ClusterError]) -> None:
        """Queue the next try of refused writes: after a new back-off if they were just tried, else at its end."""
        due = self._refusals.due(key)
        if due is not None:
            self._queue.add_after(key, due - self._queue.now())
            return
        wait = self._queue.retry(key, max(error.retry_after_seconds or 0.0 for error in errors))
        self._refusals.defer(key, self._queue.now() + wait)
        for error in errors:
            self._log.warning("the API server refused", error=str(error), retry_in_seconds=round(wait, 3))

    async def reconcile(self, key: Key) -> tuple[bool, datetime | None]:
        """Plan and carry out until nothing is left to do. Return whether the key converged, and when to plan again.

        The loop skips a resource that is gone or being deleted: the garbage collector deletes its children. Refused
        writes are recorded, and each plan gets them until the API server accepts them.
        Raises ClusterError if a read fails, and whatever a planner raises.
        """
        planner = self._planners[key.kind]
        for number in range(MAX_ROUNDS):
            self._queue.observed(key)
            owner = self._cache.get(*key)
            if owner is None or "deletionTimestamp" in owner["metadata"]:
                self._refusals.clear(key)
                return True, None
            with self._log.bound(uid=owner["metadata"]["uid"]):
                now = self._clock()
                refusals = self._refusals.current(key, now)
                with self._watchdog.holding(key):
                    plan = planner(owner, Observation(self._cache, self._settings, now, refusals))
                deferred, may_retry = self._refusals.deferred(key), number < CONFLICTS
                known = {one: self._cache.get(*one) for one in map(key_of, plan.apply)}
                going = [obj for one in plan.delete if (obj := self._cache.get(*one.key)) is not None]
                try:
                    outcome = await self._executor.carry_out(plan, owner, now, deferred, may_retry=may_retry)
                finally:  # a read that fails in the middle does not undo what was written before it
                    self._wake_written(key, known, going)
                for event in self._refusals.record(key, outcome, now):
                    await self._executor.record_event(event, owner, now)
                # A refused write may have been made without an answer, or may be part of the plan no longer.
                lifted = len(self._refusals.current(key, now)) < len(refusals)
                if not outcome.changed and not lifted:
                    if plan.defect is not None:
                        raise plan.defect
                    again_at = now + UNDONE_RETRY_INTERVAL if outcome.undone else None  # no watch reports its end
                    return True, earliest((plan.wake_at, again_at))
            self._wake_referrers(key, owner)
        return False, None

    def _wake_written(self, key: Key, before: Mapping[Key, Object | None], going: Sequence[Object]) -> None:
        """Queue the resources that depend on written children: the watch reports nothing new about our own writes.

        before: the applied objects as they were cached before. going: the objects that the plan deleted.
        """
        for obj in going:
            if self._cache.get(*key_of(obj)) is None:
                self._wake(self._cache.affected(obj) - {key})
        for child, known in before.items():
            written = self._cache.get(*child)
            if written is not None and written is not known:
                self._wake(self._cache.affected(written) - {key})

    def _wake_referrers(self, key: Key, before: Object) -> None:
        """Queue the resources that name this one, if its status was written."""
        if self._cache.get(*key) is not before:
            self._wake(self._cache.affected(before) - {key})

    def _wake(self, keys: Iterable[Key]) -> None:
        for key in keys:
            if key.kind in self._planners:
                self._queue.add(key)


async def run_workers(reconciler: Reconciler, count: int) -> None:
    """Run `count` workers until the queue is closed; each finishes its last key."""
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(reconciler.work())
