"""(b) One job: from sending the POST of the TrainingJob until a watch shows the second pod; pairs, ABAB.

A: the operator. B: the same writes in the same order by a bare client, which begins with the answer to its POST.
C, beside them: a client that makes Job and Service alone. In all three the bench makes the pods when it sees the Job.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from benchmarks.client import Client, client_of
from benchmarks.controllers import PODS, make_pods
from benchmarks.figures import Figures, spread
from benchmarks.namespace import Namespace
from benchmarks.process import operator, wait_until_settled
from benchmarks.recording import Recording, training_job_of
from benchmarks.scale import Scale
from benchmarks.server import BARE, OPERATOR, Server, audited_server
from slipway.api.kinds import JOB, POD, Object

LIMIT_SECONDS = 30
QUIET_SECONDS = 0.1
"""After a sample's objects were deleted, until nobody handles their events any more."""

Begin = Callable[[str], Coroutine[None, None, None]]
"""Makes a job of that name, or has it made."""


def measure(scale: Scale, told: Callable[[str], None]) -> Figures:
    return asyncio.run(_measure(scale, told))


async def _measure(scale: Scale, told: Callable[[str], None]) -> Figures:
    with audited_server() as server:
        async with (
            client_of(server.admin) as admin,
            client_of(server.connection(BARE)) as bare,
            AsyncExitStack() as stack,
        ):
            stage = await _Stage.set(stack, Namespace("bench-operator", admin))
            other = await _Stage.set(stack, Namespace("bench-bare", admin))
            process = stack.enter_context(operator(server, "--namespace", stage.namespace.name))
            await stage.namespace.wait_for_store()
            recording = await _recorded(server, stage)
            alone = recording.created("services", "jobs")

            async def apply(name: str) -> None:
                await stage.namespace.apply(name)

            async def replay(name: str) -> None:
                await recording.replay(bare, await other.namespace.apply(name))

            async def children(name: str) -> None:
                meta = {"name": name, "namespace": other.namespace.name, "uid": name, "resourceVersion": ""}
                await alone.replay(bare, {"metadata": meta})

            arms: tuple[tuple[_Stage, Begin], ...] = ((stage, apply), (other, replay), (other, children))
            seconds: tuple[list[float], ...] = ([], [], [])
            for number in range(-2, scale.pairs):  # the first two warm up
                for samples, (where, begin) in zip(seconds, arms, strict=True):
                    sample = await where.sample(f"job-{number + 2:04}", begin)
                    if number >= 0:
                        samples.append(1000 * sample)
                    wait_until_settled(process.process.pid, QUIET_SECONDS)
    operators, replays, jobs = (spread(samples) for samples in seconds)
    told(f"{operators['median']:.1f} ms; replayed {replays['median']:.1f} ms; Job + Service {jobs['median']:.1f} ms")
    return {
        "latency_ratio": operators["median"] / replays["median"],
        "latency_ratio_to_bare_job_and_service": operators["median"] / jobs["median"],
        "latency_ms": {"operator": operators, "replay": replays, "job_and_service": jobs},
    }


@dataclass
class _Stage:
    """A namespace whose Jobs get pods, and whose pods are seen."""

    namespace: Namespace
    pods: asyncio.Queue[float]

    @classmethod
    async def set(cls, stack: AsyncExitStack, namespace: Namespace) -> _Stage:
        await namespace.create()
        stage = cls(namespace, asyncio.Queue())
        client = namespace.client
        jobs = await stack.enter_async_context(client.watch(namespace.path(JOB)))
        pods = await stack.enter_async_context(client.watch(namespace.path(POD), metadata_only=True))
        await stack.enter_async_context(_running(stage._give_pods(client, jobs)))
        await stack.enter_async_context(_running(stage._see_pods(pods)))
        return stage

    async def sample(self, name: str, begin: Begin) -> float:
        """Seconds until the second pod was seen. What was made is deleted again."""
        async with asyncio.timeout(LIMIT_SECONDS):
            started = time.perf_counter()
            making = asyncio.create_task(begin(name))
            for _ in range(PODS):
                seen_at = await self.pods.get()
            await making
        await self.namespace.empty()
        return seen_at - started

    async def _give_pods(self, client: Client, jobs: AsyncIterator[tuple[str, Object]]) -> None:
        async for kind, job in jobs:
            if kind == "ADDED":
                await make_pods(client, job)

    async def _see_pods(self, pods: AsyncIterator[tuple[str, Object]]) -> None:
        async for kind, _ in pods:
            if kind == "ADDED":
                self.pods.put_nowait(time.perf_counter())


async def _recorded(server: Server, stage: _Stage) -> Recording:
    """What the operator writes for a job up to its pods: the last write notes the Job's UID."""
    server.audit.skip()
    applied: list[Object] = []

    async def apply(name: str) -> None:
        applied.append(await stage.namespace.apply(name))
        uids.update(await stage.namespace.job_uids([name]))

    uids: dict[str, str] = {}
    await stage.sample("recorded", apply)
    writes = [write for write in server.audit.writes(OPERATOR) if training_job_of(write) == "recorded"]
    return Recording.of(writes, applied[0], uids["recorded"])


@asynccontextmanager
async def _running(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
