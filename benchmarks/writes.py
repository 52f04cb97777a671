"""(c) The writes of a job's life, from the audit log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from benchmarks.audit import by_kind
from benchmarks.client import client_of
from benchmarks.figures import Figures
from benchmarks.finished import finish_jobs
from benchmarks.namespace import Namespace
from benchmarks.process import operator, wait_until_settled
from benchmarks.recording import training_job_of
from benchmarks.scale import Scale
from benchmarks.server import OPERATOR, audited_server

NODES = (1, 2, 200)


def measure(scale: Scale, told: Callable[[str], None]) -> Figures:
    return asyncio.run(_measure(scale, told))


async def _measure(scale: Scale, told: Callable[[str], None]) -> Figures:  # noqa: ARG001 - a job of each size at any scale
    """Pods appear, run, and end; refused writes count as well."""
    with audited_server() as server:
        async with client_of(server.admin) as admin:
            namespace = Namespace("bench-writes", admin)
            await namespace.create()
            with operator(server) as process:
                await namespace.wait_for_store()
                for nodes in NODES:
                    await finish_jobs(namespace, [f"job-{nodes}"], nodes=nodes, run=True)
                wait_until_settled(process.process.pid)
            writes = server.audit.writes(OPERATOR)
    figures: Figures = {}
    for nodes in NODES:
        own = [write for write in writes if training_job_of(write) == f"job-{nodes}"]
        counted = by_kind(own)
        told(f"{nodes} pods: " + ", ".join(f"{count} {what}" for what, count in counted.items()))
        figures |= {f"writes_per_job_{nodes}_nodes": len(own), f"writes_by_kind_{nodes}_nodes": counted}
    return figures
