"""PID 1 of a serving pod: it runs Triton behind an HTTP front end, so that no request is lost when the pod ends.

    python3 frontend.py tritonserver FLAG...

Triton's own HTTP server never closes the connections of clients: a client that keeps its connection to a pod that ends
loses the request that it sends at that moment. And one request of some 600,000 tiny chunks kills every Triton before
25.07 (CVE-2025-23310). So the front end listens in Triton's place and forwards each connection:

- Responses are forwarded as they are. `Connection: close` is added while the pod drains, and to connections older than
  MAX_CONNECTION_SECONDS, so that clients spread over new replicas; `--grpc-max-connection-age` does the same for gRPC.
- Requests are forwarded with their bodies in large pieces, and chunked ones with a Content-Length. A body above
  MAX_BODY_BYTES, or a head that two readers could understand differently, is refused.

SIGTERM starts the drain: Triton is ended only when no connection to it is left (or time is up), because it unloads its
models while it still listens. A random key restricts all of Triton's protocols except inference.

It needs only the standard library, so that it runs in any serving image. It exits with Triton's exit code.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import signal
import socket
import struct
import sys
import time
from typing import cast

MAX_CONNECTION_SECONDS = 10.0
"""Age at which a connection gets `Connection: close`. Triton's `--grpc-max-connection-age` is the same within 10 %."""
IDLE_SECONDS = 12.0
"""Seconds from SIGTERM until idle HTTP connections are closed: busy ones have had `Connection: close` by then."""
DRAIN_SECONDS = 60.0
"""Seconds from SIGTERM until Triton is ended in any case: the limit of open requests and gRPC streams."""
POLL_SECONDS = 0.1
REFUSAL_SECONDS = 2.0
"""Time for a refused client to read the answer: closing at once would reset the connection while it still sends."""
MAX_HEAD_BYTES = 64 << 10
MAX_BODY_BYTES = 64 << 20
"""Triton's own limit from 2.59 on (`--http-max-input-size`); gRPC has none."""
PIECE_BYTES = 64 << 10
"""Bodies are forwarded in pieces of at least this size."""
RESTRICTED = "shared-memory,model-repository,statistics,trace,logging"
"""Protocols of Triton that no client of a model needs: they write to memory, unload models and write files."""

_HEAD = re.compile(rb"[!-~]+ [!-~]+ HTTP/1\.[01](?:\r\n[!#-'*+.0-9A-Z^_`a-z|~-]+:[^\r\n\0]*)*")
_FRAMING = re.compile(rb"\r\n(content-length|transfer-encoding):[ \t]*([^\r\n]*)", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect:[^\r\n]*", re.IGNORECASE)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n\0]*)?")
_FINAL_RESPONSE = re.compile(rb"HTTP/1\.[01] [2-5][^\r\n]*\r\n")
_ESTABLISHED = "01"


class RequestError(Exception):
    """A request is refused. status: code and reason of the answer."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


class Requests:
    """Reads requests from the bytes of one connection, and returns the bytes for Triton.

    complete: no request is incomplete. awaited: the client waits for `100 Continue` before it sends a body.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._held = bytearray()  # read, and not yet forwarded
        self._body = 0  # remaining bytes of the body
        self._chunked: bytes | None = None  # the head of a chunked request, until its end is known
        self._in_chunks = 0  # remaining bytes of this chunk; 0 between chunks
        self._trailer = False
        self.awaited = False

    @property
    def complete(self) -> bool:
        return not (self._buffer or self._body or self._chunked)

    def feed(self, data: bytes) -> tuple[bytes, int]:
        """Return the bytes to forward, and the number of requests that end with them. Raises RequestError."""
        if self._body >= len(data) >= PIECE_BYTES and not self._held:
            self._body -= len(data)
            return data, int(not self._body)
        self._buffer += data
        out, ended = bytearray(), 0
        while self._buffer and (self._read_chunk() if self._chunked is not None else self._read_plain()):
            if self._chunked is None and not self._body:
                ended += 1
            elif self._chunked is not None or len(self._held) < PIECE_BYTES:
                continue
            out += self._held
            self._held.clear()
        return bytes(out), ended

    def _read_plain(self) -> bool:
        """Read a head, or a part of a body; False if the head is incomplete."""
        if not self._body:
            return self._read_head()
        part = self._buffer[: self._body]
        del self._buffer[: self._body]
        self._body -= len(part)
        self._held += part
        return True

    def _read_head(self) -> bool:
        """Read a head; False if it is incomplete. An empty line before a request is skipped (RFC 9112, 2.2)."""
        while self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
        if end < 0:
            if len(self._buffer) >= MAX_HEAD_BYTES:
                raise RequestError("431 Request Header Fields Too Large", f"headers above {MAX_HEAD_BYTES} bytes")
            return False
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        if _HEAD.fullmatch(head) is None:
            raise RequestError("400 Bad Request", "the request line or a header is malformed")
        head, expected = _EXPECT.subn(b"", head)
        framing = [(name.lower(), value.strip(b" \t").lower()) for name, value in _FRAMING.findall(head)]
        if framing == [(b"transfer-encoding", b"chunked")]:
            self._chunked = _FRAMING.sub(b"", head)
        elif not framing or (len(framing) == 1 and framing[0][0] == b"content-length" and framing[0][1].isdigit()):
            self._body = _bounded(int(framing[0][1][:20])) if framing else 0
            self._held += head + b"\r\n\r\n"
        else:
            raise RequestError("400 Bad Request", "the length of the body must be given once")
        self.awaited = bool(expected) and not self.complete
        return True

    def _read_chunk(self) -> bool:
        """Read a chunk, a part of one, or the end; False if it is incomplete."""
        if self._in_chunks > 2:
            part = self._buffer[: self._in_chunks - 2]
            del self._buffer[: len(part)]
            self._in_chunks -= len(part)
            self._held += part
            return True
        if self._in_chunks == 2:
            if len(self._buffer) < 2:
                return False
            if self._buffer[:2] != b"\r\n":
                raise RequestError("400 Bad Request", "a chunk is longer than its size")
            del self._buffer[:2]
            self._in_chunks = 0
            return True
        end = self._buffer.find(b"\r\n", 0, MAX_HEAD_BYTES)
        if end < 0:
            if len(self._buffer) >= MAX_HEAD_BYTES:
                raise RequestError("400 Bad Request", "the size of a chunk is malformed")
            return False
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        if self._trailer:
            if not line:
                self._end_chunked()
            return True
        size = _CHUNK.fullmatch(line)
        if size is None:
            raise RequestError("400 Bad Request", "the size of a chunk is malformed")
        count = int(size[1], 16)
        _bounded(len(self._held) + count)
        self._trailer, self._in_chunks = not count, count + 2 if count else 0
        return True

    def _end_chunked(self) -> None:
        head = cast(bytes, self._chunked)
        self._held[:0] = head + b"\r\nContent-Length: %d\r\n\r\n" % len(self._held)
        self._chunked, self._trailer = None, False


def _bounded(size: int) -> int:
    if size > MAX_BODY_BYTES:
        raise RequestError("413 Content Too Large", f"a body above {MAX_BODY_BYTES} bytes; use gRPC")
    return size


class Drain:
    """The state of the drain, and the open connections."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.began: float | None = None
        self.clients: set[Client] = set()

    def closes(self, opened: float) -> bool:
        """Return True if a connection of that age gets `Connection: close` with its next answer."""
        return self.began is not None or time.monotonic() - opened > MAX_CONNECTION_SECONDS


class Upstream(asyncio.Protocol):
    """The connection to Triton that belongs to one client's."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.client.connected(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        self.client.answer(data)

    def connection_lost(self, _error: Exception | None) -> None:
        self.client.transport.close()

    def pause_writing(self) -> None:
        self.client.transport.pause_reading()

    def resume_writing(self) -> None:
        self.client.transport.resume_reading()


class Client(asyncio.Protocol):
    """One connection of a client."""

    transport: asyncio.Transport

    def __init__(self, drain: Drain) -> None:
        self.drain = drain
        self.opened = time.monotonic()
        self._requests = Requests()
        self._upstream: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._early = b""  # received before the connection to Triton: less than a millisecond's
        self._unanswered = 0
        self._refused = False

    @property
    def idle(self) -> bool:
        return not self._unanswered and self._requests.complete

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.drain.clients.add(self)
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: Upstream(self), *self.drain.target)
        except OSError:  # Triton does not listen yet, or no more
            self.transport.abort()

    def connected(self, upstream: asyncio.Transport) -> None:
        # Closed without TIME_WAIT: the ports between the two are few, and clients may be many.
        upstream.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._upstream = upstream
        if self.transport.is_closing():
            upstream.abort()
        elif self._early:
            early, self._early = self._early, b""
            self.data_received(early)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._upstream is None:
            self._early += data
            return
        try:
            out, ended = self._requests.feed(data)
        except RequestError as error:
            self._refuse(error)
            return
        self._unanswered += ended
        if out:
            self._upstream.write(out)
        if self._requests.awaited:
            self._requests.awaited = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def answer(self, data: bytes) -> None:
        """Forward Triton's answer. The first bytes after a request begin with the head of its response."""
        if self._refused:
            return
        if self._unanswered and (line := _FINAL_RESPONSE.match(data)):
            self._unanswered = 0
            if self.drain.closes(self.opened):
                data = b"%bConnection: close\r\n%b" % (line[0], data[line.end() :])
        self.transport.write(data)

    def _refuse(self, error: RequestError) -> None:
        self._refused = True
        body = json.dumps({"error": str(error)}).encode()
        head = f"HTTP/1.1 {error.status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        self.transport.write_eof()
        asyncio.get_running_loop().call_later(REFUSAL_SECONDS, self.transport.close)

    def pause_writing(self) -> None:
        if self._upstream is not None:
            self._upstream.pause_reading()

    def resume_writing(self) -> None:
        if self._upstream is not None:
            self._upstream.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        self.drain.clients.discard(self)
        if self._upstream is not None:
            self._upstream.abort()


def established(address: str, port: int) -> int | None:
    """Return the number of connections to that port; None if it is unknown. address: 0.0.0.0 for any interface."""
    local_port = f":{port:04X}"
    count, known = 0, False
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/net/{table}", encoding="ascii") as file:
            known = True
            for line in file:
                _, local, _, state = line.split()[:4]
                if state == _ESTABLISHED and local.endswith(local_port) and _is_at(local[: -len(local_port)], address):
                    count += 1
    return count if known else None


def _is_at(local: str, address: str) -> bool:
    """Return True if an address of /proc/net/tcp (words in the byte order of the machine) is that one."""
    if address == "0.0.0.0":  # noqa: S104 - compared, not listened on
        return True
    (word,) = struct.unpack("=I", socket.inet_aton(address))
    return local.endswith(f"{word:08X}")


def flag(command: list[str], name: str, default: str) -> str:
    """Return the value of a flag of Triton, the last one given."""
    return next((word.partition("=")[2] for word in reversed(command) if word.startswith(f"--{name}=")), default)


def behind(command: list[str], address: str, port: int) -> list[str]:
    """Return Triton's command behind the front end: HTTP on the loopback address, restricted by a random key."""
    own = ("--http-address=", "--http-port=")
    key = f"{RESTRICTED}:slipway-{secrets.token_hex(8)}={secrets.token_urlsafe(32)}"
    metrics = flag(command, "metrics-address", flag(command, "http-address", "0.0.0.0"))  # noqa: S104 - as Triton's
    return [
        *(word for word in command if not word.startswith(own)),
        f"--http-address={address}",
        f"--http-port={port}",
        f"--metrics-address={metrics}",
        f"--http-restricted-api={key}",
        f"--grpc-restricted-protocol={key}",
        f"--grpc-max-connection-age={MAX_CONNECTION_SECONDS * 1000:.0f}",
    ]


async def drained(drain: Drain, grpc: tuple[str, int]) -> None:
    """Wait until no connection is left, or DRAIN_SECONDS are over. After IDLE_SECONDS idle HTTP connections are
    closed."""
    began = time.monotonic()
    drain.began = began
    while (passed := time.monotonic() - began) < DRAIN_SECONDS:
        if passed > IDLE_SECONDS:
            for client in [one for one in drain.clients if one.idle]:
                client.transport.close()
        calls = established(*grpc)
        if not drain.clients and (not calls if calls is not None else passed > IDLE_SECONDS):
            return
        await asyncio.sleep(POLL_SECONDS)


async def serve(command: list[str]) -> int:
    """Run Triton until it ends or a signal ends it; returns its exit code."""
    address = flag(command, "http-address", "0.0.0.0")  # noqa: S104 - a pod's clients come from outside
    grpc = flag(command, "grpc-address", "0.0.0.0"), int(flag(command, "grpc-port", "8001"))  # noqa: S104
    inner = address if address.startswith("127.") else "127.0.0.1"
    drain = Drain((inner, _free_port(inner)))
    signalled = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled.set)
    triton = await asyncio.create_subprocess_exec(*behind(command, *drain.target))
    port = int(flag(command, "http-port", "8000"))
    server = await loop.create_server(lambda: Client(drain), address, port, backlog=1024)
    ended, ending = loop.create_task(triton.wait()), loop.create_task(signalled.wait())
    await asyncio.wait((ended, ending), return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():
        waiting = loop.create_task(drained(drain, grpc))
        await asyncio.wait((ended, waiting), return_when=asyncio.FIRST_COMPLETED)
    server.close()
    if not ended.done():
        with contextlib.suppress(ProcessLookupError):
            triton.terminate()
    code = await ended
    return code if code >= 0 else 128 - code


def _free_port(address: str) -> int:
    with socket.socket() as free:
        free.bind((address, 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    sys.exit(asyncio.run(serve(sys.argv[1:])))
