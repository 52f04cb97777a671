"""What a process uses, by /proc."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.server import OPERATOR, Server
from slipway.controller.operator import Options
from slipway.plan.plan import Settings
from support.operator_process import OperatorProcess, running_operator

WORKERS = Options(Settings("", "")).workers
"""Of an operator, and of who is compared with it."""
LEAD_SECONDS = 120
SETTLED_SECONDS = 0.7
"""kopf's task of an object ends half a second after its last event, and only then is that event paid for."""


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def wait_until_settled(pid: int, seconds: float = SETTLED_SECONDS) -> None:
    """Until it has used next to nothing (2 % of a core) for so long. /proc is asked, so asking costs it nothing."""
    deadline = time.monotonic() + LEAD_SECONDS
    while time.monotonic() < deadline:
        before = cpu_seconds(pid)
        time.sleep(seconds)
        if cpu_seconds(pid) - before < 0.02 * seconds:
            return
    raise TimeoutError(f"process {pid} was still busy after {LEAD_SECONDS} s")


@contextmanager
def operator(server: Server, *arguments: str, leads: bool = False) -> Iterator[OperatorProcess]:
    """A ready operator as its own user. leads: with a Lease; else it needs none.

    arguments: of support.operator_process.
    """
    log = server.kubeconfigs[OPERATOR].with_name("operator.log")
    election = () if leads else ("--no-leader-election",)
    with running_operator(server.kubeconfigs[OPERATOR], log, "--log-format", "json", *election, *arguments) as process:
        process.wait_until_ready()
        try:
            yield process
        except BaseException:
            print("\n".join(log.read_text().splitlines()[-20:]))
            raise


def wait_until_it_leads(process: OperatorProcess) -> float:
    """Seconds from its start until it is ready and leads."""
    process.wait_until_ready()
    _wait(lambda: any("master_status" in name and value == 1 for name, value in process.metrics().items()))
    return time.monotonic() - process.started_at


def stop(process: OperatorProcess) -> None:
    """As a rollout does it: the Lease is given back."""
    process.process.terminate()
    process.wait()


def _wait(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LEAD_SECONDS
    while not met():
        if time.monotonic() > deadline:
            raise TimeoutError("the operator does not lead")
        time.sleep(0.05)
