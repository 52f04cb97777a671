"""The operator as a process of its own, for tests: `python -m support.operator_process`, and how a test starts one."""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 60


def main() -> int:
    from slipway.controller.operator import Options, run_operator
    from slipway.plan.plan import Settings
    from support.crashes import Crashing, CrashPoint
    from support.stub_planner import PLANNERS

    parser = argparse.ArgumentParser()
    parser.add_argument("--stub", action="store_true", help="plan TrainingJobs with support.stub_planner alone")
    parser.add_argument("--crash", type=CrashPoint.parse)
    parser.add_argument("--no-leader-election", dest="elect", action="store_false")
    parser.add_argument("--lease-name", default="slipway-test")
    parser.add_argument("--lease-namespace", default="default")
    parser.add_argument("--identity", default="test")
    parser.add_argument("--namespace", action="append", default=[])
    parser.add_argument("--defaults", type=Path)
    parser.add_argument("--health-port", type=int, required=True)
    parser.add_argument("--metrics-port", type=int, required=True)
    parser.add_argument("--resync-seconds", type=float, default=600)
    parser.add_argument("--revisit-seconds", type=float, default=30)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--log-format", default="console")
    parser.add_argument("--runtime-image", default="slipway/runtime:test")
    parser.add_argument("--serving-image", default="slipway/serving:test")
    given = parser.parse_args()
    options = Options(
        Settings(given.runtime_image, given.serving_image),
        namespaces=tuple(given.namespace),
        workers=given.workers,
        elect=given.elect,
        lease_namespace=given.lease_namespace,
        lease_name=given.lease_name,
        identity=given.identity,
        host="127.0.0.1",
        metrics_port=given.metrics_port,
        health_port=given.health_port,
        log_format=given.log_format,
        log_level=given.log_level,
        defaults=given.defaults,
        resync_seconds=given.resync_seconds,
        revisit_seconds=given.revisit_seconds,
    )
    crash = given.crash
    return run_operator(
        options,
        planners=PLANNERS if given.stub else None,
        cluster_wrapper=(lambda cluster: Crashing(cluster, crash)) if crash else None,
    )


@dataclass
class OperatorProcess:
    """A running operator."""

    process: subprocess.Popen[bytes]
    health_port: int
    metrics_port: int
    log: Path
    started_at: float = field(default_factory=time.monotonic)

    def wait_until_ready(self) -> float:
        """Seconds from start to ready. Fails with the log where it ends or does not get ready."""
        while not self.answers("readyz"):
            assert self.process.poll() is None, f"the operator ended early:\n{self.log.read_text()}"
            waited = time.monotonic() - self.started_at
            assert waited < READY_SECONDS, f"not ready:\n{self.log.read_text()}"
            time.sleep(0.05)  # between two questions; the wait is for the answer
        return time.monotonic() - self.started_at

    def wait(self, seconds: float = 30) -> int:
        """The exit code, negative for a signal."""
        return self.process.wait(timeout=seconds)

    def metrics(self) -> dict[str, float]:
        return samples("127.0.0.1", self.metrics_port)

    def rss_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))

    def answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/{path}", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@contextmanager
def running_operator(kubeconfig: Path, log: Path, *arguments: str) -> Iterator[OperatorProcess]:
    """An operator against that cluster; it is killed when the block ends. arguments: of main()."""
    health, metrics = _free_ports()
    ports = ("--health-port", str(health), "--metrics-port", str(metrics))
    command = [sys.executable, "-m", "support.operator_process", *ports, *arguments]
    path = os.pathsep.join(str(ROOT / folder) for folder in ("operator", "tests"))
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONPATH": path}
    with log.open("ab") as output, subprocess.Popen(command, env=environment, stderr=output) as process:
        try:
            yield OperatorProcess(process, health, metrics, log)
        finally:
            process.kill()
            process.wait(timeout=10)


def samples(host: str, port: int) -> dict[str, float]:
    """What an operator's metrics are now, by name with labels, as Prometheus reads them. Raises OSError."""
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


def _free_ports() -> tuple[int, int]:
    """Two ports that nothing listens on: held together, so that they differ."""
    with ExitStack() as stack:
        one, other = (stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2))
        return one.getsockname()[1], other.getsockname()[1]


if __name__ == "__main__":
    raise SystemExit(main())
