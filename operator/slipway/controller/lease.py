"""Leader election by a Lease, after client-go's: the process that renews the Lease leads, and only it may write.

No clock of another machine is trusted: a Lease is expired when it was seen unchanged for its whole duration, by our own
monotonic clock. Every write carries the resourceVersion that was seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import structlog

from slipway.api.errors import ClusterError, Conflict, NotFound
from slipway.api.kinds import LEASE, Key, Object
from slipway.cluster.port import ABSENT, Cluster, Passing, Write

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Terms:
    """Seconds. A leader that dies is followed after at most duration + 2 * look_every; one that leaves, look_every."""

    duration: float = 12.0
    """Unchanged for so long, the Lease is anybody's."""
    renew_within: float = 9.0
    """A leader that could not renew for so long stops: well before anybody else may lead."""
    renew_every: float = 2.0
    """A call takes less: the next try begins on time."""
    look_every: float = 1.0
    """How often a standby looks."""


class Election:
    """One candidate. time: a monotonic clock in seconds; clock: the wall clock, for people who read the Lease."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        identity: str,
        time: Callable[[], float],
        clock: Callable[[], datetime],
        terms: Terms | None = None,
    ) -> None:
        self._cluster = cluster
        self._key = Key(LEASE, namespace, name)
        self._identity = identity
        self._time = time
        self._clock = clock
        self._terms = terms or Terms()
        self._seen: Object | None = None
        self._seen_at = 0.0
        self._renewed_at: float | None = None  # when the last renewal that succeeded was sent
        self._leaving = False

    @property
    def holds(self) -> bool:
        """Whether we may write now: nobody else can have taken the Lease yet."""
        return self._renewed_at is not None and self._time() - self._renewed_at < self._terms.renew_within

    async def acquire(self) -> None:
        """Returns when this candidate leads. Errors of the API server are waited out."""
        told = None
        while not await self._tried():
            holder = self._seen.get("spec", {}).get("holderIdentity") if self._seen else None
            if holder != told:
                told = holder
                log.info("standing by", leader=holder)
            await asyncio.sleep(self._terms.look_every)
        log.info("leading", identity=self._identity)

    async def keep(self) -> None:
        """Renew until it fails: returns when the Lease is lost, by time or to somebody else."""
        while self.holds:
            await asyncio.sleep(self._terms.renew_every)
            if self._leaving:
                await asyncio.Event().wait()  # until the process ends: what is given back is not lost
            if not await self._tried() and self._holder() not in (self._identity, None):
                log.error("somebody else leads", leader=self._holder())
                break
        self._renewed_at = None

    async def release(self) -> None:
        """Give the Lease back, so that a standby need not wait for its end."""
        self._leaving = True
        if self._renewed_at is None or self._seen is None:
            return
        self._renewed_at = None
        try:
            async with asyncio.timeout(self._terms.renew_every):
                await self._write(self._seen, holder="")
        except (ClusterError, TimeoutError) as error:
            log.warning("could not release the Lease", error=str(error))

    async def _tried(self) -> bool:
        """Take or renew the Lease where that is due to us; whether we hold it now."""
        sent = self._time()
        try:
            async with asyncio.timeout(0.9 * self._terms.renew_every):
                if self._seen is None or self._holder() != self._identity:
                    await self._look()
                if not self._open_to_us():
                    return False
                self._saw(await self._write(self._seen, holder=self._identity))
        except Conflict:
            self._seen = None  # somebody was faster, or an answer to us was lost: look again
            return False
        except (ClusterError, TimeoutError) as error:
            log.warning("the Lease could not be read or written", error=str(error) or "no answer in time")
            return False
        self._renewed_at = sent
        return True

    async def _look(self) -> None:
        try:
            self._saw(await self._cluster.get(self._key))
        except NotFound:
            self._seen = None

    def _saw(self, lease: Object) -> None:
        before = self._seen["metadata"]["resourceVersion"] if self._seen else None
        if lease["metadata"]["resourceVersion"] != before:
            self._seen_at = self._time()
        self._seen = lease

    def _holder(self) -> str | None:
        return self._seen.get("spec", {}).get("holderIdentity") or None if self._seen else None

    def _open_to_us(self) -> bool:
        if self._seen is None or self._holder() in (None, self._identity):
            return True
        duration = float(self._seen.get("spec", {}).get("leaseDurationSeconds") or self._terms.duration)
        return self._time() - self._seen_at >= duration

    async def _write(self, seen: Object | None, *, holder: str) -> Object:
        spec = seen.get("spec", {}) if seen else {}
        now = self._clock().astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        taken = holder != "" and spec.get("holderIdentity") != holder
        version = {f: seen["metadata"][f] for f in ("uid", "resourceVersion")} if seen else {"resourceVersion": ABSENT}
        return await self._cluster.apply(
            {
                "apiVersion": LEASE.api_version,
                "kind": LEASE.kind,
                "metadata": {"namespace": self._key.namespace, "name": self._key.name, **version},
                "spec": {
                    "holderIdentity": holder,
                    "leaseDurationSeconds": int(self._terms.duration) if holder else 1,
                    "acquireTime": now if taken else spec.get("acquireTime", now),
                    "renewTime": now,
                    "leaseTransitions": spec.get("leaseTransitions", 0) + (1 if taken and spec else 0),
                },
            }
        )


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
