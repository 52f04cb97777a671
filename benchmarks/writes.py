"""(c) The writes of a two-pod job's life, from the audit log."""

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


def measure(scale: Scale, told: Callable[[str], None]) -> Figures:
    return asyncio.run(_measure(scale, told))


async def _measure(scale: Scale, told: Callable[[str], None]) -> Figures:  # noqa: ARG001 - one job at any scale
    """Pods appear, run, and end; refused writes count as well."""
    with audited_server() as server:
        async with client_of(server.admin) as admin:
            namespace = Namespace("bench-writes", admin)
            await namespace.create()
            with operator(server) as process:
                await namespace.wait_for_store()
                await finish_jobs(namespace, ["job"], run=True)
                wait_until_settled(process.process.pid)
            writes = [write for write in server.audit.writes(OPERATOR) if training_job_of(write) == "job"]
    counted = by_kind(writes)
    told(", ".join(f"{count} {what}" for what, count in counted.items()))
    return {"writes_per_job": len(writes), "writes_by_kind": counted}
