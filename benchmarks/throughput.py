"""(a) TrainingJobs applied at once, until all their children exist; ABAB against a client that replays the writes.

A: the operator. B: a process that watches TrainingJobs, as the operator must, and makes the same writes at the same
concurrency. Every run has a fresh process and a fresh namespace, which is emptied after it. The Job is the last child.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.audit import Write
from benchmarks.client import Client, at_once, client_of
from benchmarks.figures import Figures, spread
from benchmarks.namespace import Namespace
from benchmarks.process import WORKERS, operator
from benchmarks.recording import Recording, save, training_job_of
from benchmarks.scale import Scale
from benchmarks.server import BARE, OPERATOR, Server, audited_server
from slipway.api.kinds import JOB, Object

APPLIERS = 8
"""Connections of the user who applies the jobs."""
LIMIT_SECONDS = 600


def measure(scale: Scale, told: Callable[[str], None]) -> Figures:
    return asyncio.run(_measure(scale, told))


async def _measure(scale: Scale, told: Callable[[str], None]) -> Figures:
    operators, replays, children, unrecorded = [], [], [], []
    names = [f"job-{number:04}" for number in range(scale.jobs)]
    with audited_server() as server, TemporaryDirectory() as folder:
        file = Path(folder) / "recordings.json"
        async with client_of(server.admin) as admin, client_of(server.connection(BARE)) as bare:
            for number in range(scale.rounds):
                rate, recordings = await by_operator(server, Namespace(f"operator-{number}", admin), names)
                operators.append(rate)
                save(recordings, file)
                replays.append(await _by_replay(server, Namespace(f"replay-{number}", admin), names, file))
                recording = next(iter(recordings.values()))
                alone = recording.created("services", "jobs")
                children.append(await _children_alone(Namespace(f"children-{number}", admin), names, bare, alone))
                all_three = recording.created("services", "networkpolicies", "jobs")
                unrecorded.append(await _unrecorded(Namespace(f"unrecorded-{number}", admin), names, bare, all_three))
                told(
                    f"{operators[-1]:.1f} jobs/s; replayed {replays[-1]:.1f}; without a status {unrecorded[-1]:.1f};"
                    f" Job + Service {children[-1]:.1f}"
                )
    ratios = spread([one / other for one, other in zip(operators, replays, strict=True)])
    bare_ratios = spread([one / other for one, other in zip(operators, children, strict=True)])
    most = spread([one / other for one, other in zip(unrecorded, children, strict=True)])
    rates = {
        "operator": spread(operators),
        "replay": spread(replays),
        "without_a_status": spread(unrecorded),
        "job_and_service": spread(children),
    }
    return {
        "throughput_ratio": ratios["median"],
        "throughput_ratios": ratios,
        "throughput_ratio_to_bare_job_and_service": bare_ratios["median"],
        "throughput_ratios_to_bare_job_and_service": bare_ratios,
        "throughput_ratio_without_a_status_to_bare_job_and_service": most["median"],
        "jobs_per_second": rates,
    }


async def by_operator(server: Server, namespace: Namespace, names: list[str]) -> tuple[float, dict[str, Recording]]:
    """Its rate, and what it wrote for each job, in the order in which it began."""
    await namespace.create()
    with operator(server, "--namespace", namespace.name):
        await namespace.wait_for_store()
        server.audit.skip()
        rate, applied = await _applied_at_once(namespace, names)
        job_uids = await namespace.job_uids(names)
    await namespace.empty()
    by_job: dict[str, list[Write]] = defaultdict(list)
    for write in server.audit.writes(OPERATOR):
        by_job[training_job_of(write)].append(write)
    return rate, {name: Recording.of(each, applied[name], job_uids[name]) for name, each in by_job.items()}


async def _by_replay(server: Server, namespace: Namespace, names: list[str], recordings: Path) -> float:
    await namespace.create()
    options = {
        "kubeconfig": server.kubeconfigs[BARE],
        "recordings": recordings,
        "namespace": namespace.name,
        "workers": WORKERS,
    }
    arguments = ["-m", "benchmarks.replay", *(f"--{name}={value}" for name, value in options.items())]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=subprocess.PIPE)
    try:
        if process.stdout is None or await process.stdout.readline() != b"ready\n":
            raise RuntimeError("the replaying client did not start")
        applying = asyncio.create_task(_applied_at_once(namespace, names))
        ended = asyncio.create_task(process.wait())
        await asyncio.wait((applying, ended), return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            raise RuntimeError("the replaying client ended early")
        rate, _ = await applying
        await namespace.job_uids(names)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    await namespace.empty()
    return rate


async def _children_alone(namespace: Namespace, names: list[str], bare: Client, recording: Recording) -> float:
    """A client that knows beforehand what to make: Job and Service, and no TrainingJob."""
    await namespace.create()
    owners = [unmade(name, namespace) for name in names]
    started = time.perf_counter()
    await at_once(lambda owner: recording.replay(bare, owner), owners, WORKERS)
    rate = len(names) / (time.perf_counter() - started)
    await namespace.empty()
    return rate


def unmade(name: str, namespace: Namespace) -> Object:
    """What a replay needs to know of a TrainingJob, where there is none."""
    return {"metadata": {"name": name, "namespace": namespace.name, "uid": name, "resourceVersion": ""}}


async def _unrecorded(namespace: Namespace, names: list[str], bare: Client, recording: Recording) -> float:
    """A client that applies TrainingJobs and makes their children, and keeps no record: what the kinds alone cost."""
    await namespace.create()

    async def make(name: str) -> None:
        await recording.replay(bare, await namespace.apply(name))

    started = time.perf_counter()
    await at_once(make, names, WORKERS)
    rate = len(names) / (time.perf_counter() - started)
    await namespace.empty()
    return rate


async def _applied_at_once(namespace: Namespace, names: list[str]) -> tuple[float, dict[str, Object]]:
    """TrainingJobs a second, from the first POST to the last Job that a watch shows; and what was applied."""
    applied: dict[str, Object] = {}

    async def apply(name: str) -> None:
        applied[name] = await namespace.apply(name)

    async with (
        asyncio.timeout(LIMIT_SECONDS),
        namespace.client.watch(namespace.path(JOB), metadata_only=True) as events,
    ):
        started = time.perf_counter()
        applying = asyncio.create_task(at_once(apply, names, APPLIERS))
        missing = len(names)
        async for kind, _ in events:
            missing -= kind == "ADDED"
            if not missing:
                break
        seconds = time.perf_counter() - started
        await applying
    return len(names) / seconds, applied
