"""A user who trains without end on a real API server, and whose pods do their work: load for operator processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slipway.api.kinds import JOB, TRAINING_JOB, Object
from slipway.cluster.connection import Connection
from support.builders import training_job
from support.faults.operations import works
from support.faults.real_admin import RealAdmin
from support.faults.scenario import placed
from support.faults.scenarios import store_objects
from support.faults.world import World
from support.threads import OtherLoop, loop_in_thread

PAUSE_SECONDS = 0.5
CLIENTS = 8


class Stream:
    """TrainingJobs of one namespace: each is made, and each Job that appears is ended well."""

    def __init__(self, connection: Connection, namespace: str, loop: OtherLoop) -> None:
        self._admin = RealAdmin(connection)
        self._world = World(self._admin, namespace, _now, works)
        self._world.collects = False
        self._loop = loop
        self._connection = connection
        self.made = 0

    def make_place(self) -> None:
        """The namespace, with a store whose claim is bound."""
        self._loop.run(self._make_place())

    def make(self, names: Iterable[str], **spec: Any) -> None:
        """TrainingJobs of these names, as fast as a few clients can. spec: fields of theirs, in wire form."""
        self._loop.run(self._make(list(names), **spec), 600)

    def training_jobs(self) -> list[Object]:
        return list(self._loop.run(self._admin.list(TRAINING_JOB, self._world.namespace)))

    def succeeded(self) -> int:
        """How many have."""
        return sum(job.get("status", {}).get("phase") == "Succeeded" for job in self.training_jobs())

    def jobs(self) -> list[Object]:
        return list(self._loop.run(self._admin.list(JOB, self._world.namespace)))

    def work(self) -> bool:
        """All pods go one step further. True where anything moved."""
        return self._loop.run(self._world.move(), 60)

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """New TrainingJobs until the block ends; those that are open then are left to `work`."""
        stop = asyncio.Event()
        flow = self._loop.start(self._flow(stop))
        try:
            yield
        finally:
            self._loop.call(stop.set)
            flow.result(60)

    async def _make_place(self) -> None:
        name = {"metadata": {"name": self._world.namespace}}
        await self._connection.call("make a namespace", "POST", "/api/v1/namespaces", body=name)
        for obj in store_objects():
            await self._admin.create(placed(obj, self._world.namespace))

    async def _make(self, names: list[str], **spec: Any) -> None:
        async def some(first: int) -> None:
            for name in names[first::CLIENTS]:
                await self._admin.create(placed(training_job(name, **spec), self._world.namespace))

        await asyncio.gather(*(some(first) for first in range(CLIENTS)))

    async def _flow(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._make([f"stream-{self.made}"])
            self.made += 1
            await self._world.move()
            await asyncio.sleep(PAUSE_SECONDS)  # the rate of the load; nothing waits for it


@contextmanager
def streams_to(kubeconfig: Path, *namespaces: str) -> Iterator[list[Stream]]:
    """Streams by one connection; their namespaces are made."""
    with loop_in_thread() as loop:
        connection = loop.run(Connection.open(str(kubeconfig)))
        try:
            streams = [Stream(connection, namespace, loop) for namespace in namespaces]
            for stream in streams:
                stream.make_place()
            yield streams
        finally:
            loop.run(connection.close())


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the kubelet's clock
