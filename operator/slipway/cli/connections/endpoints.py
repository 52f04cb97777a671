"""Addresses of the Triton of a ModelDeployment: its Service, or a port forwarded to one of its pods.

Ports are forwarded by the API server's WebSocket (subprotocol v4.channel.k8s.io). Each connection is a WebSocket of its
own with two channels, data (0) and errors (1); each message starts with the channel's number, and the first one of each
channel holds the port.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp

from slipway.api.errors import ClusterError
from slipway.api.kinds import POD, SERVICE, Key, Object
from slipway.cli.rendering.errors import UNAVAILABLE, CommandError
from slipway.cli.rendering.summary import reference, summary
from slipway.cluster.connection import Connection
from slipway.cluster.port import Cluster

CONNECT_SECONDS = 1.0
PORTS = {"http": 8000, "grpc": 8001}
PROTOCOL = "v4.channel.k8s.io"
DATA, ERROR = 0, 1
CHUNK_BYTES = 65536


class Endpoint(NamedTuple):
    """An address for requests. address: host:port; via: a description for people."""

    address: str
    via: str


@asynccontextmanager
async def open_endpoint(
    cluster: Cluster, http: Connection, namespace: str, deployment: Object, protocol: str
) -> AsyncIterator[Endpoint]:
    """Open the Service if this machine can connect to it, else a port forwarded to a ready pod.

    Raises CommandError for a deployment that serves nothing.
    """
    name = service_name(deployment)
    service = await cluster.get(Key(SERVICE, namespace, name))
    port = _port(service, protocol)
    inside = "KUBERNETES_SERVICE_HOST" in os.environ
    outer = str(service["spec"].get("clusterIP") or "None")
    host = _host(deployment["status"]["url"], deployment) if inside else outer
    if host != "None" and await _connects(host, port["port"]):
        yield Endpoint(f"{host}:{port['port']}", f"service {name}")
        return
    pods = await cluster.list(POD, namespace, service["spec"].get("selector") or {})
    pod = next((pod for pod in pods if is_ready(pod)), None)
    if pod is None:
        raise CommandError(f"service {name} has no ready pod", UNAVAILABLE)
    target = container_port(pod, port)
    async with (
        http.stream_session() as session,
        forwarded(session, http.host, namespace, pod["metadata"]["name"], target) as address,
    ):
        yield Endpoint(address, f"port-forward to pod {pod['metadata']['name']}")


def service_name(deployment: Object) -> str:
    """Return the name of the Service in status.url. Raises CommandError for a deployment that serves nothing."""
    url = deployment.get("status", {}).get("url")
    if not url:
        phase, _, wrong = summary(deployment)
        raise CommandError(
            f"{reference(deployment)} does not serve a model yet ({phase}{f', {wrong}' if wrong else ''})"
        )
    return _host(url, deployment).partition(".")[0]


def _host(url: str, deployment: Object) -> str:
    try:
        return str(urlsplit(url).hostname)
    except ValueError as error:
        raise CommandError(f"{reference(deployment)}: status.url: {url!r} is not a URL: {error}") from error


def is_ready(pod: Object) -> bool:
    conditions = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", ())}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def container_port(pod: Object, port: Object) -> int:
    """Return the number of a Service port's target, which may be a container port's name. Raises CommandError."""
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target
    ports: Sequence[Object] = [p for c in pod["spec"]["containers"] for p in c.get("ports", ())]
    found = next((p["containerPort"] for p in ports if p.get("name") == target), None)
    if found is None:
        raise CommandError(f"pod {pod['metadata']['name']} has no port named {target!r}", UNAVAILABLE)
    return int(found)


def _port(service: Object, protocol: str) -> Object:
    ports: Sequence[Object] = service["spec"].get("ports") or ()
    found = next((p for p in ports if p.get("name") == protocol or p["port"] == PORTS[protocol]), None)
    if found is None:
        raise CommandError(f"service {service['metadata']['name']} has no port for {protocol}", UNAVAILABLE)
    return found


async def _connects(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


# --- Port forwarding ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def forwarded(
    session: aiohttp.ClientSession, host: str, namespace: str, pod: str, port: int
) -> AsyncIterator[str]:
    """Yield `127.0.0.1:PORT`, forwarded to the pod until the block ends. Raises ClusterError for a refusal."""
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
    """Open and close one WebSocket, so that a refusal is raised with its message."""
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
