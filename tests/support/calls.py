"""Clusters put round another one: to record its writes, and to make one of them fail or be a crash."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from slipway.api.kinds import Key, Object
from slipway.cluster.port import Cluster, ClusterMiddleware, Write

T = TypeVar("T")


class Crash(BaseException):
    """The operator died here: nothing may catch it."""


Interference = Callable[[int, Write, Callable[[], Awaitable[T]]], Awaitable[T]]
"""What becomes of the n-th write (from 1): it calls the third argument, or not, or not only."""


async def _undisturbed(_number: int, _write: Write, call: Callable[[], Awaitable[T]]) -> T:
    return await call()


class Interfered(ClusterMiddleware):
    """Hands every write to `interfere`, and every get to `interfere_get`, which are counted apart.

    writes: those that were asked for, oldest first.
    """

    def __init__(self, cluster: Cluster, interfere: Interference[Any] = _undisturbed) -> None:
        super().__init__(cluster)
        self.interfere = interfere
        self.interfere_get: Interference[Any] = _undisturbed
        self.writes: list[Write] = []
        self.gets = 0

    async def write(self, write: Write, call: Callable[[], Awaitable[T]], /) -> T:
        self.writes.append(write)
        return await self.interfere(len(self.writes), write, call)

    async def get(self, key: Key) -> Object:
        self.gets += 1
        read = Write("get", key.kind.kind, key.name)
        answer: Object = await self.interfere_get(self.gets, read, lambda: super(Interfered, self).get(key))
        return answer


def crash_before(number: int) -> Interference[object]:
    async def interfere(count: int, _write: Write, call: Callable[[], Awaitable[T]]) -> T:
        if count == number:
            raise Crash
        return await call()

    return interfere


def crash_after(number: int) -> Interference[object]:
    async def interfere(count: int, _write: Write, call: Callable[[], Awaitable[T]]) -> T:
        answer = await call()
        if count == number:
            raise Crash
        return answer

    return interfere


def fail(number: int, error: Exception, *, carried_out: bool = False) -> Interference[object]:
    """The n-th write raises; carried_out: although it was done, as when its answer is lost."""

    async def interfere(count: int, _write: Write, call: Callable[[], Awaitable[T]]) -> T:
        if count == number:
            if carried_out:
                await call()
            raise error
        return await call()

    return interfere
