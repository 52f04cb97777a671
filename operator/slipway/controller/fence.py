"""Only a leader writes: the last check before each write, on the clock that decides who leads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from slipway.api.errors import ClusterError
from slipway.cluster.passing import Passing, Write
from slipway.cluster.port import Cluster

T = TypeVar("T")


class Fenced(Passing):
    """A Cluster that refuses every write once the Lease may be somebody else's: after a stop (SIGSTOP), say."""

    def __init__(self, cluster: Cluster, may_write: Callable[[], bool]) -> None:
        super().__init__(cluster)
        self._may_write = may_write

    async def write(self, _write: Write, call: Callable[[], Awaitable[T]], /) -> T:
        if not self._may_write():
            raise ClusterError("the Lease was not renewed in time: this process leads no longer, and writes nothing")
        return await call()
