"""(d) A quiet cluster of finished jobs: what the operator writes, computes and holds while nothing happens."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.audit import by_kind
from benchmarks.figures import Figures
from benchmarks.finished import Filled
from benchmarks.process import cpu_seconds, operator, wait_until_it_leads, wait_until_settled
from benchmarks.scale import Scale
from benchmarks.server import OPERATOR


def measure(cluster: Filled, scale: Scale, told: Callable[[str], None]) -> Figures:
    """With a Lease, whose renewal costs CPU but is not counted as a write; so long that watches and resync renew."""
    resync = ("--resync-seconds", str(scale.resync_seconds))
    with operator(cluster.server, *cluster.scope(1), *resync, leads=True) as process:
        wait_until_it_leads(process)
        pid = process.process.pid
        wait_until_settled(pid)
        cluster.server.audit.skip()
        began, before = time.monotonic(), cpu_seconds(pid)
        time.sleep(scale.quiet_seconds)
        share = (cpu_seconds(pid) - before) / (time.monotonic() - began)
        writes = cluster.server.audit.writes(OPERATOR)
        figures = {
            "quiet_writes": len(writes),
            "quiet_writes_by_kind": by_kind(writes),
            "quiet_cpu_percent": 100 * share,
            "quiet_rss_mb": process.rss_bytes() / 1e6,
        }
    told(f"{len(writes)} writes, {100 * share:.2f} % of a core, {figures['quiet_rss_mb']:.0f} MB")
    return figures
