"""`python -m benchmarks`: measure, print a table of the figures that have bars, and leave build/reports/bench.json."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import costs, growth, latency, planner, quiet, restart, steps, throughput, writes
from benchmarks.figures import Figures, missed, table, write_report
from benchmarks.finished import Filled, filled
from benchmarks.scale import FULL, QUICK, Scale

Told = Callable[[str], None]

ALONE: dict[str, Callable[[Scale, Told], Figures]] = {
    "throughput": throughput.measure,
    "latency": latency.measure,
    "writes": writes.measure,
    "costs": costs.measure,
    "planner": planner.measure,
    "steps": steps.measure,
}
FILLED: dict[str, Callable[[Filled, Scale, Told], Figures]] = {
    "restart": restart.measure,
    "growth": growth.measure,
    "quiet": quiet.measure,
}
"""These share a cluster of finished jobs, which takes minutes to make."""


def main(
    only: Annotated[
        str,
        typer.Option(
            help="some of throughput, latency, writes, costs, planner, steps, restart, growth, quiet; all without it"
        ),
    ] = "",
    quick: Annotated[bool, typer.Option(help="small sizes, five minutes in all")] = False,
) -> None:
    """Exits with 1 where a bar is missed; a quick run's figures are held to the same bars, and may miss by noise."""
    console = Console()
    scale = QUICK if quick else FULL
    names = [*ALONE, *FILLED]
    chosen = [name for name in only.split(",") if name] or names
    if unknown := [name for name in chosen if name not in names]:
        raise typer.BadParameter(f"{', '.join(unknown)}: choose of {', '.join(names)}", param_hint="--only")
    figures: Figures = {}

    def told(line: str) -> None:
        console.print(f"  {line}", highlight=False)

    def measured(name: str, measure: Callable[[], Figures]) -> None:
        console.print(f"[bold]{name}[/bold]")
        began = time.monotonic()
        figures.update(measure())
        told(f"took {time.monotonic() - began:.0f} s")
        write_report(figures, scale.name)

    for name, alone in ALONE.items():
        if name in chosen:
            measured(name, partial(alone, scale, told))
    if any(name in chosen for name in FILLED):
        console.print("[bold]a cluster of finished jobs[/bold]")
        with filled(scale, told) as cluster:
            for name, over in FILLED.items():
                if name in chosen:
                    measured(name, partial(over, cluster, scale, told))
    console.print(table(figures))
    raise typer.Exit(1 if missed(figures) else 0)


if __name__ == "__main__":
    typer.run(main)
