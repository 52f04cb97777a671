"""Carrying a plan out: apply, create, delete, status, events. The order makes a crash between any two harmless."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple

from slipway.api.errors import AlreadyExists, ClusterError, Conflict, NotFound
from slipway.api.kinds import EVENT, GROUP, Key, Object, key_of
from slipway.cluster.port import ABSENT, Cluster
from slipway.plan.observation import controller_uid
from slipway.plan.plan import STATUS, Deletion, EventRecord, Plan
from slipway.reconcile.cache import Cache
from slipway.reconcile.drift import Covered
from slipway.reconcile.log import NO_LOG, Log


class Refused(NamedTuple):
    """A write that the API server did not take. body: what was asked for: another body is another write."""

    verb: str
    key: Key
    body: Object | Deletion
    error: ClusterError


Held = Mapping[tuple[str, Key], Refused]
"""Refused writes by verb and object: what asks for the same again is refused without a call."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a plan; true where anything was written or learned: then plan again.

    refused: every write of the plan that was not taken, in this round or before (Held). whole: the plan was carried
    out to its end, so what is not in `refused` is refused no longer. undone: something was applied and is as it was.
    """

    changed: bool
    refused: tuple[Refused, ...] = ()
    whole: bool = False
    undone: bool = False

    def __bool__(self) -> bool:
        return self.changed


@dataclass(frozen=True, slots=True)
class Executor:
    """Turns plans into writes, and what the writes answer into the cache.

    instance: who reports Events, as in the pod's name.
    """

    cluster: Cluster
    cache: Cache
    instance: str
    covered: Covered = field(default_factory=Covered)
    log: Log = NO_LOG

    async def carry_out(
        self, plan: Plan, owner: Object, now: datetime, held: Held | None = None, *, may_retry: bool = True
    ) -> Outcome:
        """Make the writes of one round, each part of the plan by itself.

        parent: as the plan was made from. Where a write meets another version than the plan was made from, the object
        is read again and the rest of the plan is dropped: the next round decides on what really is. Where a child is
        refused that was not refused before, the status waits for the next round, which can tell of it.
        may_retry: False takes a child that is never as it was seen for refused, so that the status is written.
        Raises ClusterError for a read that fails.
        """
        for key in plan.gone:
            if await self._lives(key):
                return Outcome(True)
        drifted = [
            (rendered, live)
            for rendered in plan.apply
            if (live := self.cache.get(*key_of(rendered))) is None or not self.covered.covers(live, rendered)
        ]
        patch = status_patch(owner.get("status") or {}, plan.status)
        at_once = bool(patch) and plan.at_once and not plan.create and not plan.delete
        # Where the status is written at the same time, its version tells an old parent, and costs no read.
        if (drifted or plan.create or plan.delete) and not at_once and not await self._is_as_seen(owner):
            return Outcome(True)
        tried = _Tried(plan.parts, held or {}, may_retry)
        try:
            writes = [
                self._write(tried, "apply", key_of(rendered), owner, rendered, partial(self._apply, rendered))
                for rendered, _ in drifted
            ]
            if at_once:
                writes.append(self._write_status(tried, owner, patch))
            answers = await _together(*writes)
            # What a webhook changes back at once stays as it was: applied again in this turn it would be so again.
            stays = [key_of(rendered) for rendered, live in drifted if self.cache.get(*key_of(rendered)) is live]
            wrote = len(stays) < len(drifted)
            undone = bool(set(stays) - {one.key for one in tried.refused})
            for obj in plan.create:
                wrote |= await self._write(tried, "create", key_of(obj), owner, obj, partial(self._create, obj))
            for deletion in plan.delete:
                delete = partial(self._delete, deletion)
                wrote |= await self._write(tried, "delete", deletion.key, owner, deletion, delete)
            if tried.news:
                return Outcome(True, tuple(tried.refused), whole=True)
            if patch and not (answers[-1] if at_once else await self._write_status(tried, owner, patch)):
                # Another status may be taken: the planner hears of this one before the turn ends.
                news = any(one.verb == STATUS and one not in tried.held.values() for one in tried.refused)
                return Outcome(wrote or news, tuple(tried.refused), whole=True, undone=undone)
            wrote |= bool(patch)
        except Conflict:
            return Outcome(True, tuple(tried.refused))
        for event in plan.events:
            await self.tell(event, owner, now)
        return Outcome(wrote, tuple(tried.refused), whole=True, undone=undone)

    async def tell(self, event: EventRecord, owner: Object, now: datetime) -> None:
        """Post an Event on the parent, as well as it goes."""
        self.log.info("event", type=event.type, reason=event.reason, message=event.message)
        try:
            await self.cluster.create(event_of(event, owner, now, self.instance))
        except AlreadyExists:
            pass
        except ClusterError as error:  # an Event informs; nothing waits for it
            self.log.warning("could not post an Event", reason=event.reason, error=str(error))

    async def _lives(self, key: Key) -> bool:
        """Whether an object is there although the plan takes it to be gone; the cache then knows it."""
        try:
            return self.cache.put(await self.cluster.get(key), answered=True)
        except NotFound:
            return False

    async def _is_as_seen(self, owner: Object) -> bool:
        """Whether the plan was made from the parent as it is: watches lag, and not all by the same.

        A child that is made or deleted for a parent as it was long ago would be made twice, or be the wrong one. It
        costs a read only where the parent as it is known came by a watch: an intent that we wrote was answered.
        """
        key = key_of(owner)
        if self.cache.answered(key):
            return True
        await self._refresh(key)
        known = self.cache.get(*key)
        return known is not None and known["metadata"]["resourceVersion"] == owner["metadata"]["resourceVersion"]

    async def _write(
        self,
        tried: _Tried,
        verb: str,
        key: Key,
        owner: Object,
        body: Object | Deletion,
        call: Callable[[], Awaitable[None]],
    ) -> bool:
        """Make one write; False where it is refused, or waits for one of its part that is.

        Raises Conflict where it was decided on what is no longer so; the cache then knows better. Where the object was
        old the parent may be too, and what is wanted of the object with it: both are read again.
        """
        if not tried.may(verb, key, body):
            return False
        try:
            await call()
        except Conflict as conflict:
            if verb == "create":  # decided on nothing that lives: a quota that others use at the same moment
                tried.refuse(Refused(verb, key, body, conflict))
                return False
            self.log.debug("decided on an old version", object=_shown(key), error=str(conflict))
            for old in dict.fromkeys((key, key_of(owner))):
                await self._refresh(old)
            if tried.may_retry or verb == STATUS:
                raise
            tried.refuse(Refused(verb, key, body, conflict))
            return False
        except ClusterError as error:
            tried.refuse(Refused(verb, key, body, error))
            return False
        return True

    async def _write_status(self, tried: _Tried, owner: Object, patch: Object) -> bool:
        return await self._write(tried, STATUS, key_of(owner), owner, patch, partial(self._patch_status, owner, patch))

    async def _refresh(self, key: Key) -> None:
        try:
            self.cache.put(await self.cluster.get(key), answered=True)
        except NotFound:
            if known := self.cache.get(*key):
                self.cache.remove(key, known["metadata"]["uid"])

    async def _apply(self, rendered: Object) -> None:
        live = self.cache.get(*key_of(rendered))
        if live is not None and controller_uid(live) != controller_uid(rendered):
            raise AlreadyExists(f"apply {_shown(key_of(rendered))}: it belongs to somebody else, and is left alone")
        # Where nothing is known to live, only create: what else has the name is not ours to take over.
        seen = {field: live["metadata"][field] for field in ("uid", "resourceVersion")} if live else None
        meta = {**rendered["metadata"], **(seen or {"resourceVersion": ABSENT})}
        answer = await self.cluster.apply({**rendered, "metadata": meta})
        self.cache.put(answer, answered=True)
        if live is not None and answer["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]:
            self.log.warning("applied, and a webhook or a policy changes it back", object=_shown(key_of(rendered)))
        else:
            self.log.info("applied", object=_shown(key_of(rendered)), drifted=live is not None)

    async def _create(self, obj: Object) -> None:
        try:
            self.cache.put(await self.cluster.create(obj), answered=True)
            self.log.info("created", object=_shown(key_of(obj)))
        except AlreadyExists:
            known = self.cache.get(*key_of(obj))
            await self._refresh(key_of(obj))
            if known is not None and self.cache.get(*key_of(obj)) is known:  # seen, and asked for all the same
                raise

    async def _delete(self, deletion: Deletion) -> None:
        try:
            held = await self.cluster.delete(deletion.key, uid=deletion.uid, resource_version=deletion.resource_version)
        except NotFound:
            held = None
        if held is None:
            self.cache.remove(deletion.key, deletion.uid)
        else:
            self.cache.put(held, answered=True)
        self.log.info("deleted", object=_shown(deletion.key))

    async def _patch_status(self, owner: Object, patch: Object) -> None:
        key, meta = key_of(owner), owner["metadata"]
        try:
            self.cache.put(await self.cluster.patch_status(key, meta["resourceVersion"], patch), answered=True)
        except NotFound:
            self.cache.remove(key, meta["uid"])


@dataclass(slots=True)
class _Tried:
    """What became of the writes of one round so far. news: a child was refused that was not refused before."""

    parts: Sequence[frozenset[Key]]
    held: Held
    may_retry: bool = True
    refused: list[Refused] = field(default_factory=list)
    news: bool = False

    def may(self, verb: str, key: Key, body: Object | Deletion) -> bool:
        """Whether to try the write: nothing of its part was refused, nor the same write a moment ago."""
        if verb != STATUS and any(one.verb != STATUS and self._together(one.key, key) for one in self.refused):
            return False
        known = self.held.get((verb, key))
        if known is None or known.body != body:
            return True
        self.refused.append(known)
        return False

    def refuse(self, refused: Refused) -> None:
        self.refused.append(refused)
        self.news |= refused.verb != STATUS

    def _together(self, one: Key, other: Key) -> bool:
        """Whether the writes of two objects are of one part."""
        return self._part(one) == self._part(other)

    def _part(self, key: Key) -> int | None:
        return next((number for number, keys in enumerate(self.parts) if key in keys), None)


async def _together(*writes: Awaitable[bool]) -> list[bool]:
    """What is applied waits for no answer of each other. Each gets its own; then the first error is raised."""
    made: list[bool] = []
    for answer in await asyncio.gather(*writes, return_exceptions=True):
        if isinstance(answer, BaseException):
            raise answer
        made.append(answer)
    return made


def status_patch(present: Object, wanted: Object | None) -> Object:
    """The JSON merge patch (RFC 7386) from one status to the other; empty where nothing changes."""
    return {} if wanted is None else _merge_patch(present, wanted)


def _merge_patch(present: Object, wanted: Object) -> Object:
    patch: dict[str, Any] = {name: None for name in present if name not in wanted}
    for name, value in wanted.items():
        if name in present and present[name] == value:
            continue
        before = present.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            patch[name] = _merge_patch(before, value)
        else:
            patch[name] = value
    return patch


def _shown(key: Key) -> str:
    return f"{key.kind} {key.namespace}/{key.name}" if key.namespace else f"{key.kind} {key.name}"


CONTROLLER = f"{GROUP}/operator"
NOTE_BYTES = 1024
"""The API server says characters and counts bytes: words of a pod may be in any script."""


def event_of(event: EventRecord, owner: Object, now: datetime, instance: str) -> Object:
    """The Event of one transition of its parent.

    instance: who reports, as in `slipway-7d9f-abcde`. Its name is made of the parent's UID and of what happened, so a
    repetition is AlreadyExists to the API server: no counter, no memory, no second Event within the Events' TTL.
    """
    meta = owner["metadata"]
    mark = sha256("\0".join((meta["uid"], event.type, event.reason, event.message)).encode()).hexdigest()
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": f"{meta['name']}.{mark[:16]}", "namespace": meta["namespace"]},
        "eventTime": now.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "reportingController": CONTROLLER,
        "reportingInstance": instance[:128],
        "action": "Reconcile",
        "type": event.type,
        "reason": event.reason[:128],
        "note": event.message.encode()[:NOTE_BYTES].decode(errors="ignore"),
        "regarding": {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
        },
    }
