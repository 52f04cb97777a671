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
class Held:
    """A running command, with all that descends from it."""

    process: Process

    async def wait(self) -> int:
        """Its exit code, 128 + N where signal N ended it. By then nothing of it runs any more."""
        code = await self.process.wait()
        self.kill()  # what is left of it is the pipe
        return code if code >= 0 else KILLED

    def signal(self, number: signal.Signals) -> None:
        """Send it to the first process, as a kubelet does."""
        if self.process.stdin is not None and not self.process.stdin.is_closing():
            with suppress(ConnectionError):
                self.process.stdin.write(b"%d\n" % number)

    def kill(self) -> None:
        """End everything at once: the lifeline is cut."""
        if self.process.stdin is not None:
            self.process.stdin.close()

    async def killed(self) -> None:
        """Kill it and wait for its end, which comes at once, also where this is cancelled meanwhile."""
        self.kill()
        ending = asyncio.ensure_future(self.wait())
        while not ending.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(ending)

    async def end(self, grace_seconds: float) -> int:
        """SIGTERM, then after the grace period SIGKILL to all."""
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_seconds):
                return await self.wait()
        except TimeoutError:
            self.kill()
            return await self.wait()


async def start(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path | None = None, exit_file: str = ""
) -> Held:
    """Run the command in the folder. log: appended to, standard error with it; exit_file: see shim."""
    # -I -S: nothing of the environment, which is the command's, reaches the shim, and it starts in some 15 ms.
    shimmed = [sys.executable, "-I", "-S", shim.__file__, exit_file, *command]
    options = {"cwd": folder, "env": dict(environment), "stdin": PIPE, "start_new_session": True}
    if log is None:
        return await _whole(asyncio.create_subprocess_exec(*shimmed, stdout=DEVNULL, stderr=DEVNULL, **options))  # type: ignore[arg-type]
    with log.open("ab") as output:
        return await _whole(asyncio.create_subprocess_exec(*shimmed, stdout=output, stderr=STDOUT, **options))  # type: ignore[arg-type]


async def _whole(starting: Coroutine[Any, Any, Process]) -> Held:
    """Cancelled half-way, asyncio would kill the shim, and what it holds would live on: so it is never half-way."""
    begun = asyncio.ensure_future(starting)
    try:
        return Held(await asyncio.shield(begun))
    except asyncio.CancelledError:
        held = Held(await begun)
        held.kill()
        await held.wait()
        raise


Ask = Callable[[Object], Awaitable[bool]]
"""One probe's question -> whether it succeeded."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When to ask and what the answers mean; the defaults are the API's."""

    initial_delay: float
    period: float
    timeout: float
    successes: int
    failures: int

    @classmethod
    def of(cls, probe: Object) -> Thresholds:
        return cls(
            float(probe.get("initialDelaySeconds", 0)),
            float(probe.get("periodSeconds", 10)),
            float(probe.get("timeoutSeconds", 1)),
            int(probe.get("successThreshold", 1)),
            int(probe.get("failureThreshold", 3)),
        )


async def follow(probe: Object, ask: Ask, turned: Callable[[bool], None]) -> None:
    """Ask for ever; tell each change of the verdict. It begins as failure does: unknown is not success."""
    known = Thresholds.of(probe)
    await asyncio.sleep(known.initial_delay)
    verdict: bool | None = None
    streak, last = 0, None
    while True:
        answer = await within(known.timeout, ask(probe))
        streak = streak + 1 if answer == last else 1
        last = answer
        if answer != verdict and streak >= (known.successes if answer else known.failures):
            verdict = answer
            turned(answer)
        await asyncio.sleep(known.period)


async def until_success(probe: Object, ask: Ask) -> bool:
    """A startup probe: True at the first success, False when its tries are used up."""
    known = Thresholds.of(probe)
    await asyncio.sleep(known.initial_delay)
    for _ in range(known.failures):
        if await within(known.timeout, ask(probe)):
            return True
        await asyncio.sleep(known.period)
    return False


async def within(seconds: float, answer: Awaitable[bool]) -> bool:
    """The answer; no answer in time is a failure."""
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError:
        return False


async def http_get(address: str, port: int, path: str) -> bool:
    """Whether a GET is answered with 200 to 399."""
    url = f"http://{address}:{port}{path}"
    try:
        async with aiohttp.ClientSession() as session, session.get(url, allow_redirects=False) as answer:
            return 200 <= answer.status < 400
    except (aiohttp.ClientError, OSError):
        return False
