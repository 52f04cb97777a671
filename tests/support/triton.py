"""A real tritonserver for tests: the one that nvidia-pytriton brings, with the python backend alone."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from slipway.local.triton import find_triton

START_SECONDS = 90
STOP_SECONDS = 40


@dataclass(frozen=True, slots=True)
class Triton:
    """A server that answers. http, grpc: host:port. ready_seconds: from the start to the first good readiness."""

    http: str
    grpc: str
    ready_seconds: float


@contextlib.contextmanager
def serving(models: Path, scratch: Path) -> Iterator[Triton]:
    """Serve a model repository until the block ends. scratch: an empty folder for backends and the log.

    Raises AssertionError with the end of the log where the server ends or is not ready in START_SECONDS.
    """
    triton = find_triton(scratch)
    http, grpc = _free_ports(2)
    log = scratch / "triton.log"
    options = [
        f"--model-repository={models}",
        f"--http-port={http}",
        f"--grpc-port={grpc}",
        "--allow-metrics=false",
        "--exit-timeout-secs=5",
    ]
    environment = {**os.environ, **triton.environment(os.environ["PATH"])}
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            triton.command(options, "127.0.0.1"), env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait_until_ready(process, f"http://127.0.0.1:{http}/v2/health/ready", log)
        yield Triton(f"127.0.0.1:{http}", f"127.0.0.1:{grpc}", time.monotonic() - started)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - localhost
            if answer.status == 200:
                return
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise AssertionError(f"tritonserver ended with {process.wait(0.1)}:\n{log.read_text()[-4000:]}")
    raise AssertionError(f"tritonserver is not ready after {START_SECONDS} s:\n{log.read_text()[-4000:]}")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
