"""A real tritonserver for tests: the one that nvidia-pytriton brings, with the python backend alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

START_SECONDS = 90
STOP_SECONDS = 40


@dataclass(frozen=True, slots=True)
class Triton:
    """A server that answers. http, grpc: host:port. ready_seconds: from the start to the first good readiness."""

    http: str
    grpc: str
    ready_seconds: float


def assemble_backends(folder: Path) -> Path:
    """Put the python backend and this interpreter's stub where tritonserver looks for backends."""
    packed = Path(str(distribution("nvidia-pytriton").locate_file("pytriton/tritonserver")))
    python = folder / "python"
    python.mkdir(parents=True)
    for file in (packed / "backends" / "python").iterdir():
        shutil.copy(file, python)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy(packed / "python_backend_stubs" / version / "triton_python_backend_stub", python)
    return folder


@contextlib.contextmanager
def serving(models: Path, scratch: Path) -> Iterator[Triton]:
    """Serve a model repository until the block ends. scratch: an empty folder for backends and the log.

    Raises AssertionError with the end of the log where the server ends or is not ready in START_SECONDS.
    """
    packages = Path(str(distribution("nvidia-pytriton").locate_file("")))
    http, grpc = _free_ports(2)
    log = scratch / "triton.log"
    command = [
        str(packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
        f"--model-repository={models}",
        f"--backend-directory={assemble_backends(scratch / 'backends')}",
        "--http-address=127.0.0.1",
        f"--http-port={http}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={grpc}",
        "--allow-metrics=false",
        "--exit-timeout-secs=5",
    ]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs"),
    }
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
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
