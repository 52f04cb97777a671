"""`make demo`: the whole chain on this machine, without a cluster, with progress, a table and a report."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from datetime import UTC, datetime
from typing import Any

import structlog
from rich.console import Console

from demo.chart import ROOT
from demo.digits import EXAMPLE
from demo.figures import figures, missed_bars, places, table, write_report
from demo.predictions import asked
from demo.reference import compute_reference_here
from demo.stages import Stages
from slipway.api.kinds import MODEL_DEPLOYMENT, SERVICE, STEP, TRAINING_JOB, Key, Object
from slipway.cli.rendering.details import TransitionLog, readiness_exit_code, watch_until_ready
from slipway.local.admission import DEFAULT_CLAIM
from slipway.local.cluster import LocalCluster
from slipway.local.session import open_session
from slipway.manifests import read_manifests
from slipway.plan.owner import OWNER_LABELS

REPORT = ROOT / "build/reports/demo.json"
STATE = ROOT / "build/demo"
NAMESPACE, NAME = "default", "digits"
TIMEOUT_SECONDS = 600


def main() -> int:
    """0 where every bar holds."""
    os.environ["PATH"] = f"{ROOT / '.venv/bin'}:{os.environ.get('PATH', os.defpath)}"
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=open(os.devnull, "w")))  # noqa: SIM115
    shutil.rmtree(STATE, ignore_errors=True)
    console = Console()
    stages = Stages(console)
    result = asyncio.run(_run(console, stages))
    write_report(REPORT, [result], stages.seconds)
    console.print(table([result]))
    console.print(f"report: {REPORT.relative_to(ROOT)}\n{_NEXT}", highlight=False, soft_wrap=True)
    missed = missed_bars(result)
    for line in missed:
        console.print(f"[red]missed[/red]  {line}", highlight=False)
    return 1 if missed else 0


async def _run(console: Console, stages: Stages) -> dict[str, Any]:
    manifests = read_manifests([str(EXAMPLE / name) for name in ("training.yaml", "deployment.yaml")])
    async with open_session(STATE, manifests.objects, cpu=True) as cluster:
        with stages.stage("train", f"{NAME}: torchrun on 2 nodes, each a process of this machine"):
            await _followed(cluster, console, Key(TRAINING_JOB, NAMESPACE, NAME))
        with stages.stage("deploy", f"{NAME}: compress, evaluate, pack, serve"):
            deployment = await _followed(cluster, console, Key(MODEL_DEPLOYMENT, NAMESPACE, NAME))
        status = deployment["status"]
        with stages.stage("reference", "the packed file's own answers, computed in another process"):
            store = cluster.state.claim(NAMESPACE, DEFAULT_CLAIM)
            steps = await cluster.twin.list(STEP, NAMESPACE, {OWNER_LABELS[MODEL_DEPLOYMENT.kind]: NAME})
            reference = await asyncio.to_thread(compute_reference_here, store, places(status, steps))
        with stages.stage("predict", f"{len(reference.targets)} samples by HTTP, and by gRPC"):
            answers = {protocol: await _asked(cluster, protocol) for protocol in ("http", "grpc")}
        return {"seed": 0, **figures(status, answers, reference)}


async def _followed(cluster: LocalCluster, console: Console, key: Key) -> Object:
    """The object once it is Ready, its transitions shown. Raises SystemExit where it ends otherwise."""

    async def look() -> list[Object]:
        return [await cluster.twin.get(key), *await cluster.twin.list(STEP, NAMESPACE)]

    show = TransitionLog(lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True), _now)
    seen = await watch_until_ready(look, show, TIMEOUT_SECONDS, stop_at_first=True)
    if readiness_exit_code(seen):
        raise SystemExit(f"{key.kind} {key.name} did not get ready; see the logs below {cluster.state.root}")
    return seen[0]


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - for people


async def _asked(cluster: LocalCluster, protocol: str) -> Any:
    address = cluster.addresses[(Key(SERVICE, NAMESPACE, NAME), protocol)]
    return await asyncio.to_thread(asked, ["--url", address, "--model", NAME, "--protocol", protocol])


_NEXT = """next, on this machine (export PATH="$PWD/.venv/bin:$PATH"):
  slipway run -f examples/digits/training.yaml -f examples/digits/deployment.yaml --cpu
                                    serves the digits until Ctrl-C; of it, only the first time trains
  slipway predict digits --local --dataset digits --limit 10
                                    asks it, from another shell
  make demo-cluster                 the same on a real cluster"""


if __name__ == "__main__":
    sys.exit(main())
