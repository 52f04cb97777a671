"""An event loop in a thread of its own, for what a test talks to over the network."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class OtherLoop:
    """Runs coroutines in that thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def run(self, what: Coroutine[Any, Any, T], seconds: float = 30) -> T:
        """Its result, from the test's own thread. Raises TimeoutError."""
        return self.start(what).result(seconds)

    def start(self, what: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(what, self._loop)

    def call(self, what: Callable[[], object]) -> None:
        """Soon, there."""
        self._loop.call_soon_threadsafe(what)


@contextmanager
def loop_in_thread() -> Iterator[OtherLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield OtherLoop(loop)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        # An async generator that was cut must not be ended by the collector, in the midst of something else.
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
