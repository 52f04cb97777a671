"""Clusters put round another one: to record its writes, and to make one of them fail or be a crash."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from slipway.api.kinds import Key, Kind, Object, key_of
from slipway.cluster.port import Cluster

T = TypeVar("T")


class Write(NamedTuple):
    """One write: verb, and the kind and name of its object."""

    verb: str
    kind: str
    name: str


class Crash(BaseException):
    """The operator died here: nothing may catch it."""


Interference = Callable[[int, Write, Callable[[], Awaitable[T]]], Awaitable[T]]
"""What becomes of the n-th write (from 1): it calls the third argument, or not, or not only."""


async def _undisturbed(_number: int, _write: Write, call: Callable[[], Awaitable[T]]) -> T:
    return await call()


@dataclass
class Interfered:
    """Passes reads on, and hands every write to `interfere`."""

    cluster: Cluster
    interfere: Interference = _undisturbed
    writes: list[Write] = field(default_factory=list)

    async def get(self, key: Key) -> Object:
        return await self.cluster.get(key)

    async def list(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Sequence[Object]:
        return await self.cluster.list(kind, namespace, labels)

    async def create(self, obj: Object) -> Object:
        return await self._write("create", key_of(obj), lambda: self.cluster.create(obj))

    async def apply(self, obj: Object) -> Object:
        return await self._write("apply", key_of(obj), lambda: self.cluster.apply(obj))

    async def patch_status(self, key: Key, resource_version: str, patch: Object) -> Object:
        return await self._write("patch_status", key, lambda: self.cluster.patch_status(key, resource_version, patch))

    async def delete(self, key: Key, *, uid: str, resource_version: str) -> Object | None:
        return await self._write(
            "delete", key, lambda: self.cluster.delete(key, uid=uid, resource_version=resource_version)
        )

    async def _write(self, verb: str, key: Key, call: Callable[[], Awaitable[T]]) -> T:
        write = Write(verb, key.kind.kind, key.name)
        self.writes.append(write)
        return await self.interfere(len(self.writes), write, call)


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
