"""The port to Kubernetes: every call that Slipway makes of a cluster, narrow enough to implement twice.

Two sides: `apiserver.ApiServer` (kubernetes.aio) and `twin.Twin` (in memory, for dry runs, local runs and tests).
tests/contract runs one suite on both. They raise only `slipway.api.errors.ClusterError` and its subclasses.
Watching is not part of the port: watches feed `reconcile.cache` themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from slipway.api.errors import Forbidden, NotFound
from slipway.api.kinds import Key, Kind, Object, key_of

FIELD_MANAGER = "slipway"

T = TypeVar("T")

ABSENT = "1"
"""As metadata.resourceVersion of an apply: create the object, only if none of that name exists.

etcd counts from 1, so no object ever has that version, and an apply onto another one is a Conflict.
"""


class Reader(Protocol):
    """A source of objects: a cluster, or the files of a local run."""

    async def get(self, key: Key) -> Object:
        """Return the object. Raises NotFound."""
        ...

    async def list(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Sequence[Object]:
        """Return all objects of a kind, in one namespace or in all, with these labels. Items carry their kind."""
        ...


class Cluster(Reader, Protocol):
    """A Kubernetes API server, or a twin of one. Calls never change their arguments."""

    async def create(self, obj: Object) -> Object:
        """POST; returns the object as stored. Raises AlreadyExists, Invalid, Forbidden."""
        ...

    async def apply(self, obj: Object) -> Object:
        """Server-side apply as FIELD_MANAGER, forced; creates the object if it is missing.

        With metadata.resourceVersion set, only onto that version (see ABSENT); with metadata.uid as well, never
        creating. Raises Conflict, Invalid, Forbidden.
        """
        ...

    async def patch_status(self, key: Key, resource_version: str, patch: Object) -> Object:
        """Patch the status subresource by a JSON merge patch (RFC 7386), only at that version.

        patch: what goes below `status`. Raises Conflict, NotFound, Invalid.
        """
        ...

    async def delete(self, key: Key, *, uid: str, resource_version: str) -> Object | None:
        """Delete in the background, only that object at that version.

        Returns the object if a finalizer or grace period still keeps it, else None. Raises Conflict and NotFound.
        """
        ...


async def look_up(cluster: Reader, key: Key) -> Object | None:
    """Return the object, or None if it does not exist."""
    try:
        return await cluster.get(key)
    except NotFound:
        return None


async def gather_calls(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await several calls at once and return their answers in order.

    Raises the first error when all other calls have ended: none of them is left on a closed session.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return [task.result() for task in tasks]


class Write(NamedTuple):
    """One write: verb (create, apply, patch_status, delete), and the kind and name of its object."""

    verb: str
    kind: str
    name: str


class ClusterMiddleware:
    """A Cluster around another one: reads pass, and every write goes through `write`, which subclasses override."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def write(self, _write: Write, call: Callable[[], Awaitable[T]], /) -> T:
        """Execute the write by `call` and return its answer."""
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


class ReadOnly(ClusterMiddleware):
    """Refuses every write, for commands that only read."""

    async def write(self, write: Write, _call: Callable[[], Awaitable[T]], /) -> T:
        raise Forbidden(f"{write.verb} {write.kind} {write.name}: this command only reads")


def _write(verb: str, key: Key) -> Write:
    return Write(verb, key.kind.kind, key.name)
