"""The one loop, for every kind: observe, plan, carry out, until the plan is empty.

    queue of keys -> reconcile(key) -> cache -> planner (pure) -> executor -> cluster, cache

Level-triggered: it never asks what happened, only what is.
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
"""Pure: the parent as the API server holds it, and what is observed besides, give the writes."""

Result = Literal["success", "error", "requeue", "requeue_after"]

MAX_ROUNDS = 10
"""Plans that one turn of a worker carries out; a resource that wants more waits behind the others."""
CONFLICTS = 5
"""Rounds of a turn that look again at once where a child is not as it was seen; after them it is taken for refused."""
UNDONE_RETRY_INTERVAL = timedelta(minutes=5)
"""How long to wait before applying again what a webhook or a policy changed back at once."""
SHORTEST_SLEEP_SECONDS = 0.05
"""A planner that asks for a moment that has passed gets the next one, not a busy loop."""
LONGEST_SLEEP_SECONDS = 600.0
"""A key that sleeps is planned again at least so often: the wall clock may be stepped, a monotonic delay is not."""


class Timed(Protocol):
    """What hears of every turn: metrics."""

    def reconciled(self, key: Key, result: Result, seconds: float) -> None: ...


class Reconciler:
    """Brings one resource after another to what its planner wants.

    clock: the wall clock (aware), read once a round.
    """

    def __init__(
        self,
        planners: Mapping[Kind, Planner],
        settings: Settings,
        cache: Cache,
        executor: Executor,
        queue: WorkQueue,
        clock: Callable[[], datetime],
        timed: Timed | None = None,
        watchdog: Watchdog | None = None,
        log: Log = NO_LOG,
    ) -> None:
        self._planners = planners
        self._settings = settings
        self._cache = cache
        self._executor = executor
        self._queue = queue
        self._clock = clock
        self._timed = timed
        self._watchdog = watchdog or Watchdog()
        self._log = log
        self._refusals = Refusals()

    async def work(self) -> None:
        """One worker: takes keys until the queue is closed. Nothing that a resource causes ends it."""
        while (key := await self._queue.get()) is not None:
            try:
                await self.turn(key)
            finally:
                self._queue.done(key)
            await asyncio.sleep(0)  # a turn without a write never waits: without this, thousands hold up the Lease

    async def turn(self, key: Key) -> None:
        """One turn on a key that was taken from the queue: reconcile it, and say when it comes again."""
        started = perf_counter()
        with self._log.bound(kind=key.kind.kind, namespace=key.namespace, name=key.name):
            result = await self._attempt(key)
        if self._timed is not None:
            self._timed.reconciled(key, result, perf_counter() - started)

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
            self._queue.observed(key)  # its own last write, above all: it must wait behind the others
            wait = self._queue.retry(key)
            self._log.warning("not converged in one turn", rounds=MAX_ROUNDS, retry_in_seconds=round(wait, 3))
            return "requeue"
        if wake_at is not None:
            seconds = (wake_at - self._clock()).total_seconds()
            self._queue.add_after(key, min(max(seconds, SHORTEST_SLEEP_SECONDS), LONGEST_SLEEP_SECONDS))
        if errors := self._refusals.errors(key):
            self._try_again(key, errors)
            return "error"
        self._queue.forget(key)
        self._refusals.over(key)
        return "success" if wake_at is None else "requeue_after"

    def _try_again(self, key: Key, errors: Sequence[ClusterError]) -> None:
        """Come back for what was refused: after the next back-off where it was just tried, else when that is over."""
        due = self._refusals.due(key)
        if due is not None:
            self._queue.add_after(key, due - self._queue.now())
            return
        wait = self._queue.retry(key, max(error.retry_after_seconds or 0.0 for error in errors))
        self._refusals.wait(key, self._queue.now() + wait)
        for error in errors:
            self._log.warning("the API server refused", error=str(error), retry_in_seconds=round(wait, 3))

    async def reconcile(self, key: Key) -> tuple[bool, datetime | None]:
        """Plan and carry out until nothing is left to do. Returns whether that came to be, and when to plan again.

        A resource that is gone or being deleted is left alone: its children go by their ownerReferences. What the API
        server refuses is kept, and given to the planner with every round until it is taken.
        Raises ClusterError for a read that fails, and whatever a planner raises.
        """
        planner = self._planners[key.kind]
        for number in range(MAX_ROUNDS):
            self._queue.observed(key)
            owner = self._cache.get(*key)
            if owner is None or "deletionTimestamp" in owner["metadata"]:
                self._refusals.over(key)
                return True, None
            with self._log.bound(uid=owner["metadata"]["uid"]):
                now = self._clock()
                told = self._refusals.told(key, now)
                with self._watchdog.holding(key):
                    plan = planner(owner, Observation(self._cache, self._settings, now, told))
                held, may_retry = self._refusals.held(key), number < CONFLICTS
                known = {one: self._cache.get(*one) for one in map(key_of, plan.apply)}
                going = [obj for one in plan.delete if (obj := self._cache.get(*one.key)) is not None]
                outcome = await self._executor.carry_out(plan, owner, now, held, may_retry=may_retry)
                self._wake_written(key, known, going)
                for news in self._refusals.learn(key, outcome, now):
                    await self._executor.tell(news, owner, now)
                lifted = len(self._refusals.told(key, now)) < len(told)  # taken without an answer, or wanted no more
                if not outcome.changed and not lifted:
                    if plan.defect is not None:
                        raise plan.defect
                    again_at = now + UNDONE_RETRY_INTERVAL if outcome.undone else None  # no watch tells when that ends
                    return True, earliest((plan.wake_at, again_at))
            self._wake_referrers(key, owner)
        return False, None

    def _wake_written(self, key: Key, before: Mapping[Key, Object | None], going: Sequence[Object]) -> None:
        """The watch shows nothing new of what we wrote: Steps, and those that waited for a child, are queued here.

        before: what was applied, as it was known. going: what was to be deleted.
        """
        for obj in going:
            if self._cache.get(*key_of(obj)) is None:
                self._wake(self._cache.affected(obj) - {key})
        for child, known in before.items():
            written = self._cache.get(*child)
            if written is not None and written is not known:
                self._wake(self._cache.affected(written) - {key})

    def _wake_referrers(self, key: Key, before: Object) -> None:
        """The same of the resource itself: who names it is queued here."""
        if self._cache.get(*key) is not before:
            self._wake(self._cache.affected(before) - {key})

    def _wake(self, keys: Iterable[Key]) -> None:
        for key in keys:
            if key.kind in self._planners:
                self._queue.add(key)


async def run_workers(reconciler: Reconciler, count: int) -> None:
    """So many workers until the queue is closed, each with its last key worked to its end."""
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(reconciler.work())
