"""A Cluster that kills its process (SIGKILL) at a chosen write: the crash that no code of the operator prepares for."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, NoReturn, Self, TypeVar

from slipway.cluster.port import Cluster, ClusterMiddleware, Write

T = TypeVar("T")


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


class Crashing(ClusterMiddleware):
    """Passes every call on, and dies at the crash point."""

    def __init__(self, cluster: Cluster, point: CrashPoint) -> None:
        super().__init__(cluster)
        self._point = point
        self._met = 0

    async def write(self, write: Write, call: Callable[[], Awaitable[T]], /) -> T:
        fatal = self._fatal(write.verb, write.kind)
        answer = await call()
        return answer if not fatal else _die()

    def _fatal(self, verb: str, kind: str) -> bool:
        """Return True if to die once the write is done; dies at once where the point is before it."""
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
