"""Watches that are late, uneven, forgetful or repeat themselves: what an operator hears of the changes, and when.

Each kind has a watch of its own: order holds within a kind alone.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from random import Random

from slipway.api.kinds import Kind, kind_of
from slipway.cluster.twin import Twin, WatchEvent
from slipway.reconcile.planners import PLANNERS
from support.calls import Interfered
from support.faults.twin_stage import Life
from support.loop_on_twin import AtOnce, Clock, Delivery, OperatorOnTwin


class Late(AtOnce):
    """Every change is delivered a number of turns after it happened, or when there is nothing else to do."""

    def __init__(self, turns: int) -> None:
        self._turns = turns
        self._now = 0
        self._held: deque[tuple[int, WatchEvent]] = deque()

    def due(self, happened: list[WatchEvent], *, quiet: bool) -> list[WatchEvent]:
        self._now += 1
        self._held.extend((self._now + self._turns, change) for change in happened)
        delivered = []
        while self._held and (quiet or self._held[0][0] <= self._now):
            delivered.append(self._held.popleft()[1])
        return delivered


class Uneven:
    """Each kind's watch is as far as chance has it; even a quiet operator may not have got all."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._held: defaultdict[Kind, deque[WatchEvent]] = defaultdict(deque)

    def due(self, happened: list[WatchEvent], *, quiet: bool) -> list[WatchEvent]:
        for change in happened:
            self._held[kind_of(change.object)].append(change)
        delivered: list[WatchEvent] = []
        for held in self._held.values():
            delivered += [held.popleft() for _ in range(self._random.randint(0, len(held)))]
        return delivered

    def rest(self) -> list[WatchEvent]:
        delivered = [change for held in self._held.values() for change in held]
        self._held.clear()
        return delivered


class Repeating(AtOnce):
    """With each change some old ones are delivered again, as when a watch begins again at an old version."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._history: list[WatchEvent] = []

    def due(self, happened: list[WatchEvent], *, quiet: bool) -> list[WatchEvent]:
        delivered = []
        for change in happened:
            self._history.append(change)
            delivered += [change, *self._random.sample(self._history, min(3, len(self._history)))]
        return delivered


class Forgetful(AtOnce):
    """No deletion is delivered: a list that follows must notice what is gone."""

    def due(self, happened: list[WatchEvent], *, quiet: bool) -> list[WatchEvent]:
        return [change for change in happened if change.type != "DELETED"]


class Relisting(OperatorOnTwin):
    """Lists everything again whenever it is quiet."""

    async def settle(self, *, up_to_seconds: float = 0.0) -> int:
        turns = 0
        while True:
            turns += await super().settle(up_to_seconds=up_to_seconds)
            if not await self.relist():
                return turns


def hearing(delivery: Callable[[], Delivery], operator: type[OperatorOnTwin] = OperatorOnTwin) -> Life:
    """Operators that hear of changes by it. delivery: makes one for each life."""

    def life(twin: Twin, calls: Interfered, clock: Clock) -> OperatorOnTwin:
        return operator(twin, calls, PLANNERS, clock, delivery=delivery())

    return life
