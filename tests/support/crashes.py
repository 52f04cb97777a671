"""A Cluster that kills its process (SIGKILL) at a chosen write: the crash that no code of the operator prepares for."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn, Self

from slipway.api.kinds import Key, Kind, Object
from slipway.cluster.port import Cluster


@dataclass(frozen=True)
class CrashPoint:
    """Where to die: before or after (its answer then is lost) the n-th write of a verb on a kind; `*` is any."""

    when: Literal["before", "after"]
    verb: str  # create, apply, patch_status, delete
    kind: str
    number: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `before:create:Job:1`."""
        when, verb, kind, number = text.split(":")
        assert when in ("before", "after"), text
        return cls("before" if when == "before" else "after", verb, kind, int(number))


class Crashing:
    """Passes every call on, and dies at the crash point."""

    def __init__(self, cluster: Cluster, point: CrashPoint) -> None:
        self._cluster = cluster
        self._point = point
        self._met = 0

    async def get(self, key: Key) -> Object:
        return await self._cluster.get(key)

    async def list(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Sequence[Object]:
        return await self._cluster.list(kind, namespace, labels)

    async def create(self, obj: Object) -> Object:
        fatal = self._fatal("create", obj["kind"])
        answer = await self._cluster.create(obj)
        return answer if not fatal else _die()

    async def apply(self, obj: Object) -> Object:
        fatal = self._fatal("apply", obj["kind"])
        answer = await self._cluster.apply(obj)
        return answer if not fatal else _die()

    async def patch_status(self, key: Key, resource_version: str, patch: Object) -> Object:
        fatal = self._fatal("patch_status", key.kind.kind)
        answer = await self._cluster.patch_status(key, resource_version, patch)
        return answer if not fatal else _die()

    async def delete(self, key: Key, *, uid: str, resource_version: str) -> Object | None:
        fatal = self._fatal("delete", key.kind.kind)
        answer = await self._cluster.delete(key, uid=uid, resource_version=resource_version)
        return answer if not fatal else _die()

    def _fatal(self, verb: str, kind: str) -> bool:
        """Whether to die once the write is done; dies at once where the point is before it."""
        point = self._point
        if point.verb not in ("*", verb) or point.kind not in ("*", kind):
            return False
        self._met += 1
        if self._met != point.number:
            return False
        return True if point.when == "after" else _die()


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL returned")
