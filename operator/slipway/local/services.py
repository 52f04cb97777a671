"""Services as ports of this machine: each accepts connections and passes them on to a ready pod in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from slipway.api.kinds import Object
from slipway.local.manifests import is_ready
from slipway.local.probes import port_of
from slipway.plan.view import carries

HOST = "127.0.0.1"
_CHUNK = 1 << 16

Target = tuple[str, int]
Targets = Callable[[], Awaitable[Sequence[Target]]]


def endpoints(service: Object, port: Object, pods: Sequence[Object]) -> list[Target]:
    """Where connections to that port of the Service may go now."""
    selector = service["spec"].get("selector") or {}
    namespace = service["metadata"]["namespace"]
    wanted: int | str = port.get("targetPort") or port["port"]
    return [
        (pod["status"]["podIP"], port_of(pod["spec"]["containers"][0], wanted))
        for pod in pods
        if selector and pod["metadata"]["namespace"] == namespace and carries(pod, selector) and is_ready(pod)
    ]


def is_headless(service: Object) -> bool:
    return bool(service["spec"].get("clusterIP") == "None")


@dataclass
class Proxy:
    """One port: listens until it is closed. targets: asked for at every connection."""

    targets: Targets
    _turn: int = 0
    _server: asyncio.Server | None = None
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    async def listen(self, preferred: int) -> int:
        """Returns the port: the preferred one where it is free, else another."""
        try:
            self._server = await asyncio.start_server(self._accepted, HOST, preferred)
        except OSError:
            self._server = await asyncio.start_server(self._accepted, HOST, 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Connections that are open are cut."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        with suppress(OSError, asyncio.CancelledError):
            await self._passed_on(reader, writer)
        writer.close()

    async def _passed_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Both ways until both ends have closed; without a ready pod the connection is closed at once."""
        targets = await self.targets()
        if not targets:
            return
        self._turn += 1
        out_reader, out_writer = await asyncio.open_connection(*targets[self._turn % len(targets)])
        try:
            await asyncio.gather(_pump(reader, out_writer), _pump(out_reader, writer))
        finally:
            out_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
