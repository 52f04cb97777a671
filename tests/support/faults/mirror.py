"""One namespace of a real API server as its watches show it: to a scenario it is what the twin is.

A write is answered to its caller only when the watches have shown it, and all changes are told in the order in which
they were made. So a scenario goes on as fast as the server can, and the same way each time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from copy import deepcopy
from typing import Any, Self, TypeVar

import aiohttp

from slipway.api.kinds import WATCHED, Key, Kind, Object, key_of
from slipway.cluster.apiserver import ApiServer, collection_path
from slipway.cluster.connection import Connection
from slipway.cluster.port import ClusterMiddleware, Write
from slipway.cluster.twin import WatchEvent

T = TypeVar("T")
LIMIT_SECONDS = 30
_KINDS: Mapping[str, Kind] = {kind.kind: kind for kind in WATCHED}


class Mirror(AbstractAsyncContextManager["Mirror"]):
    """Its watches begin with the block and end with it."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self.namespace = namespace
        self.objects: dict[Key, Object] = {}
        self._connection = connection
        self._listeners: list[Callable[[WatchEvent], None]] = []
        self._delivered: list[WatchEvent] = []
        self._shown: dict[Key, int] = {}
        self._moved = asyncio.Condition()
        self._watches: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._session = self._connection.session(read_bufsize=2**21, timeout=aiohttp.ClientTimeout(total=None))
        listed = asyncio.gather(*(self._list(kind) for kind in WATCHED))
        self._watches = [
            asyncio.create_task(self._watch(kind, version)) for kind, version in zip(WATCHED, await listed, strict=True)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        await self._session.close()

    def subscribe(self, listener: Callable[[WatchEvent], None]) -> None:
        self._listeners.append(listener)

    async def list(self, kind: Kind) -> Sequence[Object]:
        """All that the watches have shown of a kind; as the twin's, it costs no call."""
        return [deepcopy(obj) for key, obj in sorted(self.objects.items(), key=_place) if key.kind == kind]

    async def shows(self, obj: Object) -> None:
        """Returns when the watches have shown the object as it was answered."""
        key, version = key_of(obj), int(obj["metadata"]["resourceVersion"])
        await self._until(lambda: self._shown.get(key, 0) >= version)

    async def shows_no_more(self, key: Key) -> None:
        """Returns when the watches have shown that what had this name at the time of the call is gone."""
        uid = self.objects[key]["metadata"]["uid"] if key in self.objects else ""
        await self._until(lambda: key not in self.objects or self.objects[key]["metadata"]["uid"] != uid)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_SECONDS), self._moved:
            await self._moved.wait_for(condition)
        delivered, self._delivered = sorted(self._delivered, key=lambda change: _version(change.object)), []
        for change in delivered:
            for listener in self._listeners:
                listener(change)

    def _path(self, kind: Kind) -> str:
        return collection_path(kind, self.namespace if kind.namespaced else None)

    async def _list(self, kind: Kind) -> str:
        answer = await self._connection.call(f"list {kind}", "GET", self._path(kind))
        for item in answer["items"]:
            item.update(apiVersion=kind.api_version, kind=kind.kind)
            self.objects[key_of(item)] = item
            self._shown[key_of(item)] = _version(item)
        return str(answer["metadata"]["resourceVersion"])

    async def _watch(self, kind: Kind, version: str) -> None:
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "3600"}
        async with self._session.get(f"{self._connection.host}{self._path(kind)}", params=query) as answer:
            try:
                async for line in answer.content:
                    await self._event(json.loads(line))
            finally:  # a TLS connection that is only closed says goodbye for longer than the loop lives
                if answer.connection is not None and answer.connection.transport is not None:
                    answer.connection.transport.abort()

    async def _event(self, event: Any) -> None:
        obj: Object = event["object"]
        key = key_of(obj)
        async with self._moved:
            if event["type"] == "DELETED":
                self.objects.pop(key, None)
            else:
                self.objects[key] = obj
            self._shown[key] = _version(obj)
            self._delivered.append(WatchEvent(event["type"], deepcopy(obj)))
            self._moved.notify_all()


class Shown(ClusterMiddleware):
    """Answers a write when the mirror shows it: to be put round the API server, inside of what makes writes fail."""

    def __init__(self, api: ApiServer, mirror: Mirror) -> None:
        super().__init__(api)
        self._mirror = mirror

    async def write(self, write: Write, call: Callable[[], Awaitable[T]], /) -> T:
        answer = await call()
        kind = _KINDS.get(write.kind)
        if kind is None:  # an Event
            return answer
        if isinstance(answer, dict):
            await self._mirror.shows(answer)
        else:
            await self._mirror.shows_no_more(Key(kind, self._mirror.namespace, write.name))
        return answer


def _place(item: tuple[Key, Object]) -> tuple[str, str]:
    return item[0].namespace, item[0].name


def _version(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])
