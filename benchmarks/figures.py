"""From samples to figures, bars, the table and the report."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

Figures = dict[str, Any]
"""Of one measurement: keys of the report."""

REPORT = Path(__file__).resolve().parents[1] / "build/reports/bench.json"


class Bar(NamedTuple):
    """A figure that is promised. at_least: it is a lower limit, else an upper one that the figure may reach."""

    key: str
    what: str
    limit: float
    at_least: bool = False

    def held(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


BARS = (
    Bar("throughput_ratio", "jobs/s over those of a client that replays the same writes", 0.75, at_least=True),
    Bar("throughput_ratio_to_bare_job_and_service", "jobs/s over a bare Job + Service", 0.3, at_least=True),
    Bar("latency_ratio", "apply to pods, over the same writes by a bare client", 1.2),
    Bar("latency_ratio_to_bare_job_and_service", "apply to pods, over a bare Job + Service", 1.8),
    Bar("writes_per_job_1_nodes", "writes of a one-pod job's life, Events included", 6),
    Bar("writes_per_job_2_nodes", "the same with two pods", 8),
    Bar("writes_per_job_200_nodes", "the same with 200 pods", 14),
    Bar("writes_of_five_steps", "writes of a ModelDeployment with five steps", 55),
    Bar("status_bytes_after_100_steps", "bytes of its status after 100 Steps", 30_000),
    Bar("quiet_writes", "writes in a quiet cluster", 0),
    Bar("quiet_cpu_percent", "CPU in a quiet cluster, % of a core", 1.0),
    Bar("quiet_rss_mb", "RSS in a quiet cluster, MB", 150),
    Bar("restart_5000_seconds", "restart with the most jobs: seconds until it leads", 15),
    Bar("restart_5000_kb_per_job", "memory of a job with its two pods, KB", 40),
    Bar("event_cost_ratio_5000_to_100", "an event's cost with the most jobs, over that with the fewest", 1.3),
)


def spread(samples: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(samples), "min": min(samples), "max": max(samples), "samples": len(samples)}


def missed(figures: Mapping[str, Any]) -> list[Bar]:
    return [bar for bar in BARS if bar.key in figures and not bar.held(figures[bar.key])]


def table(figures: Mapping[str, Any]) -> Table:
    shown = Table("figure", "value", "bar", "", title="Slipway's benchmarks")
    for bar in BARS:
        if bar.key in figures:
            sign = ">=" if bar.at_least else "<="
            mark = "[green]held[/green]" if bar.held(figures[bar.key]) else "[red]missed[/red]"
            shown.add_row(bar.what, f"{figures[bar.key]:.3g}", f"{sign} {bar.limit:g}", mark)
    return shown


def write_report(figures: Mapping[str, Any], scale: str) -> None:
    """Figures of measurements that did not run this time are kept where they are of the same scale."""
    before = json.loads(REPORT.read_text()) if REPORT.exists() else {}
    kept = before if before.get("scale") == scale else {}
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps({**kept, "scale": scale, "machine": machine(), **figures}, indent=1) + "\n")


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return {"cpu": cpu, "cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}
