"""A TCP proxy that can hang (what was sent meanwhile arrives later, as when a network is fixed) or break off."""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from support.threads import OtherLoop, loop_in_thread

LINGER_SECONDS = 1.0
"""A client that is gone takes its last requests along where the server hears of it before it has answered them."""


class _Proxy:
    """Passes bytes on while `whole` is set; what it holds back goes on afterwards.

    allowance: bytes to the server until it hangs, or breaks every connection; None: as many as there are.
    """

    def __init__(self, url: str) -> None:
        self._target = urllib.parse.urlsplit(url)
        self._connections: set[asyncio.Task[None]] = set()
        self.whole = asyncio.Event()
        self.held = 0
        self.allowance: int | None = None
        self.breaks = False

    async def start(self) -> str:
        self.whole.set()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return f"{self._target.scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def cut(self) -> None:
        self.whole.clear()

    async def limit(self, allowance: int | None, breaks: bool) -> None:
        self.allowance, self.breaks = allowance, breaks

    async def restore(self) -> None:
        self.allowance = None
        self.whole.set()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self.whole.wait()
            answers, server = await asyncio.open_connection(self._target.hostname, self._target.port)
            back = asyncio.ensure_future(self._pass_on(answers, writer))
            try:
                await self._pass_on(reader, server, to_server=True)
                await asyncio.wait({back}, timeout=LINGER_SECONDS)
            finally:
                back.cancel()
                server.close()
        finally:
            writer.close()
            self._connections.discard(task)

    async def _pass_on(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, to_server: bool = False
    ) -> None:
        with suppress(ConnectionError):
            while part := await source.read(2**16):
                if to_server and self._used_up(len(part)):
                    if self.breaks:
                        return
                    self.whole.clear()
                if to_server and not self.whole.is_set():
                    self.held += len(part)
                    await self.whole.wait()
                target.write(part)
                await target.drain()

    def _used_up(self, count: int) -> bool:
        if self.allowance is None:
            return False
        self.allowance -= count
        return self.allowance < 0


class Cable:
    """The way to a server at `url`, which can be cut."""

    def __init__(self, proxy: _Proxy, loop: OtherLoop, url: str) -> None:
        self._proxy, self._loop, self.url = proxy, loop, url

    @property
    def held_bytes(self) -> int:
        """That were sent to the server while it was cut."""
        return self._proxy.held

    def cut(self) -> None:
        """From now on nothing arrives at the server, and nobody hears of it; what the server says still comes."""
        self._loop.run(self._proxy.cut())

    def hangs_after(self, count: int) -> None:
        """It is cut so when that many bytes more have gone to the server."""
        self._loop.run(self._proxy.limit(count, breaks=False))

    def breaks_after(self, count: int) -> None:
        """From then on every connection ends as soon as something is sent over it."""
        self._loop.run(self._proxy.limit(count, breaks=True))

    def restore(self) -> None:
        """All arrives that was held back. Returns when it was answered; the client has to be gone by then."""
        self._loop.run(self._proxy.restore())


@contextmanager
def cable_to(url: str) -> Iterator[Cable]:
    """url: of the server. TLS goes through it untouched."""
    with loop_in_thread() as loop:
        proxy = _Proxy(url)
        try:
            yield Cable(proxy, loop, loop.run(proxy.start()))
        finally:
            loop.run(proxy.stop())
