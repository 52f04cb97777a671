"""A Stage on the twin, which can begin amid another one's play, and whose operator can be late in many ways."""

from __future__ import annotations

from collections.abc import Callable

from slipway.api.kinds import Kind
from slipway.cluster.twin import Twin
from slipway.reconcile.planners import PLANNERS
from support.builders import NAMESPACE
from support.calls import Interfered
from support.faults.admin import TwinAdmin
from support.faults.loop_stage import REST_SECONDS, LoopStage
from support.faults.operations import works
from support.faults.world import World
from support.loop_on_twin import Clock, OperatorOnTwin

Life = Callable[[Twin, Interfered, Clock], OperatorOnTwin]
"""Makes the next operator; it has not listed anything yet."""


def ordinary(twin: Twin, calls: Interfered, clock: Clock) -> OperatorOnTwin:
    return OperatorOnTwin(twin, calls, PLANNERS, clock)


class TwinStage(LoopStage):
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
        clock = Clock(past.clock.elapsed, past.clock.stepped) if past else Clock()
        self.twin = twin = past.twin.fork(clock.now) if past else Twin(clock.now)
        calls = Interfered(twin)
        world = World(TwinAdmin(twin), NAMESPACE, clock.now, works)
        world.collects = False
        super().__init__(twin, world, calls, clock, lambda: life(twin, calls, clock), rest_seconds)
        self._down, self._lists = down, lists
        if past:
            world.operations, world.at = past.world.operations, past.world.at
            self.history = past.history.fork()

    async def quiet(self) -> None:
        if not self._down:
            await super().quiet()

    async def sleep(self) -> bool:
        if self.twin.collect():  # what an operator made for a parent that was gone
            return True
        if self._down:
            self._down = False
            return True
        return await self._caught_up() or await super().sleep()

    async def _begin(self, operator: OperatorOnTwin) -> None:
        await operator.start(self._lists)

    async def _caught_up(self) -> bool:
        """Return True if the operator observes only now what happened long ago."""
        operator = await self._living()
        if self._lists is not None:
            self._lists = None
            await operator.relist()
            return True
        return operator.hear(operator.delivery.rest())
