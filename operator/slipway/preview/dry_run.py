"""The operator's own loop and executor over a twin, on a clock of their own, until nothing is left to do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from slipway.api.artifacts import State
from slipway.api.kinds import COMPRESSION_PLUGIN, STEP, WATCHED, Key, Kind, Object, key_of
from slipway.cluster.twin import Twin, WatchEvent
from slipway.plan.observation import Observation
from slipway.plan.owner import Owner
from slipway.plan.plan import Plan, Settings
from slipway.preview.world import move
from slipway.reconcile.cache import Cache
from slipway.reconcile.execute import Executor
from slipway.reconcile.feed import Feed
from slipway.reconcile.loop import Planner, Reconciler
from slipway.reconcile.queue import WorkQueue

QUIET_PERIOD = timedelta(seconds=150)
"""The run ends when nothing has changed for so long: what comes later (a TTL, a deadline) is no part of it."""
MAX_TURNS = 50_000


@dataclass
class Clock:
    """A clock that moves only when everybody waits."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now


def is_owned_by_any(step: Object, keys: Collection[Key]) -> bool:
    kind, name = Owner.of(step).controller or ("", "")
    namespace = step["metadata"]["namespace"]
    return any((key.kind.kind, key.namespace, key.name) == (kind, namespace, name) for key in keys)


@dataclass
class DryRun:
    """Reconciles the given resources on the twin, in the world that `world.move` simulates.

    keys: what is planned, with the Steps that belong to it. Everything else stays as it is.
    """

    twin: Twin
    clock: Clock
    planners: Mapping[Kind, Planner]
    settings: Settings
    keys: tuple[Key, ...]
    cache: Cache = field(default_factory=Cache)

    async def run(self) -> None:
        """Raises what a planner raises, and RuntimeError where no end comes: both are defects of Slipway."""
        began_at = self.clock.now

        def elapsed_seconds() -> float:
            return (self.clock.now - began_at).total_seconds()

        queue = WorkQueue(elapsed_seconds)
        planners = {kind: self._only_planned(planner) for kind, planner in self.planners.items()}
        executor = Executor(self.twin, self.cache, "slipway-plan")
        reconciler = Reconciler(planners, self.settings, self.cache, executor, queue, self.clock)
        feed = Feed(self.cache, queue, planners)
        for kind in WATCHED:
            for obj in await self.twin.list(kind):
                self.cache.put(obj)
        changed_at = began_at

        def hear(change: WatchEvent) -> None:
            nonlocal changed_at
            if key_of(change.object).kind in WATCHED:
                changed_at = self.clock.now
                feed.on_event(change.object, deleted=change.type == "DELETED")

        self.twin.subscribe(hear)
        for planned in self.keys:  # in the order in which they are shown
            queue.add(planned)
        feed.lead()
        for _ in range(MAX_TURNS):
            if (key := queue.take()) is not None:
                await self._turn(reconciler, queue, key)
            elif not await move(self.twin, self._produced(), self.clock.now):
                wait = queue.seconds_to_next()
                if wait is None or self.clock.now + timedelta(seconds=wait) > changed_at + QUIET_PERIOD:
                    return
                self.clock.now += timedelta(seconds=wait)
        raise RuntimeError(f"no end after {MAX_TURNS} turns")

    async def _turn(self, reconciler: Reconciler, queue: WorkQueue, key: Key) -> None:
        try:
            converged, wake_at = await reconciler.reconcile(key)
        finally:
            queue.done(key)
        if not converged:
            queue.add(key)
        elif wake_at is not None:
            # A planner that asks for a moment that has passed gets the next second, not an endless loop.
            queue.add_after(key, max((wake_at - self.clock.now).total_seconds(), 1.0))

    def _only_planned(self, planner: Planner) -> Planner:
        """The planner of what is planned; it plans nothing for the rest."""

        def plan(obj: Object, observation: Observation) -> Plan:
            planned = is_owned_by_any(obj, self.keys) if obj["kind"] == STEP.kind else key_of(obj) in self.keys
            return planner(obj, observation) if planned else Plan()

        return plan

    def _produced(self) -> Mapping[str, State]:
        plugins: Iterable[Object] = self.cache.objects(COMPRESSION_PLUGIN)
        return {one["spec"]["entryPoint"]: State(one["spec"]["produces"]) for one in plugins}
