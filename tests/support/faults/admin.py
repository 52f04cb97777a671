"""What users and controllers may do to a cluster, narrow enough for the twin and for a real API server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Protocol

from slipway.api.errors import NotFound
from slipway.api.kinds import Key, Kind, Object
from slipway.cluster.twin import Twin


class Admin(Protocol):
    """An administrator's access. Objects that are given are never changed, those returned are the caller's own."""

    async def get(self, key: Key) -> Object | None: ...

    async def list(self, kind: Kind, namespace: str) -> Sequence[Object]:
        """All objects of a namespaced kind in the namespace."""
        ...

    async def create(self, obj: Object) -> Object:
        """With its status, where it has one. uid and resourceVersion in the metadata are ignored."""
        ...

    async def edit(self, key: Key, change: Callable[[Object], None]) -> object:
        """Alter anything but the status; again, on what is there then, where another user was faster."""
        ...

    async def set_status(self, key: Key, status: Object) -> object:
        """Replace the fields that are given of the status; what is gone stays gone."""
        ...

    async def delete(self, key: Key) -> None:
        """In the background and at once (no grace period); what is gone stays gone."""
        ...


class TwinAdmin:
    """The twin's own side of users and controllers."""

    def __init__(self, twin: Twin) -> None:
        self._twin = twin

    async def get(self, key: Key) -> Object | None:
        try:
            return await self._twin.get(key)
        except NotFound:
            return None

    async def list(self, kind: Kind, namespace: str) -> Sequence[Object]:
        return await self._twin.list(kind, namespace)

    async def create(self, obj: Object) -> Object:
        return self._twin.add(obj)

    async def edit(self, key: Key, change: Callable[[Object], None]) -> None:
        self._twin.edit(key, change)

    async def set_status(self, key: Key, status: Object) -> None:
        def change(obj: Object) -> None:
            obj["status"] = {**obj.get("status", {}), **deepcopy(status)}

        try:
            self._twin.edit(key, change)
        except NotFound:
            return

    async def delete(self, key: Key) -> None:
        try:
            self._twin.remove(key)
        except NotFound:
            return
