"""A proxy before a real API server that passes everything on, but for what a test has it do instead."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web

from support.apiserver import ApiServer
from support.threads import OtherLoop, loop_in_thread

_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "content-encoding", "host"}
GOODBYE_SECONDS = 0.25
"""TLS connections say goodbye in the background, and nothing tells when (aiohttp, "Graceful shutdown")."""

CarryOut = Callable[[], Awaitable[None]]
"""Has the API server do what is asked; its answer is lost."""
Meddler = Callable[[web.Request, CarryOut], Awaitable[web.StreamResponse | None]]
"""Answers a request itself; None: it is passed on."""
Retelling = Callable[[str, AsyncIterator[bytes]], AsyncIterator[bytes]]
"""What a client hears of a watch: the resource's plural and the lines as the API server sends them."""


class HttpProxy:
    """meddlers: are asked in turn. watches: those that are open, each by the task that copies its answer."""

    def __init__(
        self, server: ApiServer, meddlers: Sequence[Meddler], context: ssl.SSLContext, retelling: Retelling | None
    ) -> None:
        self.watches: set[asyncio.Task[None]] = set()
        self._server, self._meddlers, self._context, self._retelling = server, meddlers, context, retelling

    async def start(self) -> str:
        """Its URL."""
        connector = aiohttp.TCPConnector(limit=0, ssl=self._context)
        timeout = aiohttp.ClientTimeout(total=None)
        self._session = aiohttp.ClientSession(
            connector=connector, auto_decompress=False, timeout=timeout, read_bufsize=2**21
        )
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self.cut_watches()
        await self._runner.cleanup()
        await self._session.close()
        await asyncio.sleep(GOODBYE_SECONDS)

    async def cut_watches(self) -> int:
        """Ends all; says how many there were."""
        open_ones = set(self.watches)
        for watch in open_ones:
            watch.cancel()
        return len(open_ones)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        for meddle in self._meddlers:
            if (own := await meddle(request, lambda: self._carry_out(request))) is not None:
                return own
        async with self._passed_on(request) as answer:
            response = web.StreamResponse(status=answer.status, headers=_kept(answer.headers))
            await response.prepare(request)
            copying = asyncio.ensure_future(_copy(self._parts(request, answer), response))
            if "watch" in request.query:
                self.watches.add(copying)
            try:
                await copying
            except asyncio.CancelledError:
                cut(request)
            finally:
                self.watches.discard(copying)
            return response

    def _parts(self, request: web.Request, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        if self._retelling is None or "watch" not in request.query or answer.status > 299:
            return aiter(answer.content.iter_any())
        return self._retelling(request.path.rsplit("/", 1)[1], aiter(answer.content))

    async def _carry_out(self, request: web.Request) -> None:
        async with self._passed_on(request) as answer:
            await answer.read()

    def _passed_on(self, request: web.Request) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._session.request(
            request.method,
            self._server.url + request.path_qs,
            headers=_kept(request.headers),
            data=request.content if request.can_read_body else None,
        )


def cut(request: web.Request) -> None:
    """The client's connection ends without another word."""
    if request.transport is not None:
        request.transport.close()


@contextmanager
def http_proxy(
    server: ApiServer,
    kubeconfig: Path,
    *meddlers: Meddler,
    account: Path | None = None,
    retelling: Retelling | None = None,
) -> Iterator[tuple[HttpProxy, OtherLoop]]:
    """A proxy in a thread of its own. kubeconfig: is written, and leads through it.

    account: a kubeconfig with the token by which the calls are made; without one they are the administrator's.
    """
    context, user = server.context, {}
    if account is not None:
        config = yaml.safe_load(account.read_text())
        user, context = config["users"][0]["user"], ssl.create_default_context(cadata=server.authority())
    with loop_in_thread() as loop:
        proxy = HttpProxy(server, meddlers, context, retelling)
        url = loop.run(proxy.start())
        try:
            kubeconfig.write_text(yaml.safe_dump(_config(url, user)))
            yield proxy, loop
        finally:
            loop.run(proxy.stop())


def _config(url: str, user: dict[str, str]) -> dict[str, object]:
    named = {"name": "proxy"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "proxy",
        "clusters": [{**named, "cluster": {"server": url}}],
        "users": [{**named, "user": user}],
        "contexts": [{**named, "context": {"cluster": "proxy", "user": "proxy"}}],
    }


async def _copy(parts: AsyncIterator[bytes], response: web.StreamResponse) -> None:
    async for part in parts:
        await response.write(part)
    await response.write_eof()


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}
