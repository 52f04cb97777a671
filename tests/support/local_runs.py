"""`slipway run` as a process of its own, and what of it is still alive."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slipway.api.kinds import Object

WAIT_SECONDS = 240


@dataclass(frozen=True, slots=True)
class LocalRun:
    """One run. state: its folder, by which its processes are known."""

    process: subprocess.Popen[bytes]
    state: Path
    output: Path
    listening: Listening

    def said(self) -> str:
        return self.output.read_text()

    def until(self, holds: Callable[[], Any], *, seconds: float = WAIT_SECONDS) -> Any:
        """What the predicate gave once it was true. Raises AssertionError with the output where it never is."""
        return until(holds, self.said, seconds=seconds)

    def end(self, number: signal.Signals = signal.SIGINT, *, seconds: float = 60) -> int:
        """Send it the signal; returns its exit code, negative for a signal."""
        self.process.send_signal(number)
        return self.process.wait(seconds)


class Listening:
    """Looks all the time at where the processes of a run listen (TCP and UDP), as `ss -lntup` does."""

    def __init__(self, state: Path, run: int) -> None:
        self.seen: set[tuple[str, int, str]] = set()
        self._state = state
        self._run = run
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(10)

    def outside(self) -> set[tuple[str, int, str]]:
        """Address, port and command of whatever is not of this machine alone."""
        return {one for one in self.seen if not ipaddress.ip_address(one[0]).is_loopback}

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            owners = _sockets([self._run, *processes_of(self._state)])
            for table, listens in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
                for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                    fields = line.split()
                    if fields[3] == listens and (owner := owners.get(fields[9])):
                        address, port = fields[1].split(":")
                        self.seen.add((_address(address), int(port, 16), owner))


def _sockets(processes: Sequence[int]) -> dict[str, str]:
    """Command by inode of the sockets that these processes hold."""
    found = {}
    for process in processes:
        with suppress(OSError):
            command = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:80]
            for descriptor in Path(f"/proc/{process}/fd").iterdir():
                with suppress(OSError):
                    if (inode := re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink()))) is not None:
                        found[inode[1]] = command
    return found


def _address(digits: str) -> str:
    """As /proc/net has it: words of four bytes in the machine's order."""
    words = [bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8)]
    address = ipaddress.ip_address(b"".join(words))
    return str(getattr(address, "ipv4_mapped", None) or address)


def until(holds: Callable[[], Any], told: Callable[[], str], *, seconds: float = WAIT_SECONDS) -> Any:
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
    listening = Listening(state, process.pid)
    try:
        yield LocalRun(process, state, output, listening)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
        listening.stop()
    assert listening.outside() == set(), "a process of the run listened to others than this machine"


def finished(state: Path, files: Sequence[Path], *options: str) -> tuple[int, str]:
    """The exit code and the output of a run that ends by itself (--once)."""
    with started(state, files, "--once", *options) as run:
        code = run.process.wait(WAIT_SECONDS)
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
