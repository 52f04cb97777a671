"""Writes that the API server refused, for the planner and, once each, for the user as an Event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from slipway.api.errors import AlreadyExists, ClusterError, Forbidden, Invalid, NotFound
from slipway.api.kinds import Key
from slipway.api.reports import shorten
from slipway.plan.plan import STATUS, EventRecord, Refusal
from slipway.reconcile.execute import DeferredWrites, Outcome, Refused

LASTING = (AlreadyExists, Forbidden, Invalid, NotFound)
"""Errors about the object or a permission. Other errors mean that the API server was unavailable, and are temporary."""
_SHOWN = 900
"""Maximum characters of the API server's message in an Event, whose note has at most 1,024."""


class _Entry(NamedTuple):
    refused: Refused
    since: datetime


@dataclass(slots=True)
class _OwnerRefusals:
    """The refused writes of one resource.

    deferred: writes that are not tried again before `due`, a time of the queue's clock. tried: a write was refused in
    this reconcile. reported: the calls that have an Event.
    """

    entries: dict[tuple[str, Key], _Entry] = field(default_factory=dict)
    deferred: set[tuple[str, Key]] = field(default_factory=set)
    due: float = 0.0
    tried: bool = False
    reported: set[str] = field(default_factory=set)


class Refusals:
    """The refused writes of each resource. Each waits for its back-off, even if the resource is reconciled before.

    The API server's message may change with every try (the usage of a quota, a webhook's request ID), the call does
    not: one Event is posted for each call until no write is refused any more.
    """

    def __init__(self) -> None:
        self._by_owner: dict[Key, _OwnerRefusals] = {}

    def begin(self, key: Key, at: float) -> None:
        """Begin a reconcile: writes whose back-off is over are tried again."""
        known = self._by_owner.get(key)
        if known is None:
            return
        known.tried = False
        if at >= known.due:
            known.deferred.clear()

    def deferred(self, key: Key) -> DeferredWrites:
        """Return the writes that wait for their back-off."""
        known = self._by_owner.get(key)
        return {} if known is None else {name: known.entries[name].refused for name in known.deferred}

    def current(self, key: Key, now: datetime) -> tuple[Refusal, ...]:
        """Return the refusals for the planner: every write whose last try was refused.

        A write that is about to be tried again counts as refused since now: it may succeed.
        """
        known = self._by_owner.get(key)
        if known is None:
            return ()
        return tuple(
            _refusal(entry, entry.since if name in known.deferred else now) for name, entry in known.entries.items()
        )

    def record(self, key: Key, outcome: Outcome, now: datetime) -> Iterator[EventRecord]:
        """Record the refusals of one plan. Yield the Events to post, one for each lasting refusal."""
        known = self._by_owner.get(key)
        if known is None:
            if not outcome.refused:
                return
            known = self._by_owner[key] = _OwnerRefusals()
        before = known.entries
        known.entries = {} if outcome.whole else dict(before)
        for refused in outcome.refused:
            name = (refused.verb, refused.key)
            since = before[name].since if name in before else now
            known.tried |= name not in known.deferred or before[name].refused is not refused
            known.entries[name] = _Entry(refused, since)
            known.deferred.add(name)
            call = str(refused.error).partition(": ")[
                0
            ]  # `create jobs ns/name`, which cluster/ puts before the message
            if refused.verb == STATUS and name not in before:
                continue  # the planner first writes another status
            if isinstance(refused.error, LASTING) and call not in known.reported:
                known.reported.add(call)
                error = shorten(str(refused.error), _SHOWN)
                message = f"the API server refused to {error}; Slipway retries until it succeeds"
                yield EventRecord("Warning", "Refused", message)
        known.deferred &= known.entries.keys()

    def errors(self, key: Key) -> list[ClusterError]:
        """Return the errors of the writes that are still refused."""
        known = self._by_owner.get(key)
        return [entry.refused.error for entry in known.entries.values()] if known else []

    def due(self, key: Key) -> float | None:
        """Return when refused writes are tried again; None if one was just tried, and needs a new back-off."""
        known = self._by_owner[key]
        return None if known.tried else known.due

    def defer(self, key: Key, due: float) -> None:
        """Set the time before which no refused write of the resource is tried again."""
        if (known := self._by_owner.get(key)) is not None:
            known.due = due

    def clear(self, key: Key) -> None:
        """Forget the refusals of a resource that has none any more, or is gone: the next one is new."""
        self._by_owner.pop(key, None)


def _refusal(entry: _Entry, since: datetime) -> Refusal:
    verb, key, _, error = entry.refused
    return Refusal(verb, key, str(error), since, transient=not isinstance(error, LASTING))
