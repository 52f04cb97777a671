"""The whole loop over the in-memory twin, on a clock that the test moves: no process, no sleeping, no network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from slipway.api.errors import NotFound
from slipway.api.kinds import Key, Kind, key_of
from slipway.cluster.port import Cluster
from slipway.cluster.twin import Twin, WatchEvent
from slipway.local.cluster import TwinWatches
from slipway.plan.plan import STATUS, Settings
from slipway.reconcile.cache import Cache
from slipway.reconcile.execute import Executor
from slipway.reconcile.feed import Feed
from slipway.reconcile.log import structured_log
from slipway.reconcile.loop import Planner, Reconciler, Result
from slipway.reconcile.planners import PLANNERS
from slipway.reconcile.queue import WorkQueue
from support.laws import LawBroken, Lawful, untrue

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SETTINGS = Settings("slipway/runtime:test", "slipway/serving:test")
MANY_TURNS = 10_000


@dataclass
class Clock:
    """A wall clock and a monotonic one, of one pace."""

    elapsed: float = 0.0
    stepped: float = 0.0
    """Seconds by which a user set the wall clock forward (or back, below 0)."""

    def now(self) -> datetime:
        return START + timedelta(seconds=self.elapsed + self.stepped)

    def monotonic(self) -> float:
        return self.elapsed


class Delivery(Protocol):
    """How changes reach the operator's watches."""

    def due(self, happened: list[WatchEvent], *, quiet: bool) -> list[WatchEvent]:
        """What is delivered now. happened: since the last call; quiet: the operator has nothing else to do."""
        ...

    def rest(self) -> list[WatchEvent]:
        """What is still to be delivered when all is at rest."""
        ...


class AtOnce:
    """A watch tells of a write after the write was answered, and before the next turn."""

    def due(self, happened: list[WatchEvent], *, quiet: bool) -> list[WatchEvent]:
        return happened

    def rest(self) -> list[WatchEvent]:
        return []


@dataclass
class OperatorOnTwin:
    """One life of an operator over a twin that outlives it. cluster: the twin, or what a test wrapped round it."""

    twin: Twin
    cluster: Cluster
    planners: Mapping[Kind, Planner]
    clock: Clock
    cache: Cache = field(default_factory=Cache)
    delivery: Delivery = field(default_factory=AtOnce)

    def __post_init__(self) -> None:
        self.queue = WorkQueue(self.clock.monotonic)
        self.feed = Feed(self.cache, self.queue, self.planners)
        self.watches = TwinWatches(self.cache, self.feed)
        self.deaf = False
        self._undelivered: list[WatchEvent] = []
        self._of_the_past = False
        self._ended: dict[Key, bool] = {}
        self._law = self.planners is PLANNERS and isinstance(self.twin, Twin)
        self._lawful = Lawful(self.cluster, self.twin)
        executor = Executor(self._lawful if self._law else self.cluster, self.cache, "test", log=structured_log())
        self.reconciler = Reconciler(
            self.planners,
            SETTINGS,
            self.cache,
            executor,
            self.queue,
            self.clock.now,
            metrics=self,
            log=structured_log(),
        )
        self.twin.subscribe(self._hear)

    async def start(self, seen: Callable[[Kind], Twin] | None = None) -> None:
        """List everything, then lead. seen: the cluster as the list of a kind shows it, where that is an older one."""
        self._of_the_past = seen is not None
        await self.relist(seen)
        self.feed.lead()

    async def relist(self, seen: Callable[[Kind], Twin] | None = None) -> int:
        """Returns how many objects vanished without an event."""
        self._of_the_past &= seen is not None
        return await self.watches.relist(lambda kind: (seen(kind) if seen else self.twin).list(kind))

    def stop(self) -> None:
        """It hears nothing more: dead, or replaced."""
        self.deaf = True

    async def settle(self, *, up_to_seconds: float = 0.0) -> int:
        """Work until nothing is to be done, moving the clock to delayed keys no further than that. Returns turns."""
        until = self.clock.elapsed + up_to_seconds
        for turns in range(MANY_TURNS):
            self._deliver(quiet=False)
            key = self.queue.take()
            if key is None and self._deliver(quiet=True):
                continue
            if key is None:
                wait = self.queue.seconds_to_next()
                if wait is None or self.clock.elapsed + wait > until:
                    await self._holds()
                    return turns
                if wait > 0:
                    await self._holds()
                self.clock.elapsed += wait
                continue
            try:
                await self.reconciler.process_key(key)
            finally:
                self.queue.done(key)
        raise AssertionError(f"not quiet after {MANY_TURNS} turns")

    def reconciled(self, key: Key, result: Result, seconds: float) -> None:
        """Hears of every turn. One that failed has ended where only children were refused."""
        del seconds
        verbs = [refusal.verb for refusal in self.reconciler._refusals.current(key, self.clock.now())]
        children_alone = bool(verbs) and STATUS not in verbs
        read = not self._lawful.takes_failed_reads()
        self._ended[key] = result != "requeue" and (result != "error" or (children_alone and read))

    async def looks_again(self) -> None:
        """What the operator does from time to time: it looks at what stands in its way and no watch shows."""
        unmanaged = self.cache.unmanaged
        for obj in unmanaged:
            try:
                self.feed.on_event(await self.twin.get(key_of(obj)), deleted=False)
            except NotFound:
                self.feed.on_vanished(obj)
        await self.settle()
        await self._holds([obj["metadata"]["uid"] for obj in unmanaged])

    async def _holds(self, looked_at: Collection[str] = ()) -> None:
        """The round has ended: see laws.py."""
        hears_all = type(self.delivery) is AtOnce and not self._of_the_past and not self.deaf
        if self._law and hears_all and (said := await untrue(self.twin, self._ended, looked_at)):
            raise LawBroken(said)

    def _hear(self, change: WatchEvent) -> None:
        self._undelivered.append(change)

    def hear(self, changes: list[WatchEvent]) -> bool:
        """Its watches tell of these. True where there were any."""
        if not self.deaf:
            self.watches.on_changes(changes)
        return bool(changes)

    def _deliver(self, *, quiet: bool) -> bool:
        undelivered, self._undelivered = self._undelivered, []
        return self.hear(self.delivery.due(undelivered, quiet=quiet))
