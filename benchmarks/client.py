"""A bare aiohttp client: what a program would be that knows its writes beforehand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp

from support.apiserver import ApiServer

JSON = "application/json"
MERGE = "application/merge-patch+json"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
APPLY = "application/apply-patch+yaml"

Object = dict[str, Any]
T = TypeVar("T")


class Client:
    """One pool of connections. Every refusal is an error: a benchmark that is refused measures nothing."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def call(self, method: str, path: str, body: bytes | None = None, content_type: str = JSON) -> bytes:
        headers = {"Content-Type": content_type, "Accept": JSON}
        async with self._session.request(method, f"{self._url}{path}", data=body, headers=headers) as response:
            answer = await response.read()
            if response.status > 299:
                raise RuntimeError(f"{method} {path}: {response.status} {answer[:512]!r}")
            return answer

    async def post(self, path: str, body: Object) -> Object:
        return _parsed(await self.call("POST", path, json.dumps(body).encode()))

    async def get(self, path: str) -> Object:
        return _parsed(await self.call("GET", path))

    async def merge(self, path: str, body: Object) -> Object:
        return _parsed(await self.call("PATCH", path, json.dumps(body).encode(), MERGE))

    @asynccontextmanager
    async def watch(
        self, path: str, *, metadata_only: bool = False
    ) -> AsyncIterator[AsyncIterator[tuple[str, Object]]]:
        """Events (type, object) of what changes from now on; entered when the watch is established."""
        version = (await self.get(f"{path}?limit=1"))["metadata"]["resourceVersion"]
        url = f"{self._url}{path}?watch=true&resourceVersion={version}"
        timeout = aiohttp.ClientTimeout(total=None)
        headers = {"Accept": METADATA if metadata_only else JSON}
        async with self._session.get(url, headers=headers, timeout=timeout) as response:
            response.raise_for_status()
            yield _events(response)


@asynccontextmanager
async def client_of(server: ApiServer) -> AsyncIterator[Client]:
    connector = aiohttp.TCPConnector(limit=0, ssl=server.context)
    async with aiohttp.ClientSession(connector=connector, read_bufsize=2**21) as session:
        yield Client(session, server.url)


async def at_once(work: Callable[[T], Awaitable[None]], items: Iterable[T], workers: int) -> None:
    """Do the work for all items, so many at a time, in their order."""
    left = iter(items)

    async def worker() -> None:
        for item in left:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(worker())


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, Object]]:
    async for line in response.content:
        event = json.loads(line)
        yield event["type"], event["object"]


def _parsed(answer: bytes) -> Object:
    obj: Object = json.loads(answer)
    return obj
