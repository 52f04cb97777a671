"""A real tritonserver for tests: the one that nvidia-pytriton brings, with the python backend alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from slipway.local.triton import find_triton
from support.servers import free_ports, running


@dataclass(frozen=True, slots=True)
class Triton:
    """A server that answers. http, grpc: host:port. ready_seconds: from the start to the first good readiness."""

    http: str
    grpc: str
    ready_seconds: float


@contextlib.contextmanager
def serving(models: Path, scratch: Path) -> Iterator[Triton]:
    """Serve a model repository until the block ends. scratch: an empty folder for backends and the log.

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
    command = triton.command(options, "127.0.0.1")
    with running(command, f"http://127.0.0.1:{http}/v2/health/ready", log, environment=environment) as seconds:
        yield Triton(f"127.0.0.1:{http}", f"127.0.0.1:{grpc}", seconds)
