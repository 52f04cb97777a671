"""The logs of many pods as one: which containers, under which prefix, in which order."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from slipway.api.errors import ClusterError, Invalid, NotFound
from slipway.api.kinds import Object
from slipway.cli.together import together
from slipway.plan.outcomes import index_of
from slipway.plan.parent import ATTEMPT_LABEL, ROLE_LABEL

EVERY_SECONDS = 1.0
REREAD = "reread"


class Line(NamedTuple):
    """One line of a log. at: RFC 3339 with nine digits, so that texts sort as times do."""

    at: str
    text: str


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


@dataclass(frozen=True, slots=True)
class Selection:
    """Which pods of a resource. Neither given: all tasks, and the newest attempt."""

    attempt: int | None = None
    task: str | None = None

    def takes(self, pod: Object, newest: int | None) -> bool:
        role, attempt = _label(pod, ROLE_LABEL), _attempt(pod)
        if role == REREAD and self.task != REREAD:
            return False
        if self.task is not None and role != self.task:
            return False
        if self.attempt is not None:
            return attempt == self.attempt
        return attempt is None or attempt == newest


class Logs(Protocol):
    """Where lines come from: the API server, the files of a local run, or a test."""

    def lines(self, source: Source, *, follow: bool, after: str, tail: int | None) -> AsyncIterator[Line]:
        """The lines of a container, in order, that are newer than `after` (`` for all of them)."""
        ...


Write = Callable[[str, str, str], None]
"""Takes prefix, time and text."""


def sources(pods: Sequence[Object], selection: Selection) -> list[Source]:
    """The containers that have started, of the pods that are selected: tasks by start, then ranks by number."""
    newest = max((number for pod in pods if (number := _attempt(pod)) is not None), default=None)
    taken = [pod for pod in pods if selection.takes(pod, newest)]
    taken.sort(key=lambda pod: (_attempt(pod) or 0, pod.get("status", {}).get("startTime") or "", index_of(pod) or 0))
    return [source for pod in taken for source in _started(pod)]


def prefix(pod: Object) -> str:
    """The rank's pod by its index; a task by its role; a serving pod by role and the end of its name."""
    index, role = index_of(pod), _label(pod, ROLE_LABEL) or "pod"
    if _attempt(pod) is not None and index is not None:
        return str(index)
    return role if index is not None else f"{role}/{pod['metadata']['name'].rpartition('-')[2]}"


async def printed(logs: Logs, wanted: Sequence[Source], write: Write, tail: int | None) -> None:
    """What there is by now, all containers merged by time."""

    async def read(source: Source) -> list[tuple[str, int, str, str]]:
        lines = logs.lines(source, follow=False, after="", tail=tail)
        return [(line.at, number, source.prefix, line.text) async for number, line in _counted(lines)]

    for at, _, name, text in heapq.merge(*await together(read(source) for source in wanted)):
        write(name, at, text)


async def followed(
    logs: Logs,
    look: Callable[[], Awaitable[tuple[Sequence[Source], bool]]],
    write: Write,
    tail: int | None,
) -> None:
    """Lines as they come, of every container as it starts.

    look: the containers of now, and whether no further ones will come. A stream that breaks is taken up where it
    broke, as long as its container is there.
    """
    newest: dict[Source, str] = {}  # time of the last line written
    reading: dict[Source, asyncio.Task[None]] = {}

    async def read(source: Source) -> None:
        while True:
            after = newest.get(source, "")
            try:
                async for line in logs.lines(source, follow=True, after=after, tail=None if after else tail):
                    newest[source] = max(newest.get(source, ""), line.at)
                    write(source.prefix, line.at, line.text)
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
            name = prefix(pod) + (f"/{container['name']}" if statuses == "initContainerStatuses" else "")
            restarts = int(container.get("restartCount", 0))
            started = ran.get("startedAt", "")
            yield Source(meta["namespace"], meta["name"], meta["uid"], container["name"], restarts, name, started)


def _label(pod: Object, name: str) -> str | None:
    value: str | None = pod["metadata"].get("labels", {}).get(name)
    return value


def _attempt(pod: Object) -> int | None:
    text = _label(pod, ATTEMPT_LABEL)
    return int(text) if text and text.isdigit() else None


async def _counted(lines: AsyncIterator[Line]) -> AsyncIterator[tuple[int, Line]]:
    number = 0
    async for line in lines:
        yield number, line
        number += 1
