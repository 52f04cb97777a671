"""Long-running processes, each with a pidfile: started once, ended exactly, never mistaken for another."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A command with its pidfile and log."""

    name: str
    pidfile: Path
    log: Path

    def pid(self) -> int | None:
        """The process's id while it runs, else None."""
        try:
            pid, started = self.pidfile.read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        # The start time tells it from a later process of the same id.
        return int(pid) if _start_time(int(pid)) == started else None

    def start(
        self, command: Sequence[str], *, environment: dict[str, str] | None = None, die_with_us: bool = False
    ) -> None:
        """Start it if it does not run; with die_with_us the kernel ends it when this process ends."""
        if self.pid() is not None:
            return
        self.pidfile.parent.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # The kernel remembers the wish across the exec of the command proper.
        prefix = ["setpriv", "--pdeathsig", "KILL"] if die_with_us else []
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                [*prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )
        self.pidfile.write_text(f"{child.pid} {_start_time(child.pid)}\n")

    def stop(self, *, grace_seconds: float = 10) -> None:
        """SIGTERM, then SIGKILL when the grace is over; returns when it is gone."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: self.pid() is None, seconds=grace_seconds, every=0.02)
        self.kill()

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: self.pid() is None, seconds=5, every=0.02)
        self.pidfile.unlink(missing_ok=True)

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""


def wait_until(condition: Callable[[], bool], *, seconds: float, every: float = 0.05) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def wait_for(what: str, condition: Callable[[], bool], by: Process, *, seconds: float) -> None:
    """Wait for what a process must bring about; ends the command with the log's end when it does not."""

    def settled() -> bool:
        return by.pid() is None or condition()

    if not wait_until(settled, seconds=seconds):
        raise SystemExit(f"{what}: not after {seconds:.0f} s; the end of {by.log}:\n{by.tail()}")
    if by.pid() is None:
        raise SystemExit(f"{what}: {by.name} has ended; the end of {by.log}:\n{by.tail()}")


def _start_time(pid: int) -> str | None:
    """Clock ticks from boot to the process's start; None for one that is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, in brackets, may hold spaces; the state is the 3rd field, the start time the 22nd.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
