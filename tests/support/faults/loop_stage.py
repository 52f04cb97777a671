"""A Stage whose operators live in this process, one after another, on a clock that only waiting moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from slipway.api.kinds import Kind, Object
from slipway.cluster.twin import WatchEvent
from support.calls import Crash, Interfered
from support.faults.history import ChangeHistory
from support.faults.world import World
from support.loop_on_twin import Clock, OperatorOnTwin

REST_SECONDS = 150.0
"""So long after the last change nothing more is waited for: every wait of a planner that changes something is shorter,
where no call fails again and again."""


class Watchable(Protocol):
    """The twin, or what shows another cluster as it does."""

    def subscribe(self, subscriber: Callable[[WatchEvent], None], /) -> None: ...

    async def list(self, kind: Kind, /) -> Sequence[Object]: ...


class LoopStage:
    """Awaits every turn of its operator.

    shown: the cluster as watches show it. life: makes the next operator.
    """

    def __init__(
        self,
        shown: Watchable,
        world: World,
        calls: Interfered,
        clock: Clock,
        life: Callable[[], OperatorOnTwin],
        rest_seconds: float = REST_SECONDS,
    ) -> None:
        self.shown, self.world, self.calls, self.clock = shown, world, calls, clock
        self.history = ChangeHistory()
        self._operator: OperatorOnTwin | None = None
        self._life, self._rest_seconds = life, rest_seconds
        self._last_change = (0, clock.elapsed)
        shown.subscribe(self._changed)

    async def quiet(self) -> None:
        self.clock.elapsed += 1.0  # nothing in the world takes no time
        while True:
            operator = await self._living()
            try:
                await operator.settle()
            except Crash:
                operator.stop()
                self._operator = None
            else:
                return

    async def sleep(self) -> bool:
        operator = await self._living()
        changes, since = self._last_change
        if changes != self.history.changes:
            since = self.clock.elapsed
            self._last_change = self.history.changes, since
        wait = operator.queue.seconds_to_next()
        if wait is None or self.clock.elapsed + wait > since + self._rest_seconds:
            return False
        self.clock.elapsed += wait
        return True

    async def passes(self, seconds: float) -> None:
        """So much time passes, and the operator does in it what it wants; the world rests."""
        await (await self._living()).settle(up_to_seconds=seconds)

    async def _living(self) -> OperatorOnTwin:
        if self._operator is None:
            self._operator = self._life()
            await self._begin(self._operator)
        return self._operator

    async def _begin(self, operator: OperatorOnTwin) -> None:
        await operator.start()

    def _changed(self, change: WatchEvent) -> None:
        if change.type == "DELETED":
            self.history.record_deletion(change.object["metadata"]["uid"])
            self.history.changes += 1
        else:
            self.history.record_change(change.object)
