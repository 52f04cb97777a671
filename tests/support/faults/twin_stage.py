"""A Stage on the twin: operators that live one after another over one cluster, on a clock that only waiting moves."""

from __future__ import annotations

from collections.abc import Callable

from slipway.api.kinds import Kind
from slipway.cluster.twin import Change, Twin
from slipway.controller.planners import PLANNERS
from support.builders import NAMESPACE
from support.calls import Crash, Interfered
from support.faults.admin import TwinAdmin
from support.faults.chronicle import Chronicle
from support.faults.deeds import works
from support.faults.world import World
from support.loop_on_twin import Clock, OperatorOnTwin

REST_SECONDS = 150.0
"""So long after the last change nothing more is waited for: every wait of a planner that changes something is shorter,
but for a TTL or a deadline, which a scenario waits for itself."""

Life = Callable[[Twin, Interfered, Clock], OperatorOnTwin]
"""Makes the next operator; it has not listed anything yet."""


def ordinary(twin: Twin, calls: Interfered, clock: Clock) -> OperatorOnTwin:
    return OperatorOnTwin(twin, calls, PLANNERS, clock)


class TwinStage:
    """past: another stage whose cluster and script this one goes on from, with an operator that is new to them.

    down: the operator comes up only when the world has gone as far as it can without one. lists: the cluster as its
    first list of a kind shows it, where that is an older one; it hears of the changes since then when it is at rest.
    """

    def __init__(
        self,
        past: TwinStage | None = None,
        *,
        life: Life = ordinary,
        down: bool = False,
        rest_seconds: float = REST_SECONDS,
        lists: Callable[[Kind], Twin] | None = None,
    ) -> None:
        self.clock = Clock()
        if past:
            self.clock.elapsed, self.clock.stepped = past.clock.elapsed, past.clock.stepped
        self.twin = past.twin.fork(self.clock.now) if past else Twin(self.clock.now)
        self.calls = Interfered(self.twin)
        self.world = World(TwinAdmin(self.twin), NAMESPACE, self.clock.now, works)
        self.world.collects = False
        if past:
            self.world.deeds, self.world.at = past.world.deeds, past.world.at
        self.chronicle = past.chronicle.fork() if past else Chronicle()
        self.operator: OperatorOnTwin | None = None
        self._life, self._down, self._rest_seconds, self._lists = life, down, rest_seconds, lists
        self._last_change = (0, self.clock.elapsed)
        self.twin.subscribe(self._changed)

    async def quiet(self) -> None:
        self.clock.elapsed += 1.0  # nothing in the world takes no time
        self.twin.collect()  # also what an operator made for a parent that was gone
        while True:
            if self.operator is None:
                if self._down:
                    return
                await self._begin()
            try:
                await self._operator.settle()
            except Crash:
                self._operator.stop()
                self.operator = None
            else:
                return

    async def sleep(self) -> bool:
        if self.operator is None:
            self._down = False
            return True
        if await self._caught_up():
            return True
        changes, since = self._last_change
        if changes != self.chronicle.changes:
            since = self.clock.elapsed
            self._last_change = self.chronicle.changes, since
        wait = self._operator.queue.seconds_to_next()
        if wait is None or self.clock.elapsed + wait > since + self._rest_seconds:
            return False
        self.clock.elapsed += wait
        return True

    @property
    def _operator(self) -> OperatorOnTwin:
        assert self.operator is not None
        return self.operator

    async def _begin(self) -> None:
        self.operator = self._life(self.twin, self.calls, self.clock)
        await self.operator.start(self._lists)

    async def _caught_up(self) -> bool:
        """Whether the operator heard only now of what happened long ago."""
        if self._lists is not None:
            self._lists = None
            await self._operator.relist()
            return True
        rest = getattr(self._operator.delivery, "rest", list)
        return self._operator.hear(rest())

    def _changed(self, change: Change) -> None:
        if change.type == "DELETED":
            self.chronicle.gone(change.object["metadata"]["uid"])
            self.chronicle.changes += 1
        else:
            self.chronicle.seen(change.object)
