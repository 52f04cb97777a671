"""Processes of containers: start them under a shim, signal them, probe them. None of them outlives this process."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from slipway.api.kinds import Object
from slipway.local import shim

KILLED = 137


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """A running command with all its descendants."""

    process: Process

    async def wait(self) -> int:
        """Wait until nothing of it runs any more. Returns its exit code, 128 + N if signal N ended it."""
        code = await self.process.wait()
        self.kill()  # only the pipe is left
        return code if code >= 0 else KILLED

    def signal(self, number: signal.Signals) -> None:
        """Send the signal to the first process, as a kubelet does."""
        if self.process.stdin is not None and not self.process.stdin.is_closing():
            with suppress(ConnectionError):
                self.process.stdin.write(b"%d\n" % number)

    def kill(self) -> None:
        """End everything at once by closing the lifeline."""
        if self.process.stdin is not None:
            self.process.stdin.close()

    async def kill_and_wait(self) -> None:
        """Kill it and wait for its end, which comes at once, even if this call is cancelled meanwhile."""
        self.kill()
        ending = asyncio.ensure_future(self.wait())
        while not ending.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(ending)

    async def end(self, grace_seconds: float) -> int:
        """Send SIGTERM, then SIGKILL to all after the grace period. Returns the exit code."""
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_seconds):
                return await self.wait()
        except TimeoutError:
            self.kill()
            return await self.wait()


async def start(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path | None = None, exit_file: str = ""
) -> ProcessGroup:
    """Start the command in the folder. log: file that output and errors are appended to. exit_file: see shim."""
    # -I -S: nothing of the environment, which is the command's, reaches the shim, and it starts in some 15 ms.
    shimmed = [sys.executable, "-I", "-S", shim.__file__, exit_file, *command]
    options = {"cwd": folder, "env": dict(environment), "stdin": PIPE, "start_new_session": True}
    if log is None:
        return await _finish(asyncio.create_subprocess_exec(*shimmed, stdout=DEVNULL, stderr=DEVNULL, **options))  # type: ignore[arg-type]
    with log.open("ab") as output:
        return await _finish(asyncio.create_subprocess_exec(*shimmed, stdout=output, stderr=STDOUT, **options))  # type: ignore[arg-type]


async def _finish(starting: Coroutine[Any, Any, Process]) -> ProcessGroup:
    """Start even if cancelled: otherwise asyncio would kill the shim, and its processes would live on."""
    begun = asyncio.ensure_future(starting)
    try:
        return ProcessGroup(await asyncio.shield(begun))
    except asyncio.CancelledError:
        held = ProcessGroup(await begun)
        held.kill()
        await held.wait()
        raise


Probe = Callable[[Object], Awaitable[bool]]
"""Runs one probe and returns whether it succeeded."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Timing of a probe in seconds, and its thresholds; the defaults are those of the Kubernetes API."""

    initial_delay: float
    period: float
    timeout: float
    successes: int
    failures: int

    @classmethod
    def from_probe(cls, probe: Object) -> Thresholds:
        return cls(
            float(probe.get("initialDelaySeconds", 0)),
            float(probe.get("periodSeconds", 10)),
            float(probe.get("timeoutSeconds", 1)),
            int(probe.get("successThreshold", 1)),
            int(probe.get("failureThreshold", 3)),
        )


async def follow_probe(probe: Object, run_probe: Probe, on_change: Callable[[bool], None]) -> None:
    """Probe for ever and report each change of the result. The first result counts as a change."""
    known = Thresholds.from_probe(probe)
    await asyncio.sleep(known.initial_delay)
    result: bool | None = None
    streak, last = 0, None
    while True:
        answer = await answer_within(known.timeout, run_probe(probe))
        streak = streak + 1 if answer == last else 1
        last = answer
        if answer != result and streak >= (known.successes if answer else known.failures):
            result = answer
            on_change(answer)
        await asyncio.sleep(known.period)


async def wait_for_startup(probe: Object, run_probe: Probe) -> bool:
    """Run a startup probe: return True at the first success, False after failureThreshold failures."""
    known = Thresholds.from_probe(probe)
    await asyncio.sleep(known.initial_delay)
    for _ in range(known.failures):
        if await answer_within(known.timeout, run_probe(probe)):
            return True
        await asyncio.sleep(known.period)
    return False


async def answer_within(seconds: float, answer: Awaitable[bool]) -> bool:
    """Return the answer, or False if there is none in time."""
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError:
        return False


async def probe_http(address: str, port: int, path: str) -> bool:
    """Return whether the answer to a GET has a status from 200 to 399."""
    url = f"http://{address}:{port}{path}"
    try:
        async with aiohttp.ClientSession() as session, session.get(url, allow_redirects=False) as answer:
            return 200 <= answer.status < 400
    except (aiohttp.ClientError, OSError):
        return False
