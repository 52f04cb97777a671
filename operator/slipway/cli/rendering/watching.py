"""Follow resources until they have settled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from slipway.api.errors import ClusterError, Forbidden, NotFound
from slipway.api.kinds import Object
from slipway.cli.rendering.details import details, overview
from slipway.cli.rendering.errors import FAILED, TIMED_OUT, CommandError
from slipway.cli.rendering.summary import owners_in, reference, settled, steps_of, summary
from slipway.cli.rendering.tables import Table, coloured
from slipway.cli.rendering.terminal import one_line, pinned

Look = Callable[[], Awaitable[list[Object]]]
Show = Callable[[Sequence[Object]], None]

EVERY_SECONDS = 1.0


async def watch_until_settled(
    look: Look,
    show: Show,
    timeout_seconds: float | None,
    *,
    stop_at_first: bool,
) -> list[Object]:
    """Look again and again, show what is seen, and return it when every resource has settled.

    stop_at_first: end with the first that is Stalled, as what waits for it may wait for ever. An API server that is
    away for a moment is waited for. Raises CommandError when the time is up.
    """
    seen: list[Object] = []
    try:
        async with asyncio.timeout(timeout_seconds):
            while True:
                try:
                    seen = await look()
                except (Forbidden, NotFound):
                    raise
                except ClusterError:
                    if not seen:
                        raise  # it never answered: waiting would hide a wrong address
                    await asyncio.sleep(EVERY_SECONDS)
                    continue
                show(seen)
                states = [settled(obj) for obj in owners_in(seen)]
                if None not in states or (stop_at_first and False in states):
                    return seen
                await asyncio.sleep(EVERY_SECONDS)
    except TimeoutError as error:
        waiting = ", ".join(f"{reference(obj)} ({summary(obj)[0]})" for obj in owners_in(seen) if settled(obj) is None)
        raise CommandError(f"not settled after {timeout_seconds:g} s: {waiting or 'no answer'}", TIMED_OUT) from error


def readiness_exit_code(objects: Sequence[Object]) -> int:
    """Return the exit code: 0 if every watched resource is Ready."""
    return 0 if all(settled(obj) for obj in owners_in(objects)) else FAILED


class TransitionLog:
    """Writes a line whenever the summary of a resource changes: for pipes and logs."""

    def __init__(self, write: Callable[[str], None], now: Callable[[], datetime]) -> None:
        self._write = write
        self._now = now
        self._written: dict[str, tuple[str, str, str]] = {}

    def __call__(self, objects: Sequence[Object]) -> None:
        for obj in owners_in(objects):
            name = f"{obj['metadata'].get('namespace', '')}/{reference(obj)}"
            line = summary(obj, steps_of(obj, objects))
            if self._written.get(name) == line:
                continue
            self._written[name] = line
            phase, progress, wrong = line
            text = "; ".join(part for part in (progress, wrong) if part and part != "-")
            written = f"{self._now():%H:%M:%S} {reference(obj)} {phase}{f': {text}' if text else ''}"
            self._write(one_line(written))


@contextmanager
def live_view(*, single: bool, all_namespaces: bool) -> Iterator[Show]:
    """Shows the whole picture in place, on a terminal."""
    with pinned() as screen:

        def show(objects: Sequence[Object]) -> None:
            screen.update(coloured(status_tables(objects, single=single, all_namespaces=all_namespaces)), refresh=True)

        yield show


def status_tables(objects: Sequence[Object], *, single: bool, all_namespaces: bool = False) -> list[Table]:
    """Return what `slipway status` shows: everything about a named resource, else a line for each."""
    now = datetime.now(UTC)
    if single:
        return [table for obj in owners_in(objects) for table in details(obj, now, objects)]
    return [overview(objects, now, all_namespaces=all_namespaces)]
