"""`slipway run`: a local cluster from files, shown until every resource has settled, and served until a signal."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import structlog

from slipway.api.kinds import STEP, Key, Object
from slipway.cli.connections.connection import STATE
from slipway.cli.rendering.errors import INTERRUPTED, USAGE, CommandError
from slipway.cli.rendering.run import ContainerFailures, View, address_lines, event_lines, failed_logs, view
from slipway.cli.rendering.summary import owners_in, reference, serves, settled
from slipway.cli.rendering.terminal import say
from slipway.cli.rendering.watching import EVERY_SECONDS, Show, readiness_exit_code, watch_until_settled
from slipway.cluster.twin import Change
from slipway.local.cluster import LocalCluster
from slipway.local.session import Refused, session
from slipway.local.state import made, readable_by_others
from slipway.local.validation import Refusal
from slipway.manifests import Manifests

LOG = "slipway.log"
"""In the state folder: what the loop did, as JSON lines."""


class RunOptions(NamedTuple):
    """The options of the command line."""

    state: Path
    once: bool = False
    cpu: bool = False
    replace: bool = False
    timeout_seconds: float | None = None


async def run_manifests(manifests: Manifests, options: RunOptions) -> int:
    """Returns the exit code. Raises SlipwayError for what cannot be done here, or not at all."""
    stop = _stop_on_signals()
    if readable_by_others(options.state):
        say(f"the state folder {options.state} could be read by others; it is kept to you from now on (0700)")
    mask = os.umask(0o077)  # of the processes that stand for pods as well
    try:
        with log_to(made(options.state) / LOG):
            async with session(options.state, manifests.objects, cpu=options.cpu, replace=options.replace) as cluster:
                return await _show_until_ended(cluster, options, stop)
    except Refused as refused:
        lines = [f"{_place(refusal, manifests)}{refusal}" for refusal in refused.refusals]
        raise CommandError(str(refused), USAGE, lines) from refused
    finally:
        os.umask(mask)


def _place(refusal: Refusal, manifests: Manifests) -> str:
    """`file:line:column: ` of the field; nothing for an object that no file holds."""
    wanted = refusal.object["kind"], refusal.object["metadata"]
    found = (one for one in manifests.items if (one.object["kind"], one.object["metadata"]) == wanted)
    return next((f"{one.place_of(refusal.field)}: " for one in found), "")


async def _show_until_ended(cluster: LocalCluster, options: RunOptions, stop: asyncio.Event) -> int:
    with view() as screen:
        seen = View(_with_addresses(screen, cluster, options.state), screen.say)
        code = await _until_settled(cluster, seen, options.timeout_seconds, stop)
        if options.once or code == INTERRUPTED:
            return code
        objects = owners_in(await _active(cluster))
        if not any(serves(obj) for obj in objects):
            return code
        if stalled := [reference(obj) for obj in objects if settled(obj) is False]:
            seen.say(f"stalled, beside what serves: {', '.join(stalled)}")
        seen.say("Ctrl-C ends it")
        await _until_stopped(cluster, seen, stop)
        return readiness_exit_code(await _active(cluster))


def _with_addresses(screen: View, cluster: LocalCluster, root: Path) -> Show:
    """Return a Show that also prints the address of each model once, when the model answers."""
    printed: set[Key] = set()
    option = state_option(root)

    def show(objects: Sequence[Object]) -> None:
        screen.show(objects)
        names = {(obj["metadata"]["namespace"], obj["metadata"]["name"]) for obj in objects if serves(obj)}
        new = {
            place: address
            for place, address in cluster.addresses.items()
            if place[0] not in printed and (place[0].namespace, place[0].name) in names
        }
        printed.update(service for service, _ in new)
        for line in address_lines(new, option):
            screen.say(line)

    return show


def state_option(root: Path) -> str:
    """Return the option by which other commands name this run, quoted for a shell."""
    return "--local" if root == STATE.absolute() else f"--state {shlex.quote(str(root))}"


async def _until_settled(cluster: LocalCluster, seen: View, timeout_seconds: float | None, stop: asyncio.Event) -> int:
    """Return the exit code: 0 if all is Ready, 1 if something is Stalled, 130 if a signal came before."""

    ends = ContainerFailures(cluster.state)

    def on_change(change: Change) -> None:
        for line in [] if stop.is_set() else [*event_lines(change), *ends(change)]:
            seen.say(line)

    async def look() -> list[Object]:
        return await _active(cluster)

    cluster.twin.subscribe(on_change)
    following = asyncio.create_task(watch_until_settled(look, seen.show, timeout_seconds, stop_at_first=False))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((following, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not following.done():
        following.cancel()
        seen.say("ending every process; what is done is kept, and the same command goes on from there")
        return INTERRUPTED
    objects = owners_in(following.result())
    for obj in objects:
        if settled(obj) is False:
            for line in await failed_logs(cluster, obj):
                seen.say(line)
    return readiness_exit_code(objects)


async def _until_stopped(cluster: LocalCluster, seen: View, stop: asyncio.Event) -> None:
    """Show what becomes of what was settled: Triton may die, and starts again."""
    while not stop.is_set():
        seen.show(await _active(cluster))
        with suppress(TimeoutError):
            async with asyncio.timeout(EVERY_SECONDS):
                await stop.wait()


async def _active(cluster: LocalCluster) -> list[Object]:
    active = [await cluster.twin.get(key) for key in sorted(cluster.active, key=lambda key: key[1:])]
    return [*active, *await cluster.twin.list(STEP)]


def _stop_on_signals() -> asyncio.Event:
    """Set by the first signal. The second ends this process at once, and with it, by their lifelines, all others."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(INTERRUPTED)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    return stop


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Write the log of the loop to the file, and none of it to the screen."""
    with path.open("a", buffering=1) as file:
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
            logger_factory=structlog.WriteLoggerFactory(file=file),
            cache_logger_on_first_use=False,
        )
        try:
            yield
        finally:
            structlog.reset_defaults()
