"""A proxy before a real API server that can break its watches: cut them, and answer the next ones with 410 Gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

from support.apiserver import ApiServer
from support.http_proxy import CarryOut, HttpProxy, http_proxy
from support.threads import OtherLoop

_GONE = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": "old"}


class _Watches:
    """Lets watches through while they are whole."""

    def __init__(self) -> None:
        self.whole = asyncio.Event()
        self.whole.set()

    async def meddle(self, request: web.Request, _carry_out: CarryOut) -> web.Response | None:
        if "watch" not in request.query or self.whole.is_set():
            return None
        await self.whole.wait()
        event = {"type": "ERROR", "object": _GONE}
        return web.Response(text=json.dumps(event) + "\n", content_type="application/json")


class WatchProxy:
    """Passes everything on until `cut`; from then on watches wait, and after `gone` each is answered 410 once."""

    def __init__(self, watches: _Watches, proxy: HttpProxy, loop: OtherLoop) -> None:
        self._watches, self._proxy, self._loop = watches, proxy, loop
        self.cut_watches = 0

    def cut(self) -> None:
        """End all watches; new ones wait."""
        self._loop.run(self._cut())

    def gone(self) -> None:
        """Answer 410 to every watch that was cut, once, as when its version is too old."""
        self._loop.call(self._watches.whole.set)

    async def _cut(self) -> None:
        self._watches.whole.clear()
        self.cut_watches = await self._proxy.cut_watches()


@contextmanager
def watch_proxy(server: ApiServer, kubeconfig: Path) -> Iterator[WatchProxy]:
    """kubeconfig: is written, and leads through the proxy."""
    watches = _Watches()
    with http_proxy(server, kubeconfig, watches.meddle) as (proxy, loop):
        yield WatchProxy(watches, proxy, loop)
