"""The connection to a local run: objects and logs in the state folder, and the ports where its Services answer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from slipway.api.errors import NotFound
from slipway.api.kinds import DEFAULT_NAMESPACE, POD, SERVICE, Key, Object, key_of
from slipway.cli.connections.connection import Inactive
from slipway.cli.connections.endpoints import Endpoint, service_name
from slipway.cli.connections.logs import Line, Piece, Source, Splitter, redrawn_lines
from slipway.cli.rendering.errors import NOT_FOUND, UNAVAILABLE, CommandError
from slipway.cli.rendering.summary import reference
from slipway.local.snapshot import SnapshotReader, is_starting, read_run_info
from slipway.local.state import StateFolder

EVERY_SECONDS = 0.2
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class LocalConnection:
    """connections.Connection to what one state folder holds."""

    state: StateFolder
    cluster: SnapshotReader
    namespace: str

    @asynccontextmanager
    async def logs(self) -> AsyncIterator[FolderLogs]:
        yield FolderLogs(self.state, self.cluster)

    @asynccontextmanager
    async def endpoint(self, deployment: Object, protocol: str) -> AsyncIterator[Endpoint]:
        if inactive := self.inactive([deployment]):
            raise CommandError(inactive.reason, UNAVAILABLE)
        service = Key(SERVICE, deployment["metadata"]["namespace"], service_name(deployment))
        run = read_run_info(self.state)
        address = run.address(service, protocol) if run else None
        if address is None:
            raise CommandError(f"service {service.name} has no port for {protocol}", UNAVAILABLE)
        yield Endpoint(address, f"service {service.name} of the local run")

    def with_reachable_urls(self, objects: Sequence[Object]) -> list[Object]:
        """status.url names a Service, which no name server knows here: the port that stands for it, if one does."""
        return [self._with_reachable_url(obj) if obj.get("status", {}).get("url") else obj for obj in objects]

    def _with_reachable_url(self, deployment: Object) -> Object:
        status = {name: value for name, value in deployment["status"].items() if name != "url"}
        run = read_run_info(self.state)
        if run is not None and run.works_on(key_of(deployment)):
            service = Key(SERVICE, deployment["metadata"]["namespace"], service_name(deployment))
            if (address := run.address(service, "http")) is not None:
                status["url"] = f"http://{address}"
        return {**deployment, "status": status}

    def inactive(self, objects: Sequence[Object]) -> Inactive | None:
        run = read_run_info(self.state)
        inactive = [obj for obj in objects if run is None or not run.works_on(key_of(obj))]
        if not inactive:
            return None
        if run is None:
            reason = f"nothing runs in {self.state.root}{self._left()}; `slipway run` goes on from there"
            return Inactive(inactive, reason)
        names = ", ".join(map(reference, inactive))
        return Inactive(inactive, f"left so by an earlier run, and in no file of the one at work: {names}")

    def _left(self) -> str:
        try:
            left = datetime.fromtimestamp(self.state.objects.stat().st_mtime)  # noqa: DTZ006 - the user's own clock
        except FileNotFoundError:
            return ""
        return f", and this is how the last run left it at {left:%Y-%m-%d %H:%M:%S}"


async def open_state(root: Path, namespace: str | None) -> LocalConnection:
    """Open the folder when the run that begins there has begun. Raises CommandError for a folder without a run."""
    state = StateFolder(root)
    while is_starting(state):
        await asyncio.sleep(EVERY_SECONDS)
    if not state.objects.exists():
        what = f"no local run has been in {root}; start one by `slipway run`, or name its folder by --state"
        raise CommandError(what, NOT_FOUND)
    return LocalConnection(state, SnapshotReader(state), namespace or DEFAULT_NAMESPACE)


@dataclass(frozen=True, slots=True)
class FolderLogs:
    """Logs of files. They bear no times: each line has that of its container's start."""

    state: StateFolder
    kept: SnapshotReader

    async def lines(self, source: Source, *, follow: bool, after: str, tail: int | None) -> AsyncIterator[Line]:  # noqa: ARG002 - a file's stream does not break
        pod = Key(POD, source.namespace, source.pod)
        path = self.state.log_of(pod, source.container, source.restarts)
        if not path.exists():
            return
        with path.open("rb") as file:
            splitter = Splitter()
            if tail is not None:
                for piece in deque(_read(file, splitter), tail):
                    yield Line(source.started, *piece)
            while True:
                over = not follow or await self._has_ended(source)  # asked before the last read
                for piece in _read(file, splitter):
                    yield Line(source.started, *piece)
                if over:
                    break
                await asyncio.sleep(EVERY_SECONDS)
            for text, more in splitter.end():
                for piece in redrawn_lines(text, more=more):
                    yield Line(source.started, *piece)

    async def _has_ended(self, source: Source) -> bool:
        if read_run_info(self.state) is None:
            return True
        try:
            pod = await self.kept.get(Key(POD, source.namespace, source.pod))
        except NotFound:
            return True
        statuses = [*pod["status"].get("initContainerStatuses", ()), *pod["status"]["containerStatuses"]]
        status = next(one for one in statuses if one["name"] == source.container)
        return status["restartCount"] > source.restarts or "running" not in status["state"]


def _read(file: BinaryIO, splitter: Splitter) -> Iterator[Piece]:
    """Yield what was written to the file since it was read last."""
    while chunk := file.read(_CHUNK):
        for piece in splitter.feed(chunk):
            yield from redrawn_lines(piece.text, more=piece.more)
