"""A local TCP port that leads into a pod, by the API server's WebSocket (subprotocol v4.channel.k8s.io).

Each connection is a WebSocket of its own with two channels, data (0) and errors (1); each message starts with the
channel's number, and the first one of each channel holds the port.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from slipway.api.errors import ClusterError

PROTOCOL = "v4.channel.k8s.io"
DATA, ERROR = 0, 1
CHUNK_BYTES = 65536


@asynccontextmanager
async def forwarded(
    session: aiohttp.ClientSession, host: str, namespace: str, pod: str, port: int
) -> AsyncIterator[str]:
    """`127.0.0.1:PORT` for as long as the context lasts. Raises ClusterError where the API server refuses."""
    url = f"{host}/api/v1/namespaces/{namespace}/pods/{pod}/portforward?ports={port}"
    open_ones: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            open_ones.add(task)
            task.add_done_callback(open_ones.discard)
        try:
            async with session.ws_connect(url, protocols=(PROTOCOL,), max_msg_size=0) as socket:
                await _pump(socket, reader, writer)
        except (aiohttp.ClientError, OSError):
            pass  # the client on this side sees its connection end
        finally:
            writer.close()

    await _probe(session, url, pod)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        local = server.sockets[0].getsockname()
        yield f"{local[0]}:{local[1]}"
    finally:
        server.close()
        for task in list(open_ones):
            task.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)


async def _probe(session: aiohttp.ClientSession, url: str, pod: str) -> None:
    """One WebSocket opened and closed, so that a refusal is told in words."""
    try:
        async with session.ws_connect(url, protocols=(PROTOCOL,)):
            pass
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise ClusterError(f"forward a port of pod {pod}: {type(error).__name__}: {error}") from error


async def _pump(
    socket: aiohttp.ClientWebSocketResponse, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Copy both ways until either side ends."""

    async def up() -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            await socket.send_bytes(bytes((DATA,)) + chunk)

    async def down() -> None:
        greeted: set[int] = set()
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            channel, payload = message.data[0], message.data[1:]
            if channel not in greeted:
                greeted.add(channel)
                payload = payload[2:]
            if channel == ERROR and payload:
                return
            if channel == DATA and payload:
                writer.write(payload)
                await writer.drain()

    tasks = [asyncio.create_task(up()), asyncio.create_task(down())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
