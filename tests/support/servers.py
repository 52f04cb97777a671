"""Servers of other people as processes of this machine: started on free ports, awaited, ended."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path


@contextlib.contextmanager
def running(
    command: Sequence[str],
    ready_url: str,
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    start_seconds: float = 90,
    stop_seconds: float = 40,
    pids: list[int] | None = None,
) -> Iterator[float]:
    """The server until the block ends; gives the seconds from its start until ready_url answered 200.

    pids: gets the process'.
    Raises AssertionError with the end of the log where the server ends or is not ready in start_seconds.
    """
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    if pids is not None:
        pids.append(process.pid)
    try:
        _wait_until_ready(process, ready_url, log, start_seconds)
        yield time.monotonic() - started
    finally:
        process.terminate()
        try:
            process.wait(stop_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - localhost
            if answer.status == 200:
                return
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise AssertionError(f"{log.stem} ended with {process.wait(0.1)}:\n{log.read_text()[-4000:]}")
    raise AssertionError(f"{log.stem} is not ready after {seconds} s:\n{log.read_text()[-4000:]}")
