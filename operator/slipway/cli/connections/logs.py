"""Logs of containers: read them from the API server, split bytes into lines, and merge the lines of many pods."""

from __future__ import annotations

import asyncio
import heapq
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import aiohttp

from slipway.api.errors import ClusterError, Invalid, NotFound
from slipway.api.kinds import Object
from slipway.cluster.port import gather_calls
from slipway.cluster.wire import parse_error
from slipway.plan.jobs.pods import index_of
from slipway.plan.owner import ATTEMPT_LABEL, ROLE_LABEL

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
        """Yield the lines of a container that are newer than `after` (empty for all), in order."""
        ...


class ApiServerLogs:
    """Logs on a session that is authorized at one API server."""

    def __init__(self, session: aiohttp.ClientSession, host: str) -> None:
        self._session = session
        self._host = host

    async def lines(self, source: Source, *, follow: bool, after: str, tail: int | None) -> AsyncIterator[Line]:
        """Yield the lines of a container. Raises ClusterError if the stream breaks."""
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
                    raise parse_error(what, response.status, await response.read(), response.headers)
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
        """Yield the complete lines, and pieces of an incomplete one."""
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
    """Yield the line in pieces of at most LONGEST_PIECE bytes, cut between characters."""
    start = 0
    while len(line) - start > LONGEST_PIECE:
        end = start + LONGEST_PIECE
        while end > start + LONGEST_PIECE - 3 and line[end] & 0xC0 == 0x80:  # inside of a character of UTF-8
            end -= 1
        yield line[start:end]
        start = end
    yield line[start:]


EVERY_SECONDS = 1.0
READ_AHEAD = 16
"""Lines of one container that are held while others are written."""
RECOVER = "recover"


@dataclass(frozen=True, slots=True)
class Selection:
    """A choice of pods of a resource. Neither given: all steps, and the newest attempt."""

    attempt: int | None = None
    step: str | None = None

    def takes(self, pod: Object, newest: int | None) -> bool:
        role, attempt = _label(pod, ROLE_LABEL), _attempt(pod)
        if role == RECOVER and self.step != RECOVER:
            return False
        if self.step is not None and role != self.step:
            return False
        if self.attempt is not None:
            return attempt == self.attempt
        return attempt is None or attempt == newest


class Write(Protocol):
    """Shows a line, or a piece of one. more: another piece follows."""

    def __call__(self, prefix: str, at: str, text: str, *, more: bool = False) -> None: ...


def started_containers(pods: Sequence[Object], selection: Selection) -> list[Source]:
    """Return the started containers of the selected pods: steps by start, then ranks by number."""
    newest = max((number for pod in pods if (number := _attempt(pod)) is not None), default=None)
    taken = [pod for pod in pods if selection.takes(pod, newest)]
    taken.sort(key=lambda pod: (_attempt(pod) or 0, pod.get("status", {}).get("startTime") or "", index_of(pod) or 0))
    return [source for pod in taken for source in _started(pod)]


def prefix_of(pod: Object) -> str:
    """Return the prefix of a pod's lines: rank's index, step's role, or role and end of the pod's name."""
    index, role = index_of(pod), _label(pod, ROLE_LABEL) or "pod"
    if _attempt(pod) is not None and index is not None:
        return str(index)
    return role if index is not None else f"{role}/{pod['metadata']['name'].rpartition('-')[2]}"


async def print_merged(logs: Logs, wanted: Sequence[Source], write: Write, tail: int | None) -> None:
    """Write the lines of all containers so far, merged by time; at most READ_AHEAD lines of each are held."""
    queues: list[asyncio.Queue[Line | None]] = [asyncio.Queue(READ_AHEAD) for _ in wanted]

    async def read(source: Source, queue: asyncio.Queue[Line | None]) -> None:
        async for line in logs.lines(source, follow=False, after="", tail=tail):
            await queue.put(line)
        await queue.put(None)

    async def merge() -> None:
        first = [await queue.get() for queue in queues]
        heads = [(line.at, number, line) for number, line in enumerate(first) if line]
        heapq.heapify(heads)
        while heads:
            _, number, line = heapq.heappop(heads)
            write(wanted[number].prefix, line.at, line.text, more=line.more)
            while (following := await queues[number].get()) and line.more:
                line = following
                write(wanted[number].prefix, line.at, line.text, more=line.more)
            if following:
                heapq.heappush(heads, (following.at, number, following))

    await gather_calls([merge(), *(read(source, queue) for source, queue in zip(wanted, queues, strict=True))])


async def follow(
    logs: Logs,
    look: Callable[[], Awaitable[tuple[Sequence[Source], bool]]],
    write: Write,
    tail: int | None,
) -> None:
    """Write lines as they come, of every container as it starts.

    look: the containers of now, and whether no further ones will come. A stream that breaks is resumed where it
    broke, while its container exists.
    """
    newest: dict[Source, str] = {}  # time of the last line written
    reading: dict[Source, asyncio.Task[None]] = {}

    async def read(source: Source) -> None:
        while True:
            after = newest.get(source, "")
            try:
                async for line in logs.lines(source, follow=True, after=after, tail=None if after else tail):
                    newest[source] = max(newest.get(source, ""), line.at)
                    write(source.prefix, line.at, line.text, more=line.more)
                return
            except (NotFound, Invalid):
                return  # the pod, or this run of its container, is gone
            except ClusterError:
                await asyncio.sleep(EVERY_SECONDS)

    try:
        while True:
            present, last = await look()
            for source in present:
                if source not in reading:
                    reading[source] = asyncio.create_task(read(source))
            open_streams = [task for task in reading.values() if not task.done()]
            if last and not open_streams:
                return
            await (asyncio.wait(open_streams, timeout=EVERY_SECONDS) if open_streams else asyncio.sleep(EVERY_SECONDS))
    finally:
        for task in reading.values():
            task.cancel()
        await asyncio.gather(*reading.values(), return_exceptions=True)


def _started(pod: Object) -> Iterable[Source]:
    status, meta = pod.get("status", {}), pod["metadata"]
    for statuses in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(statuses) or ():
            state = container.get("state", {})
            if "waiting" in state:  # for its next start: the log is still that of the last one
                state = container.get("lastState", {})
            ran = state.get("running", state.get("terminated"))
            if ran is None:
                continue
            name = prefix_of(pod) + (f"/{container['name']}" if statuses == "initContainerStatuses" else "")
            restarts = int(container.get("restartCount", 0))
            started = ran.get("startedAt", "")
            yield Source(meta["namespace"], meta["name"], meta["uid"], container["name"], restarts, name, started)


def _label(pod: Object, name: str) -> str | None:
    value: str | None = pod["metadata"].get("labels", {}).get(name)
    return value


def _attempt(pod: Object) -> int | None:
    text = _label(pod, ATTEMPT_LABEL)
    return int(text) if text and text.isdigit() else None
