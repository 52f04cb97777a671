"""The port to Kubernetes: every call that Slipway makes of a cluster, narrow enough to be written twice.

Two sides: `apiserver.ApiServer` (kubernetes.aio) and `twin.Twin` (in memory, for dry runs, local runs and tests).
tests/contract holds both to one suite. Only errors of `slipway.api.errors.ClusterError` cross, and cancellation.
Watching is not part of the port: whoever feeds the cache calls `reconcile.cache` with the objects that it sees.
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
"""As metadata.resourceVersion of an apply: only where no object of that name exists.

etcd counts from 1, so no object ever has that version, and an apply onto another one is a Conflict.
"""


class Reader(Protocol):
    """What can be asked for objects: a cluster, or what a local run keeps on disk."""

    async def get(self, key: Key) -> Object:
        """Raises NotFound."""
        ...

    async def list(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Sequence[Object]:
        """All objects of a kind, in one namespace or in all; labels must be equal. Items carry apiVersion and kind."""
        ...


class Cluster(Reader, Protocol):
    """A Kubernetes API server, or what stands for one. Objects that are given are never changed."""

    async def create(self, obj: Object) -> Object:
        """POST; returns the object as stored. Raises AlreadyExists, Invalid, Forbidden."""
        ...

    async def apply(self, obj: Object) -> Object:
        """Server-side apply as FIELD_MANAGER, forced; creates the object where it is missing.

        With metadata.resourceVersion set, only onto that version (see ABSENT); with metadata.uid as well, never
        creating. Raises Conflict, Invalid, Forbidden.
        """
        ...

    async def patch_status(self, key: Key, resource_version: str, patch: Object) -> Object:
        """JSON merge patch (RFC 7386) of the status subresource, only onto that version.

        patch: what goes below `status`. Raises Conflict, NotFound, Invalid.
        """
        ...

    async def delete(self, key: Key, *, uid: str, resource_version: str) -> Object | None:
        """Delete in the background, only that object at that version.

        Returns the object where a finalizer or grace period still keeps it, None where it is gone.
        Raises Conflict; NotFound where it was gone before.
        """
        ...


async def look_up(cluster: Reader, key: Key) -> Object | None:
    """The object; None where there is none."""
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
