"""(e) A new operator over finished jobs: until it is ready and leads, and what it holds for each job."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.figures import Figures
from benchmarks.finished import Filled
from benchmarks.process import operator, stop, wait_until_it_leads, wait_until_settled
from benchmarks.scale import Scale
from benchmarks.server import audited_server


def measure(cluster: Filled, scale: Scale, told: Callable[[str], None]) -> Figures:
    """KB a job: what an operator holds when it has planned them all, less what one over an empty cluster holds."""
    figures: Figures = {}
    with audited_server() as empty, operator(empty, leads=True) as process:
        wait_until_settled(process.process.pid)
        nothing = process.rss_bytes()
        stop(process)
    for index, name in ((1, "1000"), (2, "5000")):
        jobs = scale.sizes[index]
        with operator(cluster.server, *cluster.scope(index), leads=True) as process:
            seconds = wait_until_it_leads(process)
            wait_until_settled(process.process.pid)
            rss = process.rss_bytes()
            stop(process)
        each = (rss - nothing) / jobs / 1e3
        told(f"{jobs} jobs: leads after {seconds:.1f} s, {rss / 1e6:.0f} MB, {each:.1f} KB a job")
        figures |= {f"restart_{name}_seconds": seconds, f"restart_{name}_rss_mb": rss / 1e6}
        figures[f"restart_{name}_kb_per_job"] = each
    return figures
