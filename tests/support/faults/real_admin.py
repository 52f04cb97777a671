"""An administrator of a real API server, as scenarios want one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from slipway.api.errors import AlreadyExists, Conflict, NotFound
from slipway.api.kinds import Key, Kind, Object, key_of
from slipway.cluster.apiserver import ApiServer, collection_path
from slipway.cluster.connection import Connection

_MERGE = "application/merge-patch+json"
_AT_ONCE = {
    "apiVersion": "v1",
    "kind": "DeleteOptions",
    "propagationPolicy": "Background",
    "gracePeriodSeconds": 0,
}


class RealAdmin:
    """Implements Admin. What is cluster-scoped belongs to all scenarios of a server: the first one makes it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._api = ApiServer(connection)

    async def get(self, key: Key) -> Object | None:
        try:
            return await self._api.get(key)
        except NotFound:
            return None

    async def list(self, kind: Kind, namespace: str) -> Sequence[Object]:
        return await self._api.list(kind, namespace)

    async def create(self, obj: Object) -> Object:
        key = key_of(obj)
        meta = {name: value for name, value in obj["metadata"].items() if name not in ("uid", "resourceVersion")}
        try:
            made = await self._api.create({**obj, "metadata": meta})
        except AlreadyExists:
            if key.kind.namespaced:
                raise
            return await self._api.get(key)
        return await self.set_status(key, obj["status"]) or made if "status" in obj else made

    async def edit(self, key: Key, change: Callable[[Object], None]) -> Object:
        while True:
            obj = await self._api.get(key)
            change(obj)
            try:
                answer: Object = await self._connection.call(f"edit {key.name}", "PUT", _path(key), body=obj)
            except Conflict:
                continue
            return answer

    async def set_status(self, key: Key, status: Object) -> Object | None:
        path, body = f"{_path(key)}/status", {"status": status}
        what = f"set the status of {key.name}"
        try:
            answer: Object = await self._connection.call(what, "PATCH", path, body=body, content_type=_MERGE)
        except NotFound:
            return None
        return answer

    async def delete(self, key: Key) -> None:
        try:
            await self._connection.call(f"delete {key.name}", "DELETE", _path(key), body=_AT_ONCE)
        except NotFound:
            return


def _path(key: Key) -> str:
    return f"{collection_path(key.kind, key.namespace if key.kind.namespaced else None)}/{key.name}"
