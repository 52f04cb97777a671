"""A real tritonserver for tests: the one that nvidia-pytriton brings, with the python backend alone."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from slipway.api.tasks import LOOPBACK
from slipway.local.images import find_triton
from slipway.runtime.serving import frontend
from support.servers import free_ports, running


@dataclass(frozen=True, slots=True)
class Triton:
    """A server that answers. http, grpc: host:port. ready_seconds: from the start to the first good readiness."""

    http: str
    grpc: str
    ready_seconds: float


@contextlib.contextmanager
def serving(models: Path, scratch: Path, pids: list[int] | None = None) -> Iterator[Triton]:
    """Serve a model repository behind the front end, as pods do, until the block ends.

    scratch: an empty folder for backends and the log. pids: gets the front end's.
    Raises AssertionError with the end of the log where the server ends or is not ready in time.
    """
    triton = find_triton(scratch)
    http, grpc = free_ports(2)
    log = scratch / "triton.log"
    options = [
        f"--model-repository={models}",
        f"--http-port={http}",
        f"--grpc-port={grpc}",
        "--allow-metrics=false",
        "--exit-timeout-secs=5",
    ]
    environment = {**os.environ, **triton.environment(os.environ["PATH"])}
    command = [sys.executable, frontend.__file__, *triton.command(options, LOOPBACK)]
    ready = f"http://{LOOPBACK}:{http}/v2/health/ready"
    with running(command, ready, log, environment=environment, pids=pids) as seconds:
        yield Triton(f"{LOOPBACK}:{http}", f"{LOOPBACK}:{grpc}", seconds)


def process_runs(pid: int) -> bool:
    """Return True if a child of this process has not ended yet."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
