"""A watchdog for slow plans: a planner does not wait, so while it runs the event loop serves no other key.

The cost of a plan is bounded for text that users write (deployment/params.py). For all other causes the log of an
operator that does not answer names the resource, while its plan still runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from time import perf_counter

from slipway.api.kinds import Key
from slipway.reconcile.log import NO_LOG, Log

LONGEST_SECONDS = 1.0
"""Limit above which a plan is logged as slow; a usual plan takes milliseconds, also with thousands of objects."""


class Watchdog:
    """Logs plans that take longer than the limit: once while they run, and once when they end.

    slow: called in the loop with the key and the seconds of each such plan. While a plan runs, nothing is logged
    without `start`, or if a call in C holds the interpreter's lock.
    """

    def __init__(
        self,
        limit_seconds: float = LONGEST_SECONDS,
        slow: Callable[[Key, float], None] | None = None,
        log: Log = NO_LOG,
    ) -> None:
        self._limit_seconds, self._slow, self._log = limit_seconds, slow, log
        self._held: tuple[Key, float] | None = None  # replaced as one object: the thread reads it
        self._stopped = Event()

    def start(self) -> None:
        """Watch from another thread until `stop`: a blocked loop cannot log."""
        Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    @contextmanager
    def holding(self, key: Key) -> Iterator[None]:
        """Mark the block as the plan of this key."""
        started = perf_counter()
        self._held = (key, started)
        try:
            yield
        finally:
            self._held = None
            seconds = perf_counter() - started
            if seconds > self._limit_seconds:
                self._log.warning("planning held the loop", seconds=round(seconds, 3), **_named(key))
                if self._slow is not None:
                    self._slow(key, seconds)

    def _watch(self) -> None:
        logged: tuple[Key, float] | None = None
        while not self._stopped.wait(self._limit_seconds / 2):
            held = self._held
            if held is None or held == logged:
                continue
            key, started = held
            if (seconds := perf_counter() - started) > self._limit_seconds:
                logged = held
                self._log.error(
                    "planning holds the loop; nothing else is served", seconds=round(seconds, 3), **_named(key)
                )


def _named(key: Key) -> dict[str, str]:
    return {"kind": key.kind.kind, "namespace": key.namespace, "name": key.name}
