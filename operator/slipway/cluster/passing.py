"""A Cluster put round another one: reads pass, and every write goes through one method."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from slipway.api.errors import Forbidden
from slipway.api.kinds import Key, Kind, Object, key_of
from slipway.cluster.port import Cluster

T = TypeVar("T")


class Write(NamedTuple):
    """One write: verb (create, apply, patch_status, delete), and the kind and name of its object."""

    verb: str
    kind: str
    name: str


class Passing:
    """Passes every call on; who extends it says in `write` what becomes of a write."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def write(self, _write: Write, call: Callable[[], Awaitable[T]], /) -> T:
        """Carries the write out by calling `call`; its answer is that of the write."""
        return await call()

    async def get(self, key: Key) -> Object:
        return await self._cluster.get(key)

    async def list(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Sequence[Object]:
        return await self._cluster.list(kind, namespace, labels)

    async def create(self, obj: Object) -> Object:
        return await self.write(_write("create", key_of(obj)), lambda: self._cluster.create(obj))

    async def apply(self, obj: Object) -> Object:
        return await self.write(_write("apply", key_of(obj)), lambda: self._cluster.apply(obj))

    async def patch_status(self, key: Key, resource_version: str, patch: Object) -> Object:
        return await self.write(
            _write("patch_status", key), lambda: self._cluster.patch_status(key, resource_version, patch)
        )

    async def delete(self, key: Key, *, uid: str, resource_version: str) -> Object | None:
        return await self.write(
            _write("delete", key), lambda: self._cluster.delete(key, uid=uid, resource_version=resource_version)
        )


class ReadOnly(Passing):
    """Refuses every write: for commands that promise to make none."""

    async def write(self, write: Write, _call: Callable[[], Awaitable[T]], /) -> T:
        raise Forbidden(f"{write.verb} {write.kind} {write.name}: this command only reads")


def _write(verb: str, key: Key) -> Write:
    return Write(verb, key.kind.kind, key.name)
