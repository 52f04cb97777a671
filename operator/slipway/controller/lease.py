"""Leader election by a Lease, after client-go's: the process that renews the Lease leads, and only it may write.

Clocks of other machines are not used: a Lease expires when it stays unchanged for its whole duration, measured by our
own monotonic clock. Every write carries the resourceVersion that was read.
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
from slipway.cluster.port import ABSENT, Cluster, ClusterMiddleware, Write

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Terms:
    """Times in seconds.

    A standby replaces a dead leader after at most duration + 2 * look_every, and one that released after look_every.
    """

    duration: float = 12.0
    """Age of an unchanged Lease at which another candidate may take it."""
    renew_within: float = 9.0
    """Time without a renewal after which a leader stops, well before another candidate may lead."""
    renew_every: float = 2.0
    """Interval of renewals; a call has a shorter time limit, so that the next try is on time."""
    look_every: float = 1.0
    """Interval at which a standby reads the Lease."""


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
        self._lease: Object | None = None
        self._changed_at = 0.0
        self._renewed_at: float | None = None  # when the last renewal that succeeded was sent
        self._leaving = False

    @property
    def holds(self) -> bool:
        """True while this process may write: no other candidate can have taken the Lease yet."""
        return self._renewed_at is not None and self._time() - self._renewed_at < self._terms.renew_within

    async def acquire(self) -> None:
        """Return when this candidate leads. Errors of the API server are retried."""
        reported = None
        while not await self._try_to_hold():
            holder = self._lease.get("spec", {}).get("holderIdentity") if self._lease else None
            if holder != reported:
                reported = holder
                log.info("standing by", leader=holder)
            await asyncio.sleep(self._terms.look_every)
        log.info("leading", identity=self._identity)

    async def keep(self) -> None:
        """Renew the Lease, and return when it is lost, by time or to another candidate."""
        while self.holds:
            await asyncio.sleep(self._terms.renew_every)
            if self._leaving:
                await asyncio.Event().wait()  # until the process ends: a released Lease is not lost
            if not await self._try_to_hold() and self._holder() not in (self._identity, None):
                log.error("another process leads", leader=self._holder())
                break
        self._renewed_at = None

    async def release(self) -> None:
        """Release the Lease, so that a standby need not wait until it expires."""
        self._leaving = True
        if self._renewed_at is None or self._lease is None:
            return
        self._renewed_at = None
        try:
            async with asyncio.timeout(self._terms.renew_every):
                await self._write(self._lease, holder="")
        except (ClusterError, TimeoutError) as error:
            log.warning("could not release the Lease", error=str(error))

    async def _try_to_hold(self) -> bool:
        """Take or renew the Lease if this candidate may, and return whether it holds the Lease now."""
        sent = self._time()
        try:
            async with asyncio.timeout(0.9 * self._terms.renew_every):
                if self._lease is None or self._holder() != self._identity:
                    await self._read()
                if not self._may_take():
                    return False
                self._record(await self._write(self._lease, holder=self._identity))
        except Conflict:
            self._lease = None  # another candidate was faster, or an answer was lost: read it again
            return False
        except (ClusterError, TimeoutError) as error:
            log.warning("could not read or write the Lease", error=str(error) or "no answer in time")
            return False
        self._renewed_at = sent
        return True

    async def _read(self) -> None:
        try:
            self._record(await self._cluster.get(self._key))
        except NotFound:
            self._lease = None

    def _record(self, lease: Object) -> None:
        before = self._lease["metadata"]["resourceVersion"] if self._lease else None
        if lease["metadata"]["resourceVersion"] != before:
            self._changed_at = self._time()
        self._lease = lease

    def _holder(self) -> str | None:
        return self._lease.get("spec", {}).get("holderIdentity") or None if self._lease else None

    def _may_take(self) -> bool:
        if self._lease is None or self._holder() in (None, self._identity):
            return True
        duration = float(self._lease.get("spec", {}).get("leaseDurationSeconds") or self._terms.duration)
        return self._time() - self._changed_at >= duration

    async def _write(self, lease: Object | None, *, holder: str) -> Object:
        spec = lease.get("spec", {}) if lease else {}
        now = self._clock().astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        taken = holder != "" and spec.get("holderIdentity") != holder
        version = (
            {f: lease["metadata"][f] for f in ("uid", "resourceVersion")} if lease else {"resourceVersion": ABSENT}
        )
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


class LeaderFenced(ClusterMiddleware):
    """Refuses every write once another process may hold the Lease: after a SIGSTOP, say."""

    def __init__(self, cluster: Cluster, may_write: Callable[[], bool]) -> None:
        super().__init__(cluster)
        self._may_write = may_write

    async def write(self, _write: Write, call: Callable[[], Awaitable[T]], /) -> T:
        if not self._may_write():
            raise ClusterError(
                "write refused: this process does not lead any more, as it did not renew the Lease in time"
            )
        return await call()
