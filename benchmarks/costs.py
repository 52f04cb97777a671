"""What each write of a TrainingJob's start costs the API server: its processor time, one kind of write at a time."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable

from benchmarks.client import Client, at_once, client_of
from benchmarks.figures import Figures
from benchmarks.namespace import Namespace
from benchmarks.recording import Replay, Request
from benchmarks.scale import Scale
from benchmarks.server import BARE, audited_server
from benchmarks.throughput import by_operator, unmade

RECORDED = [f"job-{number}" for number in range(20)]
"""Jobs that the operator starts; the writes of the last one are made again."""
WORKERS = 8


def measure(scale: Scale, told: Callable[[str], None]) -> Figures:
    return asyncio.run(_measure(scale, told))


async def _measure(scale: Scale, told: Callable[[str], None]) -> Figures:
    names = [f"job-{number:04}" for number in range(scale.jobs)]
    costs: dict[str, dict[str, float]] = {}
    with audited_server() as server:
        async with client_of(server.admin) as admin, client_of(server.connection(BARE)) as bare:

            async def each(what: str, replays: list[Replay], request: Request) -> None:
                before, started = await _processor_seconds(admin), time.perf_counter()
                await at_once(lambda replay: replay.make(bare, request), replays, WORKERS)
                seconds = time.perf_counter() - started
                spent = 1000 * (await _processor_seconds(admin) - before) / len(replays)
                costs[what] = {"api_server_ms": spent, "per_second": len(replays) / seconds}
                told(f"{what}: {spent:.1f} ms of the API server, {len(replays) / seconds:.0f} a second")

            _, recordings = await by_operator(server, Namespace("recorded", admin), RECORDED)
            recording = recordings[RECORDED[-1]]
            namespace = Namespace("costs", admin)
            await namespace.create()
            jobs = [await namespace.apply(name) for name in names]
            replays = [Replay(job) for job in jobs]
            for number, request in enumerate(recording.requests, 1):
                await each(f"{number}. {request.method} {_resource(request)}", replays, request)
            await namespace.empty()
            for resource in ("services", "networkpolicies", "jobs"):
                alone = Namespace(f"bare-{resource}", admin)
                await alone.create()
                (request,) = recording.created(resource).requests
                await each(f"bare POST {resource}", [Replay(unmade(name, alone)) for name in names], request)
                await alone.empty()
    return {"costs_of_writes": costs}


async def _processor_seconds(client: Client) -> float:
    """That the API server has used since it began, by its own metrics."""
    text = (await client.call("GET", "/metrics")).decode()
    found = re.search(r"^process_cpu_seconds_total (\S+)$", text, re.MULTILINE)
    if found is None:
        raise RuntimeError("the API server's metrics have no process_cpu_seconds_total")
    return float(found[1])


def _resource(request: Request) -> str:
    """`services`, `trainingjobs/status`."""
    path = request.path.partition("/namespaces/")[2].split("?")[0].split("/")
    return "/".join(path[1::2])
