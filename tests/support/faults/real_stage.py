"""A Stage on a real API server without controllers: the same operator in process, whose writes and watches are real.

The clock is the test's own, so back-offs cost nothing: no object's life there depends on the server's.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import replace
from uuid import uuid4

from slipway.api.kinds import WATCHED, Key, Kind, Object
from slipway.cluster.apiserver import ApiServer
from slipway.cluster.connection import Connection
from slipway.reconcile.planners import PLANNERS
from support.builders import NAMESPACE
from support.calls import Interfered, Interference
from support.faults.loop_stage import LoopStage
from support.faults.mirror import Mirror, Shown
from support.faults.operations import works
from support.faults.real_admin import RealAdmin
from support.faults.scenario import Scenario, play
from support.faults.scenario_runs import Outcome, outcome_of
from support.faults.world import World
from support.loop_on_twin import Clock, OperatorOnTwin


class MirroredAdmin:
    """A RealAdmin that reads from the mirror, and whose writes are done when the mirror shows them."""

    def __init__(self, admin: RealAdmin, mirror: Mirror) -> None:
        self._admin, self._mirror = admin, mirror

    async def get(self, key: Key) -> Object | None:
        return deepcopy(self._mirror.objects.get(key))

    async def list(self, kind: Kind, namespace: str) -> Sequence[Object]:
        return await (self._mirror.list(kind) if kind in WATCHED else self._admin.list(kind, namespace))

    async def create(self, obj: Object) -> Object:
        made = await self._admin.create(obj)
        await self._mirror.shows(made)
        return made

    async def edit(self, key: Key, change: Callable[[Object], None]) -> Object:
        edited = await self._admin.edit(key, change)
        await self._mirror.shows(edited)
        return edited

    async def set_status(self, key: Key, status: Object) -> Object | None:
        if (now := await self._admin.set_status(key, status)) is not None:
            await self._mirror.shows(now)
        return now

    async def delete(self, key: Key) -> None:
        await self._admin.delete(key)
        await self._mirror.shows_no_more(key)


@asynccontextmanager
async def real_stage(connection: Connection) -> AsyncIterator[LoopStage]:
    """A stage in a new namespace, which is left to the server's end."""
    namespace = f"faults-{uuid4().hex[:10]}"
    await connection.call("make a namespace", "POST", "/api/v1/namespaces", body={"metadata": {"name": namespace}})
    async with Mirror(connection, namespace) as mirror:
        clock = Clock()
        calls = Interfered(Shown(ApiServer(connection), mirror))
        world = World(MirroredAdmin(RealAdmin(connection), mirror), namespace, clock.now, works)
        yield LoopStage(
            mirror,
            world,
            calls,
            clock,
            lambda: OperatorOnTwin(mirror, calls, PLANNERS, clock),
        )


async def run_for_real(
    scenario: Scenario, connection: Connection, interfere: Interference[object] | None = None
) -> Outcome:
    """The scenario in a namespace of its own, which the outcome does not tell. Its own writes alone are disturbed."""
    async with real_stage(connection) as stage:
        if scenario.after is not None:
            await play(scenario.after, stage)
            stage.calls.writes.clear()
        if interfere is not None:
            stage.calls.interfere = interfere
        await play(scenario, stage)
        outcome = await outcome_of(stage)
        text = json.dumps(outcome.state).replace(stage.world.namespace, NAMESPACE)
        return replace(outcome, state=json.loads(text))
