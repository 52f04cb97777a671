"""Addresses of pods and ports of Services on this machine.

Linux can bind every address of 127.0.0.0/8, so each pod has an address of its own with all its ports. Each port of a
Service is a port of 127.0.0.1 that passes connections on to the ready pods, one after another.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from slipway.api.errors import SlipwayError
from slipway.api.kinds import Object
from slipway.local.controllers import is_ready
from slipway.local.environment import resolve_port
from slipway.plan.observation import carries

_GUARD_PORT = 29399
"""Port that a run binds at the first address of its block; UDP, so that nobody can connect to it."""
_FIRST, _LAST = 100, 254
"""Bounds of the last number: it has three digits, so addresses sort as texts, as torchrun sorts its agents."""


class AddressError(SlipwayError):
    """No address is free, or none can be bound."""


@contextmanager
def reserve_block() -> Iterator[str]:
    """Yield `127.64.N`, a block of addresses that no other run of this machine uses. Raises AddressError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as guard:
        for number in range(256):
            prefix = f"127.64.{number}"
            try:
                guard.bind((f"{prefix}.1", _GUARD_PORT))
            except OSError:
                continue
            yield prefix
            return
    raise AddressError(
        "no block of addresses in 127.64.0.0/16 can be bound; local runs need Linux, and at most 256 run at a time"
    )


def choose_address(prefix: str, taken: Collection[str]) -> str:
    """Return the lowest free address, so that later pods of a Job have later addresses. Raises AddressError."""
    for number in range(_FIRST, _LAST + 1):
        address = f"{prefix}.{number}"
        if address not in taken:
            return address
    raise AddressError(f"more than {_LAST - _FIRST + 1} pods at a time do not fit on one machine")


def find_free_port(address: str) -> int:
    """Return a port that nothing listens on at that address."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def find_taken_ports(address: str, ports: Collection[int]) -> list[int]:
    """Return the ports that cannot be bound there: another program listens on them at all addresses."""
    taken = []
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                taken.append(port)
    return taken


HOST = "127.0.0.1"
_CHUNK = 1 << 16

Target = tuple[str, int]
Targets = Callable[[], Awaitable[Sequence[Target]]]


def list_targets(service: Object, port: Object, pods: Sequence[Object]) -> list[Target]:
    """Return the addresses of ready pods that accept connections to that port of the Service."""
    selector = service["spec"].get("selector") or {}
    namespace = service["metadata"]["namespace"]
    wanted: int | str = port.get("targetPort") or port["port"]
    return [
        (pod["status"]["podIP"], resolve_port(pod["spec"]["containers"][0], wanted))
        for pod in pods
        if selector and pod["metadata"]["namespace"] == namespace and carries(pod, selector) and is_ready(pod)
    ]


def is_headless(service: Object) -> bool:
    return bool(service["spec"].get("clusterIP") == "None")


@dataclass
class Proxy:
    """A port of this machine that forwards connections until it is closed. targets: called for every connection."""

    targets: Targets
    _next: int = 0
    _server: asyncio.Server | None = None
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    async def listen(self, preferred: int) -> int:
        """Listen and return the port: the preferred one if it is free, else another."""
        try:
            self._server = await asyncio.start_server(self._on_connection, HOST, preferred)
        except OSError:
            self._server = await asyncio.start_server(self._on_connection, HOST, 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and close open connections."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        with suppress(OSError, asyncio.CancelledError):
            await self._forward(reader, writer)
        writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy both ways until both ends have closed; without a ready pod the connection is closed at once."""
        targets = await self.targets()
        if not targets:
            return
        self._next += 1
        out_reader, out_writer = await asyncio.open_connection(*targets[self._next % len(targets)])
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
