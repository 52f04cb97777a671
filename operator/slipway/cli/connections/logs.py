"""Lines of the logs of containers, and where they come from: the API server, or any stream of bytes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import aiohttp

from slipway.api.errors import ClusterError
from slipway.cluster.wire import error_of

LONGEST_PIECE = 1 << 16
"""Bytes of a line that are held at once."""
_STAMPED = re.compile(r"^(\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)) (.*)$", re.DOTALL)


class Piece(NamedTuple):
    """A line, or a piece of a long one. more: the line goes on in the next piece."""

    text: str
    more: bool = False


class Line(NamedTuple):
    """One line of a log, or a piece of it. at: RFC 3339 with nine digits, so that texts sort as times do."""

    at: str
    text: str
    more: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """One run of one container. started: when, RFC 3339."""

    namespace: str
    pod: str
    uid: str
    container: str
    restarts: int
    prefix: str
    started: str = field(default="", compare=False)


class Logs(Protocol):
    """A source of lines: the API server, the files of a local run, or a test."""

    def lines(self, source: Source, *, follow: bool, after: str, tail: int | None) -> AsyncIterator[Line]:
        """The lines of a container, in order, that are newer than `after` (`` for all of them)."""
        ...


class ApiServerLogs:
    """Logs on a session that is authorized at one API server."""

    def __init__(self, session: aiohttp.ClientSession, host: str) -> None:
        self._session = session
        self._host = host

    async def lines(self, source: Source, *, follow: bool, after: str, tail: int | None) -> AsyncIterator[Line]:
        """Raises ClusterError if the stream breaks."""
        path = f"/api/v1/namespaces/{source.namespace}/pods/{source.pod}/log"
        query = {"container": source.container, "timestamps": "true", "follow": str(follow).lower()}
        query |= {"sinceTime": _whole_seconds(after)} if after else {}
        query |= {"tailLines": str(tail)} if tail is not None else {}
        at, new, begins = after, True, True
        async for text, more in self._pieces(f"read the log of pod {source.pod}", f"{self._host}{path}", query):
            match = _STAMPED.match(text) if begins else None  # what goes on may look like a time of its own
            at, content = (match[1], match[2]) if match else (at, text)
            new = at > after if match else new
            if new:
                for piece in redrawn_lines(content, more=more):
                    yield Line(at, *piece)
            begins = not more

    async def _pieces(self, what: str, url: str, query: Mapping[str, str]) -> AsyncIterator[Piece]:
        splitter = Splitter()
        try:
            async with self._session.get(url, params=query) as response:
                if response.status > 399:
                    raise error_of(what, response.status, await response.read(), response.headers)
                async for chunk in response.content.iter_any():
                    for piece in splitter.feed(chunk):
                        yield piece
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ClusterError(f"{what}: {type(error).__name__}: {error}") from error
        for piece in splitter.end():
            yield piece


def _whole_seconds(at: str) -> str:
    """sinceTime takes whole seconds; the lines of that second that were seen are dropped by their own times."""
    return f"{at[:19]}Z"


# --- Bytes to lines ----------------------------------------------------------------------------------------------


class Splitter:
    """Cuts a stream of bytes into lines, and a line that is longer than LONGEST_PIECE into several pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        """The lines that are whole by now, and pieces of one that is not."""
        *whole, rest = (self._rest + chunk).split(b"\n")
        for line in whole:
            *pieces, last = _pieces(line)
            yield from (Piece(piece.decode("utf-8", "replace"), more=True) for piece in pieces)
            yield Piece(last.decode("utf-8", "replace"))
        *pieces, self._rest = _pieces(rest)
        yield from (Piece(piece.decode("utf-8", "replace"), more=True) for piece in pieces)

    def end(self) -> Iterator[Piece]:
        """Yield the rest: a line without an end."""
        if self._rest:
            yield Piece(self._rest.decode("utf-8", "replace"))


def redrawn_lines(text: str, *, more: bool) -> Iterator[Piece]:
    """Yield as separate lines what a progress bar drew over each other by carriage returns."""
    *over, last = [part for part in text.split("\r") if part] or [""]
    yield from map(Piece, over)
    yield Piece(last, more and not text.endswith("\r"))


def _pieces(line: bytes) -> Iterator[bytes]:
    """The line in pieces of at most LONGEST_PIECE bytes, cut between characters."""
    start = 0
    while len(line) - start > LONGEST_PIECE:
        end = start + LONGEST_PIECE
        while end > start + LONGEST_PIECE - 3 and line[end] & 0xC0 == 0x80:  # inside of a character of UTF-8
            end -= 1
        yield line[start:end]
        start = end
    yield line[start:]
