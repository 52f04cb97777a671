"""The body of `slipway run`: start a local cluster, show it until every resource is Ready or Stalled, then serve.

A line stays for each Event, each container that failed and each address of a model; the table of resources is drawn
again below them.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import structlog

from slipway.api.kinds import DEFAULT_NAMESPACE, EVENT, POD, STEP, Key, Object, key_of
from slipway.cli.connections.connection import STATE
from slipway.cli.rendering.details import (
    EVERY_SECONDS,
    Show,
    TransitionLog,
    readiness_exit_code,
    status_tables,
    watch_until_ready,
)
from slipway.cli.rendering.errors import INTERRUPTED, USAGE, CommandError
from slipway.cli.rendering.summary import get_readiness, owners_in, reference, serves
from slipway.cli.rendering.tables import coloured
from slipway.cli.rendering.terminal import interactive, one_line, pinned, say, visible
from slipway.cluster.twin import WatchEvent
from slipway.local.cluster import LocalCluster
from slipway.local.container import read_tail
from slipway.local.session import UnsupportedError, open_session
from slipway.local.state import StateFolder, is_readable_by_others, make_state_folder
from slipway.local.validation import FieldProblem
from slipway.manifests import Manifests
from slipway.plan.jobs.outcomes import conditions_of
from slipway.reconcile.references import owner_of

LOG = "slipway.log"
"""Log of the operator's loop in the state folder, as JSON lines."""


class RunOptions(NamedTuple):
    """The options of the command line."""

    state: Path
    once: bool = False
    cpu: bool = False
    replace: bool = False
    timeout_seconds: float | None = None


async def run_manifests(manifests: Manifests, options: RunOptions) -> int:
    """Run the manifests and return the exit code. Raises SlipwayError."""
    stop = _stop_on_signals()
    if is_readable_by_others(options.state):
        say(f"the state folder {options.state} was readable by others; its permissions are 0700 now")
    mask = os.umask(0o077)  # of the processes that stand for pods as well
    try:
        with log_to(make_state_folder(options.state) / LOG):
            async with open_session(
                options.state, manifests.objects, cpu=options.cpu, replace=options.replace
            ) as cluster:
                return await _show_until_ended(cluster, options, stop)
    except UnsupportedError as error:
        lines = [f"{_place(problem, manifests)}{problem}" for problem in error.problems]
        raise CommandError(str(error), USAGE, lines) from error
    finally:
        os.umask(mask)


def _place(problem: FieldProblem, manifests: Manifests) -> str:
    """Return `file:line:column: ` of the field; an empty text for an object that no file holds."""
    wanted = problem.object["kind"], problem.object["metadata"]
    found = (one for one in manifests.items if (one.object["kind"], one.object["metadata"]) == wanted)
    return next((f"{one.place_of(problem.field)}: " for one in found), "")


async def _show_until_ended(cluster: LocalCluster, options: RunOptions, stop: asyncio.Event) -> int:
    with view() as screen:
        seen = View(_with_addresses(screen, cluster, options.state), screen.say)
        code = await _watch_until_ready(cluster, seen, options.timeout_seconds, stop)
        if options.once or code == INTERRUPTED:
            return code
        objects = owners_in(await _active(cluster))
        if not any(serves(obj) for obj in objects):
            return code
        if stalled := [reference(obj) for obj in objects if get_readiness(obj) is False]:
            seen.say(f"Stalled, while other models serve: {', '.join(stalled)}")
        seen.say("stop with Ctrl-C")
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


async def _watch_until_ready(
    cluster: LocalCluster, seen: View, timeout_seconds: float | None, stop: asyncio.Event
) -> int:
    """Return the exit code: 0 if all is Ready, 1 if something is Stalled, 130 if a signal came before."""

    ends = ContainerFailures(cluster.state)

    def on_change(change: WatchEvent) -> None:
        for line in [] if stop.is_set() else [*event_lines(change), *ends(change)]:
            seen.say(line)

    async def look() -> list[Object]:
        return await _active(cluster)

    cluster.twin.subscribe(on_change)
    following = asyncio.create_task(watch_until_ready(look, seen.show, timeout_seconds, stop_at_first=False))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((following, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not following.done():
        following.cancel()
        seen.say("stopping all processes; finished results are kept, and the same command continues from them")
        return INTERRUPTED
    objects = owners_in(following.result())
    for obj in objects:
        if get_readiness(obj) is False:
            for line in await failed_logs(cluster, obj):
                seen.say(line)
    return readiness_exit_code(objects)


async def _until_stopped(cluster: LocalCluster, seen: View, stop: asyncio.Event) -> None:
    """Show further changes until the signal: Triton may die, and starts again."""
    while not stop.is_set():
        seen.show(await _active(cluster))
        with suppress(TimeoutError):
            async with asyncio.timeout(EVERY_SECONDS):
                await stop.wait()


async def _active(cluster: LocalCluster) -> list[Object]:
    active = [await cluster.twin.get(key) for key in sorted(cluster.active, key=lambda key: key[1:])]
    return [*active, *await cluster.twin.list(STEP)]


def _stop_on_signals() -> asyncio.Event:
    """Return an event that the first signal sets. The second one ends this process, and so all others."""
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


LOG_LINES, LOG_BYTES = 20, 1 << 14
"""Limits of the end of a log in the output."""

Say = Callable[[str], None]


class View(NamedTuple):
    """Output of a run. show: draws the current objects; say: prints a line that stays."""

    show: Show
    say: Say


@contextmanager
def view() -> Iterator[View]:
    """Yield a view: tables below the lines on a terminal; elsewhere a line for each change."""
    if not interactive():
        yield View(TransitionLog(say, _now), lambda line: say(_whole(line)))
        return
    from rich.text import Text

    with pinned() as screen:

        def show(objects: Sequence[Object]) -> None:
            screen.update(coloured(status_tables(objects, single=False)), refresh=True)

        yield View(show, lambda line: screen.console.print(Text(_whole(line)), soft_wrap=True))


def event_lines(change: WatchEvent) -> list[str]:
    """Return the line of a new Event; nothing for any other change."""
    obj = change.object
    if change.type != "ADDED" or obj["kind"] != EVENT.kind:
        return []
    about = obj["regarding"]
    name = f"{about['kind'].lower()}/{about['name']}"
    return [one_line(f"{_now():%H:%M:%S} {name} {obj['type']} {obj['reason']}: {obj['note']}")]


class ContainerFailures:
    """Reports each failure of a container once, unless its pod was deleted or ended with the run."""

    def __init__(self, state: StateFolder) -> None:
        self._state = state
        self._reported: set[Path] = set()

    def __call__(self, change: WatchEvent) -> list[str]:
        pod = change.object
        if change.type != "MODIFIED" or pod["kind"] != POD.kind:
            return []
        if "deletionTimestamp" in pod["metadata"] or "DisruptionTarget" in conditions_of(pod):
            return []
        lines = []
        for status in pod.get("status", {}).get("containerStatuses", ()):
            ended = status["state"].get("terminated") or {}
            log = self._state.log_of(key_of(pod), status["name"], status["restartCount"])
            if ended.get("exitCode") and log not in self._reported:
                self._reported.add(log)
                name = f"pod/{pod['metadata']['name']}"
                text = f"container {status['name']} ended with exit code {ended['exitCode']}; its log: {log}"
                lines.append(f"{_now():%H:%M:%S} {name} {text}")
        return lines


async def failed_logs(cluster: LocalCluster, owner: Object) -> list[str]:
    """Return the ends of the logs of the owner's failed containers, each below its path."""
    lines = []
    for pod in await cluster.twin.list(POD):
        if owner_of(pod) != key_of(owner):
            continue
        for status in pod.get("status", {}).get("containerStatuses", ()):
            ended = status["state"].get("terminated") or status.get("lastState", {}).get("terminated") or {}
            log = cluster.state.log_of(key_of(pod), status["name"], status["restartCount"])
            if ended.get("exitCode") and log.exists():
                shown = read_tail(log, LOG_BYTES).splitlines()
                lines += [f"{log}:", *(f"    {line}" for line in shown[-LOG_LINES:])]
    return lines


def address_lines(addresses: Mapping[tuple[Key, str], str], option: str) -> list[str]:
    """Return the addresses of models, and commands for them. option: --local, or --state with its folder."""
    services: dict[Key, dict[str, str]] = {}
    for (key, port), address in addresses.items():
        services.setdefault(key, {})[port] = address
    lines = []
    for key, ports in sorted(services.items(), key=lambda item: item[0][1:]):
        places = ", ".join(f"{port} {address}" for port, address in ports.items())
        lines += [f"modeldeployment/{key.name} answers at {places}"]
        name = key.name if key.namespace == DEFAULT_NAMESPACE else f"{key.name} --namespace {key.namespace}"
        lines += [f"    slipway predict {name} {option} --input FILE.npy", f"    slipway status {name} {option}"]
    return lines


def _whole(line: str) -> str:
    """Return the text as one line, with its indentation."""
    return visible(" ".join(line.splitlines()))


def _now() -> datetime:
    return datetime.now(UTC)
