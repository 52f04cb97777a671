"""A proxy before a real API server that can break its watches: cut them, and answer the next ones with 410 Gone."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web

from support.apiserver import ApiServer

_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "content-encoding", "host"}
_GONE = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": "old"}


class WatchProxy:
    """Passes everything on until `cut`; from then on watches wait, and after `gone` each is answered 410 once."""

    def __init__(self, server: ApiServer) -> None:
        self.url = ""
        self._server = server
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()
        self._open: set[asyncio.Task[None]] = set()
        self._whole = asyncio.Event()
        self._whole.set()
        self.cut_watches = 0

    def cut(self) -> None:
        """End all watches; new ones wait."""
        self._call(self._cut())

    def gone(self) -> None:
        """Answer 410 to every watch that was cut, once, as when its version is too old."""
        self._call(self._gone())

    def stop(self) -> None:
        self._call(self._stop())

    async def _stop(self) -> None:
        await self._cut()
        self._stopped.set()

    async def _cut(self) -> None:
        self._whole.clear()
        self.cut_watches = len(self._open)
        for stream in self._open:
            stream.cancel()

    async def _gone(self) -> None:
        self._whole.set()

    def _call(self, what: Coroutine[None, None, None]) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        watching = "watch" in request.query
        if watching and not self._whole.is_set():
            await self._whole.wait()
            event = {"type": "ERROR", "object": _GONE}
            return web.Response(text=json.dumps(event) + "\n", content_type="application/json")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        async with self._session.request(
            request.method, self._server.url + request.path_qs, headers=headers, data=await request.read() or None
        ) as answer:
            passed = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers=passed)
            await response.prepare(request)
            copying = asyncio.ensure_future(_copy(answer, response))
            if watching:
                self._open.add(copying)
            try:
                await copying
            except asyncio.CancelledError:
                if request.transport is not None:
                    request.transport.close()
            finally:
                self._open.discard(copying)
            return response

    async def serve(self, ready: threading.Event) -> None:
        """Until `stop`. Sets `ready` when `url` is known."""
        self._loop = asyncio.get_running_loop()
        connector = aiohttp.TCPConnector(limit=0, ssl=self._server.context)
        async with aiohttp.ClientSession(
            connector=connector, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None)
        ) as self._session:
            app = web.Application(client_max_size=2**24)
            app.router.add_route("*", "/{path:.*}", self._handle)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            ready.set()
            await self._stopped.wait()
            await runner.cleanup()
        # TLS connections say goodbye in the background, and nothing tells when (aiohttp, "Graceful shutdown").
        await asyncio.sleep(0.25)


async def _copy(answer: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
    async for part in answer.content.iter_any():
        await response.write(part)
    await response.write_eof()


@contextmanager
def watch_proxy(server: ApiServer, kubeconfig: Path) -> Iterator[WatchProxy]:
    """A proxy in a thread of its own. kubeconfig: is written, and leads through it."""
    proxy = WatchProxy(server)
    ready = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(proxy.serve(ready)), daemon=True)
    thread.start()
    try:
        assert ready.wait(10)
        named = {"name": "proxy"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "clusters": [{**named, "cluster": {"server": proxy.url}}],
            "users": [{**named, "user": {}}],
            "contexts": [{**named, "context": {"cluster": "proxy", "user": "proxy"}}],
        }
        kubeconfig.write_text(yaml.safe_dump(config))
        yield proxy
    finally:
        proxy.stop()
        thread.join(10)
