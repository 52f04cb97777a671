"""The operator's rounds over a twin, one after another on a clock of their own, until nothing is left to do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from slipway.api.artifacts import State
from slipway.api.kinds import COMPRESSION_PLUGIN, STEP, WATCHED, Key, Kind, Object, key_of
from slipway.cluster.twin import Twin, WatchEvent
from slipway.plan.observation import Observation
from slipway.plan.owner import Owner
from slipway.plan.plan import Plan, Settings, earliest
from slipway.preview.world import move
from slipway.reconcile.cache import Cache
from slipway.reconcile.drift import covers

if TYPE_CHECKING:
    from slipway.reconcile.loop import Planner

REST = timedelta(seconds=150)
"""So long after the last change nothing more is waited for: what comes later (a TTL, a deadline) is no part of it."""
MAX_ROUNDS = 5_000


@dataclass
class Clock:
    """Moves only when everybody waits."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now


def is_owned_by_any(step: Object, keys: Collection[Key]) -> bool:
    kind, name = Owner.of(step).controller or ("", "")
    namespace = step["metadata"]["namespace"]
    return any((key.kind.kind, key.namespace, key.name) == (kind, namespace, name) for key in keys)


@dataclass
class DryRun:
    """Plans the given resources and carries the plans out on the twin, with the world that `world.move` lets be.

    keys: what is planned, with the Steps that belong to it. Everything else stands still.
    """

    twin: Twin
    clock: Clock
    planners: Mapping[Kind, Planner]
    settings: Settings
    keys: tuple[Key, ...]
    cache: Cache = field(default_factory=Cache)

    async def run(self) -> None:
        """Raises RuntimeError where no end comes: a defect of a planner."""
        for kind in WATCHED:
            for obj in await self.twin.list(kind):
                self.cache.put(obj)
        self.twin.subscribe(self._heard)
        changed_at = self.clock.now
        for _ in range(MAX_ROUNDS):
            moved, wake_at = await self._round()
            moved = await move(self.twin, self._produced(), self.clock.now) or moved
            if moved:
                changed_at = self.clock.now
            elif wake_at is None or wake_at > changed_at + REST:
                return
            else:
                self.clock.now = max(wake_at, self.clock.now + timedelta(seconds=1))
        raise RuntimeError(f"no end after {MAX_ROUNDS} rounds")

    async def _round(self) -> tuple[bool, datetime | None]:
        """Each resource once. Returns whether anything was written, and when the first wants to be planned again."""
        wrote, wishes = False, []
        steps = [key_of(step) for step in self.cache.objects(STEP) if is_owned_by_any(step, self.keys)]
        for key in (*self.keys, *steps):
            owner = self.cache.get(*key)
            if owner is None or "deletionTimestamp" in owner["metadata"]:
                continue
            plan = self.planners[key.kind](owner, Observation(self.cache, self.settings, self.clock.now))
            wrote = await self._carry_out(plan, owner) or wrote
            wishes.append(plan.wake_at)
        return wrote, earliest(wishes)

    async def _carry_out(self, plan: Plan, owner: Object) -> bool:
        """True where anything was written. Nobody else writes here, so what was planned is what can be done."""
        drifted = [obj for obj in plan.apply if not (live := self.cache.get(*key_of(obj))) or not covers(live, obj)]
        for rendered in drifted:
            await self.twin.apply(rendered)
        for obj in plan.create:
            await self.twin.create(obj)
        for deletion in plan.delete:
            await self.twin.delete(deletion.key, uid=deletion.uid, resource_version=deletion.resource_version)
        wrote = bool(drifted or plan.create or plan.delete)
        if plan.status is None or plan.status == owner.get("status"):
            return wrote

        def told(obj: Object) -> None:
            obj["status"] = plan.status

        self.twin.edit(key_of(owner), told)
        return True

    def _heard(self, change: WatchEvent) -> None:
        key = key_of(change.object)
        if key.kind not in WATCHED:
            return
        if change.type == "DELETED":
            self.cache.remove(key, change.object["metadata"]["uid"])
        else:
            self.cache.put(change.object)

    def _produced(self) -> Mapping[str, State]:
        plugins: Iterable[Object] = self.cache.objects(COMPRESSION_PLUGIN)
        return {one["spec"]["entryPoint"]: State(one["spec"]["produces"]) for one in plugins}
