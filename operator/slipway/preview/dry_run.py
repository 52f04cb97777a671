"""A dry run: the operator's own loop and executor over a twin, on a simulated clock, until nothing changes."""

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
from slipway.preview.world import advance
from slipway.reconcile.cache import Cache
from slipway.reconcile.execute import Executor
from slipway.reconcile.feed import Feed
from slipway.reconcile.loop import Planner, Reconciler
from slipway.reconcile.queue import WorkQueue

QUIET_PERIOD = timedelta(seconds=150)
"""The dry run ends after this time without a change, so it does not include later events (a TTL, a deadline)."""
MAX_RECONCILES = 50_000


@dataclass
class Clock:
    """A clock that advances only when the queue is empty."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now


def is_owned_by_any(step: Object, keys: Collection[Key]) -> bool:
    kind, name = Owner.of(step).controller or ("", "")
    namespace = step["metadata"]["namespace"]
    return any((key.kind.kind, key.namespace, key.name) == (kind, namespace, name) for key in keys)


@dataclass
class DryRun:
    """Reconciles the given resources on the twin, while `world.advance` simulates the other controllers.

    keys: the resources to plan, together with their Steps. The dry run changes no other resource.
    """

    twin: Twin
    clock: Clock
    planners: Mapping[Kind, Planner]
    settings: Settings
    keys: tuple[Key, ...]
    cache: Cache = field(default_factory=Cache)

    async def run(self) -> None:
        """Run until nothing changes. Raises what a planner raises, and RuntimeError if it never ends."""
        started_at = self.clock.now

        def elapsed_seconds() -> float:
            return (self.clock.now - started_at).total_seconds()

        queue = WorkQueue(elapsed_seconds)
        planners = {kind: self._only_planned(planner) for kind, planner in self.planners.items()}
        executor = Executor(self.twin, self.cache, "slipway-plan")
        reconciler = Reconciler(planners, self.settings, self.cache, executor, queue, self.clock)
        feed = Feed(self.cache, queue, planners)
        for kind in WATCHED:
            for obj in await self.twin.list(kind):
                self.cache.put(obj)
        changed_at = started_at

        def on_change(change: WatchEvent) -> None:
            nonlocal changed_at
            if key_of(change.object).kind in WATCHED:
                changed_at = self.clock.now
                feed.on_event(change.object, deleted=change.type == "DELETED")

        self.twin.subscribe(on_change)
        for planned in self.keys:  # in the order in which they are shown
            queue.add(planned)
        feed.lead()
        for _ in range(MAX_RECONCILES):
            if (key := queue.take()) is not None:
                await self._reconcile(reconciler, queue, key)
            elif not await advance(self.twin, self._produced(), self.clock.now):
                wait = queue.seconds_to_next()
                if wait is None or self.clock.now + timedelta(seconds=wait) > changed_at + QUIET_PERIOD:
                    return
                self.clock.now += timedelta(seconds=wait)
        raise RuntimeError(f"no end after {MAX_RECONCILES} reconciles")

    async def _reconcile(self, reconciler: Reconciler, queue: WorkQueue, key: Key) -> None:
        try:
            converged, wake_at = await reconciler.reconcile(key)
        finally:
            queue.done(key)
        if not converged:
            queue.add(key)
        elif wake_at is not None:
            # A delay of at least 1 s prevents an endless loop of a planner that asks for a time in the past.
            queue.add_after(key, max((wake_at - self.clock.now).total_seconds(), 1.0))

    def _only_planned(self, planner: Planner) -> Planner:
        """Return the planner, restricted to `keys` and their Steps."""

        def plan(obj: Object, observation: Observation) -> Plan:
            planned = is_owned_by_any(obj, self.keys) if obj["kind"] == STEP.kind else key_of(obj) in self.keys
            return planner(obj, observation) if planned else Plan()

        return plan

    def _produced(self) -> Mapping[str, State]:
        plugins: Iterable[Object] = self.cache.objects(COMPRESSION_PLUGIN)
        return {one["spec"]["entryPoint"]: State(one["spec"]["produces"]) for one in plugins}
