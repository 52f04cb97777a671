"""Which way calls take to the API server, as the environment says."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import Configuration

from slipway.cluster.connection import Connection


async def direct(_: web.Request) -> web.Response:
    return web.json_response("direct")


async def by_proxy(_: web.Request) -> web.Response:
    return web.json_response("by proxy")


async def way(monkeypatch: pytest.MonkeyPatch, no_proxy: str) -> object:
    """How a call of an API server at 127.0.0.1 is made where there is a proxy, except for no_proxy."""
    server, proxy = web.Application(), web.Application()
    server.router.add_get("/api", direct)
    proxy.router.add_get("/{any:.*}", by_proxy)
    async with TestServer(server, host="127.0.0.1") as one, TestServer(proxy) as other:
        for name in ("http_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTP_PROXY", str(other.make_url("/")))
        monkeypatch.setenv("NO_PROXY", no_proxy)
        async with Connection(Configuration(host=str(one.make_url("")).rstrip("/"))) as connection:
            return await connection.call("ask", "GET", "/api")


@pytest.mark.parametrize(
    "no_proxy", ["127.0.0.1", "127.0.0.0/8", ".svc, 127.0.0.0/8", "10.0.0.0/8,fd00::/8,127.0.0.1/32", "*"]
)
async def test_no_proxy_may_name_the_api_server_by_its_network(monkeypatch: pytest.MonkeyPatch, no_proxy: str) -> None:
    assert await way(monkeypatch, no_proxy) == "direct"


@pytest.mark.parametrize("no_proxy", ["", "10.0.0.0/8", ".svc,example.com", "127.0.0.0/33", "::/0"])
async def test_what_no_proxy_does_not_name_is_called_by_the_proxy(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str
) -> None:
    assert await way(monkeypatch, no_proxy) == "by proxy"
