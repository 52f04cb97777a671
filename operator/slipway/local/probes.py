"""Startup, readiness and liveness probes, as the kubelet makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp

from slipway.api.kinds import Object
from slipway.local.volumes import CannotStart

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


def port_of(container: Object, port: int | str) -> int:
    """The number of a container's port, which may be given by name. Raises CannotStart."""
    if isinstance(port, int):
        return port
    found = next((one["containerPort"] for one in container.get("ports", ()) if one.get("name") == port), None)
    if found is None:
        raise CannotStart(f"container {container['name']} has no port named {port!r}")
    return int(found)
