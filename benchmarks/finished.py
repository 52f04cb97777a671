"""Clusters full of finished jobs: the operator runs them, and the bench stands for what makes and ends their pods."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from benchmarks.client import at_once, client_of
from benchmarks.controllers import finish, make_pods, run_pods
from benchmarks.namespace import Namespace
from benchmarks.process import operator
from benchmarks.scale import Scale
from benchmarks.server import Server, audited_server
from slipway.api.kinds import JOB, TRAINING_JOB, Object

APPLIED_AT_ONCE = 100
"""Jobs under way at any time: more would wait for their pods longer than the operator is patient."""
WORKERS = 16
LIMIT_SECONDS = 1800


class Filled:
    """A server with scale.sizes finished jobs: the smaller two each in a namespace of their own, the largest in all."""

    def __init__(self, server: Server, scale: Scale) -> None:
        self.server = server
        few, some, most = scale.sizes
        self.counts = {"bench-few": few, "bench-some": some, "bench-rest": most - few - some}

    def scope(self, index: int) -> tuple[str, ...]:
        """Arguments of an operator that serves as many jobs as sizes[index] says."""
        return (("--namespace", "bench-few"), ("--namespace", "bench-some"), ())[index]


@contextmanager
def filled(scale: Scale, told: Callable[[str], None]) -> Iterator[Filled]:
    with audited_server() as server:
        cluster = Filled(server, scale)
        asyncio.run(_fill(cluster, told))
        yield cluster


async def _fill(cluster: Filled, told: Callable[[str], None]) -> None:
    async with client_of(cluster.server.admin) as client:
        namespaces = [Namespace(name, client) for name in cluster.counts]
        for namespace in namespaces:
            await namespace.create()
        with operator(cluster.server):
            for namespace in namespaces:
                await namespace.wait_for_store()
                await finish_jobs(namespace, [f"job-{number:04}" for number in range(cluster.counts[namespace.name])])
                told(f"{cluster.counts[namespace.name]} finished jobs in {namespace.name}")


async def finish_jobs(namespace: Namespace, names: Sequence[str], *, nodes: int = 2, run: bool = False) -> None:
    """Apply TrainingJobs and bring them to their end. run: let the operator see the pods run in between."""
    client = namespace.client
    slots = asyncio.Semaphore(APPLIED_AT_ONCE)
    jobs: asyncio.Queue[Object] = asyncio.Queue()

    async def apply(name: str) -> None:
        await slots.acquire()
        await namespace.apply(name, nodes)

    async def bring_to_an_end(_: str) -> None:
        job = await jobs.get()
        pods = await make_pods(client, job)
        if run:
            await run_pods(client, pods)
            await namespace.wait_for_phase(job["metadata"]["labels"]["slipway.dev/training-job"], "Running")
        await finish(client, job, pods)
        slots.release()

    async def see_jobs() -> None:
        async for kind, job in events:
            if kind == "ADDED":
                jobs.put_nowait(job)

    async with asyncio.timeout(LIMIT_SECONDS), client.watch(namespace.path(JOB)) as events:
        seeing = asyncio.create_task(see_jobs())
        await asyncio.gather(at_once(apply, names, WORKERS), at_once(bring_to_an_end, names, WORKERS))
        await namespace.wait_until_all(TRAINING_JOB, _succeeded)
        seeing.cancel()


def _succeeded(job: Object) -> bool:
    """Raises where it failed: the bench then stands badly for what a cluster does."""
    if (phase := job["status"].get("phase")) == "Failed":
        raise RuntimeError(f"{job['metadata']['name']} failed: {job['status']['conditions']}")
    return bool(phase == "Succeeded")
