"""The logs of many pods as one: which containers, under which prefix, in which order."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from slipway.api.errors import ClusterError, Invalid, NotFound
from slipway.api.kinds import Object
from slipway.cli.connections.logs import Line, Logs, Source
from slipway.cluster.port import gather_calls
from slipway.plan.jobs.pods import index_of
from slipway.plan.owner import ATTEMPT_LABEL, ROLE_LABEL

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
    """The containers that have started, of the pods that are selected: steps by start, then ranks by number."""
    newest = max((number for pod in pods if (number := _attempt(pod)) is not None), default=None)
    taken = [pod for pod in pods if selection.takes(pod, newest)]
    taken.sort(key=lambda pod: (_attempt(pod) or 0, pod.get("status", {}).get("startTime") or "", index_of(pod) or 0))
    return [source for pod in taken for source in _started(pod)]


def prefix_of(pod: Object) -> str:
    """The rank's pod by its index; a step by its role; a serving pod by role and the end of its name."""
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
    """Lines as they come, of every container as it starts.

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
