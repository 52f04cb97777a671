"""`slipway run` as a process of its own, and what of it is still alive."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slipway.api.kinds import Object

PATIENCE_SECONDS = 240


@dataclass(frozen=True, slots=True)
class LocalRun:
    """One run. state: its folder, by which its processes are known."""

    process: subprocess.Popen[bytes]
    state: Path
    output: Path

    def said(self) -> str:
        return self.output.read_text()

    def until(self, holds: Callable[[], Any], *, seconds: float = PATIENCE_SECONDS) -> Any:
        """What the predicate gave once it was true. Raises AssertionError with the output where it never is."""
        return until(holds, self.said, seconds=seconds)

    def end(self, number: signal.Signals = signal.SIGINT, *, seconds: float = 60) -> int:
        """Send it the signal; returns its exit code, negative for a signal."""
        self.process.send_signal(number)
        return self.process.wait(seconds)


def until(holds: Callable[[], Any], told: Callable[[], str], *, seconds: float = PATIENCE_SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not so after {seconds} s:\n{told()}")


def written(folder: Path, *objects: Object) -> Path:
    """A file of these objects."""
    path = folder / "objects.yaml"
    path.write_text(yaml.safe_dump_all(objects))
    return path


@contextmanager
def started(state: Path, files: Sequence[Path], *options: str) -> Iterator[LocalRun]:
    """A run in the background, which is ended with the block."""
    output = state.with_suffix(".out")
    command = [sys.executable, "-m", "slipway.cli.main", "run", f"--state={state}", *options]
    command += [f"--filename={path}" for path in files]
    with output.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield LocalRun(process, state, output)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


def finished(state: Path, files: Sequence[Path], *options: str) -> tuple[int, str]:
    """The exit code and the output of a run that ends by itself (--once)."""
    with started(state, files, "--once", *options) as run:
        code = run.process.wait(PATIENCE_SECONDS)
        return code, run.said()


def objects(state: Path, kind: str) -> list[Object]:
    """What the state folder holds of a kind."""
    return [obj for obj in json.loads((state / "objects.json").read_text())["objects"] if obj["kind"] == kind]


def processes_of(state: Path) -> dict[int, str]:
    """Command lines by process id of all that have the state folder in their environment: every process of a pod."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            variables = (folder / "environ").read_bytes()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if re.search(rb"=" + re.escape(str(state).encode()) + rb"/", variables):
            found[int(folder.name)] = command
    return found
