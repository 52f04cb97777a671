"""Only a leader writes: the last check before each write, on the clock that decides who leads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from slipway.api.errors import ClusterError
from slipway.api.kinds import Key, Kind, Object
from slipway.cluster.port import Cluster


class Fenced:
    """A Cluster that refuses every write once the Lease may be somebody else's: after a stop (SIGSTOP), say."""

    def __init__(self, cluster: Cluster, may_write: Callable[[], bool]) -> None:
        self._cluster = cluster
        self._may_write = may_write

    async def get(self, key: Key) -> Object:
        return await self._cluster.get(key)

    async def list(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Sequence[Object]:
        return await self._cluster.list(kind, namespace, labels)

    async def create(self, obj: Object) -> Object:
        self._check()
        return await self._cluster.create(obj)

    async def apply(self, obj: Object) -> Object:
        self._check()
        return await self._cluster.apply(obj)

    async def patch_status(self, key: Key, resource_version: str, patch: Object) -> Object:
        self._check()
        return await self._cluster.patch_status(key, resource_version, patch)

    async def delete(self, key: Key, *, uid: str, resource_version: str) -> Object | None:
        self._check()
        return await self._cluster.delete(key, uid=uid, resource_version=resource_version)

    def _check(self) -> None:
        if not self._may_write():
            raise ClusterError("the Lease was not renewed in time: this process leads no longer, and writes nothing")
