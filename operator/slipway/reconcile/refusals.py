"""What the API server did not take: kept until it does, told to the planner and, once, to the user as an Event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from slipway.api.errors import AlreadyExists, ClusterError, Forbidden, Invalid, NotFound
from slipway.api.kinds import Key
from slipway.api.reports import shorten
from slipway.plan.plan import STATUS, EventRecord, Refusal
from slipway.reconcile.execute import Held, Outcome, Refused

LASTING = (AlreadyExists, Forbidden, Invalid, NotFound)
"""Errors that blame the object or a right; the others say that the API server was away, and pass by themselves."""
_SHOWN = 900
"""Characters of the server's words; an Event's note holds 1,024."""


class _Entry(NamedTuple):
    refused: Refused
    since: datetime


@dataclass(slots=True)
class _Parent:
    """What one resource was refused.

    held: what is not tried again before `due`, a moment of the queue's clock. tried: something was refused in this
    turn. called: the calls that an Event told of.
    """

    entries: dict[tuple[str, Key], _Entry] = field(default_factory=dict)
    held: set[tuple[str, Key]] = field(default_factory=set)
    due: float = 0.0
    tried: bool = False
    called: set[str] = field(default_factory=set)


class Refusals:
    """The refused writes of each resource, each waiting for its back-off, whatever wakes the resource in between.

    The server's words may change with every try (what a quota has used, a webhook's request id), the call does not:
    an Event is posted once for each call until nothing is refused any more.
    """

    def __init__(self) -> None:
        self._parents: dict[Key, _Parent] = {}

    def begin(self, key: Key, at: float) -> None:
        """A turn begins: what is due is tried again."""
        known = self._parents.get(key)
        if known is None:
            return
        known.tried = False
        if at >= known.due:
            known.held.clear()

    def held(self, key: Key) -> Held:
        """What is not tried again now."""
        known = self._parents.get(key)
        return {} if known is None else {name: known.entries[name].refused for name in known.held}

    def told(self, key: Key, now: datetime) -> tuple[Refusal, ...]:
        """What the planner is to know: all that was refused when it was last tried.

        What is about to be tried again has not lasted until now: it may pass.
        """
        known = self._parents.get(key)
        if known is None:
            return ()
        return tuple(_told(entry, entry.since if name in known.held else now) for name, entry in known.entries.items())

    def learn(self, key: Key, outcome: Outcome, now: datetime) -> Iterator[EventRecord]:
        """Keep what a round was refused. Yields the Events to post: of what only somebody can cure, once."""
        known = self._parents.get(key)
        if known is None:
            if not outcome.refused:
                return
            known = self._parents[key] = _Parent()
        before = known.entries
        known.entries = {} if outcome.whole else dict(before)
        for refused in outcome.refused:
            name = (refused.verb, refused.key)
            since = before[name].since if name in before else now
            known.tried |= name not in known.held or before[name].refused is not refused
            known.entries[name] = _Entry(refused, since)
            known.held.add(name)
            call = str(refused.error).partition(": ")[0]  # `create jobs ns/name`: what cluster/ puts before the words
            if refused.verb == STATUS and name not in before:
                continue  # the planner writes another one first
            if isinstance(refused.error, LASTING) and call not in known.called:
                known.called.add(call)
                words = shorten(str(refused.error), _SHOWN)
                said = f"the API server refused to {words}; it is tried again until it is taken"
                yield EventRecord("Warning", "Refused", said)
        known.held &= known.entries.keys()

    def errors(self, key: Key) -> list[ClusterError]:
        """What is still refused."""
        known = self._parents.get(key)
        return [entry.refused.error for entry in known.entries.values()] if known else []

    def due(self, key: Key) -> float | None:
        """When the refused writes are tried again, where none of them was tried in this turn; None where one was."""
        known = self._parents[key]
        return None if known.tried else known.due

    def wait(self, key: Key, due: float) -> None:
        """Try nothing of it again before that moment."""
        if (known := self._parents.get(key)) is not None:
            known.due = due

    def over(self, key: Key) -> None:
        """Nothing is refused any more, or the resource is gone: the next refusal is a new one."""
        self._parents.pop(key, None)


def _told(entry: _Entry, since: datetime) -> Refusal:
    verb, key, _, error = entry.refused
    return Refusal(verb, key, str(error), since, transient=not isinstance(error, LASTING))
