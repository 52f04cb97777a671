"""`make demo-cluster`: the whole chain on a real cluster, with progress, a table and a report."""

from __future__ import annotations

import os
import sys

from rich.console import Console

from demo import chart, digits
from demo.figures import missed_bars, table, write_report
from demo.kubectl import Kubectl
from demo.stages import Stages

REPORT = chart.ROOT / "build/reports/demo-cluster.json"
CLAIM = "slipway-store"


def main() -> int:
    """Seeds 0 to SEEDS-1 (default 1); 0 where every bar holds."""
    seeds = range(int(os.environ.get("SEEDS", "1")))
    console = Console(stderr=False)
    stages = Stages(console)
    images = chart.images()
    kubectl = Kubectl(os.environ.get("DEMO_NAMESPACE", "digits"))
    with stages.stage("install", "the chart, by helm"):
        chart.install(images)
        if os.environ.get("SLIPWAY_DEV_CLUSTER"):
            chart.restart()
    with stages.stage("store", "a claim, an ArtifactStore and a GPUPool"):
        kubectl.ensure_namespace()
        kubectl("apply", "--server-side", "-f", str(digits.EXAMPLE / "store.yaml"))
    results = []
    for seed in seeds:
        run = digits.run_of(seed)
        digits.train(kubectl, run, stages)
        deployed = digits.deploy(kubectl, run, stages)
        results.append({"seed": seed, **digits.ask(kubectl, run, deployed, images.runtime, CLAIM, stages)})
        if seed != seeds[-1]:
            digits.make_room(kubectl, run)
    write_report(REPORT, results, stages.seconds)
    console.print(table(results))
    console.print(f"report: {REPORT.relative_to(chart.ROOT)}\n{_next(kubectl.namespace)}", highlight=False)
    missed = [f"seed {result['seed']}: {bar}" for result in results for bar in missed_bars(result)]
    for line in missed:
        console.print(f"[red]missed[/red]  {line}", highlight=False)
    return 1 if missed else 0


def _next(namespace: str) -> str:
    return (
        "next, on the cluster that this ran on:\n"
        f"  slipway status -n {namespace}\n"
        f"  slipway logs tj/digits -n {namespace}\n"
        f"  slipway predict digits --dataset digits --limit 10 -n {namespace}"
    )


if __name__ == "__main__":
    sys.exit(main())
