"""The view of `slipway run`: objects as they change, Events, logs of what failed, and where models answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from slipway.api.kinds import DEFAULT_NAMESPACE, EVENT, POD, Key, Object, key_of
from slipway.cli.rendering.tables import coloured
from slipway.cli.rendering.terminal import interactive, one_line, pinned, say, visible
from slipway.cli.rendering.watching import Show, TransitionLog, status_tables
from slipway.cluster.twin import Change
from slipway.local.cluster import LocalCluster
from slipway.local.container import ending
from slipway.local.state import State
from slipway.plan.jobs.outcomes import conditions_of
from slipway.reconcile.references import parent_of

LOG_LINES, LOG_BYTES = 20, 1 << 14
"""Limits of the shown end of a log."""

Say = Callable[[str], None]


class View(NamedTuple):
    """show: the objects as they are; say: a line that stays."""

    show: Show
    say: Say


@contextmanager
def view() -> Iterator[View]:
    """In place below the lines on a terminal; elsewhere a line for each transition."""
    if not interactive():
        yield View(TransitionLog(say, _now), lambda line: say(_whole(line)))
        return
    from rich.text import Text

    with pinned() as screen:

        def show(objects: Sequence[Object]) -> None:
            screen.update(coloured(status_tables(objects, single=False)), refresh=True)

        yield View(show, lambda line: screen.console.print(Text(_whole(line)), soft_wrap=True))


def event_lines(change: Change) -> list[str]:
    """Return the line of a new Event; nothing for any other change."""
    obj = change.object
    if change.type != "ADDED" or obj["kind"] != EVENT.kind:
        return []
    about = obj["regarding"]
    name = f"{about['kind'].lower()}/{about['name']}"
    return [one_line(f"{_now():%H:%M:%S} {name} {obj['type']} {obj['reason']}: {obj['note']}")]


class ContainerFailures:
    """Reports once of each start of a container that it failed, unless its pod was deleted, or ended with the run."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._reported: set[Path] = set()

    def __call__(self, change: Change) -> list[str]:
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
    """The ends of the logs of the parent's containers that failed, each below its path."""
    lines = []
    for pod in await cluster.twin.list(POD):
        if parent_of(pod) != key_of(owner):
            continue
        for status in pod.get("status", {}).get("containerStatuses", ()):
            ended = status["state"].get("terminated") or status.get("lastState", {}).get("terminated") or {}
            log = cluster.state.log_of(key_of(pod), status["name"], status["restartCount"])
            if ended.get("exitCode") and log.exists():
                shown = ending(log, LOG_BYTES).splitlines()
                lines += [f"{log}:", *(f"    {line}" for line in shown[-LOG_LINES:])]
    return lines


def address_lines(addresses: Mapping[tuple[Key, str], str], option: str) -> list[str]:
    """Return the addresses of models, and the commands that ask them. option: --local, or --state with its folder."""
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
    """The line, indented as it is, and no other one beside it."""
    return visible(" ".join(line.splitlines()))


def _now() -> datetime:
    return datetime.now(UTC)
