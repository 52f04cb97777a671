"""The work queue of keys, with the semantics of client-go's workqueue.

A key is queued once, even if it is added several times, and only one worker at a time has it. A key that is added while
a worker has it is queued again after `done`. Failed keys are retried with exponential back-off, without jitter: there
is one process with one queue.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from typing import Protocol

from slipway.api.kinds import Key


class QueueMetrics(Protocol):
    """The metrics of a queue."""

    def added(self, key: Key, /) -> None:
        """Record that a key waits for a worker."""
        ...

    def taken(self, key: Key, /, waited_seconds: float) -> None: ...

    def done(self, key: Key, /, worked_seconds: float) -> None: ...

    def retried(self, key: Key, /) -> None: ...


class NoMetrics:
    """Metrics that record nothing."""

    def added(self, key: Key, /) -> None:
        pass

    def taken(self, key: Key, /, waited_seconds: float) -> None:
        pass

    def done(self, key: Key, /, worked_seconds: float) -> None:
        pass

    def retried(self, key: Key, /) -> None:
        pass


class WorkQueue:
    """A queue of keys that wait for a worker, now or after a delay. All calls must come from one event loop.

    time: a monotonic clock in seconds. base_seconds, max_seconds: the first and the longest back-off; it doubles.
    """

    def __init__(
        self,
        time: Callable[[], float],
        *,
        base_seconds: float = 0.25,
        max_seconds: float = 300.0,
        metrics: QueueMetrics | None = None,
    ) -> None:
        self._time = time
        self._base_seconds = base_seconds
        self._max_seconds = max_seconds
        self._metrics = metrics or NoMetrics()
        self._ready: deque[Key] = deque()
        self._waiting: dict[Key, float] = {}  # key -> when it was added; exactly the keys in _ready
        self._working: dict[Key, float] = {}  # key -> when a worker took it
        self._dirty: set[Key] = set()  # added while a worker had it
        self._due: dict[Key, float] = {}  # delayed adds, the earliest of each key
        self._heap: list[tuple[float, int, Key]] = []  # the entries of _due, and outdated ones
        self._pushed = 0  # breaks ties in the heap: a Key has no order
        self._failures: dict[Key, int] = {}
        self._idle: deque[asyncio.Future[None]] = deque()  # one for each worker that waits
        self._closed = False

    def __len__(self) -> int:
        """Return the number of keys that wait for a worker now."""
        return len(self._ready)

    def now(self) -> float:
        """Return the current time of the queue's clock, in seconds."""
        return self._time()

    @property
    def working(self) -> int:
        """The number of keys that a worker has."""
        return len(self._working)

    def add(self, key: Key) -> None:
        if key in self._working:
            self._dirty.add(key)
        elif key not in self._waiting:
            self._waiting[key] = self._time()
            self._ready.append(key)
            self._metrics.added(key)
            self._wake_one()

    def add_after(self, key: Key, seconds: float) -> None:
        """Add a key after a delay; the earliest of several delays applies. Taking the key cancels its delay."""
        if seconds <= 0:
            self.add(key)
            return
        due = self._time() + seconds
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._pushed += 1
            heapq.heappush(self._heap, (due, self._pushed, key))
            self._wake_one()  # the worker sleeps until the earliest key is due, which may be this one now

    def retry(self, key: Key, at_least_seconds: float = 0.0) -> float:
        """Add it after its back-off, or after what the server asked for where that is longer; returns the wait."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        # Beyond 2**32 the limit holds anyway, and the power would overflow one day.
        wait = max(at_least_seconds, min(self._base_seconds * 2.0 ** min(failures, 32), self._max_seconds))
        self._metrics.retried(key)
        self.add_after(key, wait)
        return wait

    def forget(self, key: Key) -> None:
        """It went well: the next failure waits the shortest time again."""
        self._failures.pop(key, None)

    def take(self) -> Key | None:
        """The next key for a worker, who must call `done`; None where none is due."""
        self._promote()
        if not self._ready:
            return None
        key = self._ready.popleft()
        now = self._time()
        self._metrics.taken(key, now - self._waiting.pop(key))
        self._working[key] = now
        self._due.pop(key, None)
        return key

    async def get(self) -> Key | None:
        """Wait for the next key; None once the queue is closed."""
        while not self._closed:
            if (key := self.take()) is not None:
                if self._heap:
                    self._wake_one()  # another worker must wait for the next delayed key
                return key
            woken = asyncio.get_running_loop().create_future()
            self._idle.append(woken)
            try:
                async with asyncio.timeout(self.seconds_to_next()):
                    await woken
            except TimeoutError:
                continue
            finally:
                if not woken.done():
                    self._idle.remove(woken)
        return None

    def observed(self, key: Key) -> None:
        """Record that the worker reads the current state now: an earlier `add` needs no reconcile of its own.

        The events of the worker's own writes often come before the answers; otherwise each reconcile would cause one
        more.
        """
        self._dirty.discard(key)

    def done(self, key: Key) -> None:
        self._metrics.done(key, self._time() - self._working.pop(key))
        if key in self._dirty:
            self._dirty.discard(key)
            self.add(key)

    def seconds_to_next(self) -> float | None:
        """Return the seconds until the next delayed key is due; None if there is none."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return max(0.0, self._heap[0][0] - self._time()) if self._heap else None

    def close(self) -> None:
        """Let every `get` return None from now on; a worker finishes the key that it has."""
        self._closed = True
        while self._idle:
            self._wake_one()

    def _wake_one(self) -> None:
        """Wake one worker for one key: if all woke, all but one would find nothing."""
        while self._idle:
            if not (woken := self._idle.popleft()).done():
                woken.set_result(None)
                return

    def _promote(self) -> None:
        """Queue the delayed keys that are due."""
        while self.seconds_to_next() == 0.0:
            _, _, key = heapq.heappop(self._heap)
            del self._due[key]
            self.add(key)
