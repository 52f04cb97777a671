"""The executor of plans: apply, create, delete, status, events. The order makes a crash between two writes harmless."""

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
from slipway.reconcile.drift import DriftDetector
from slipway.reconcile.log import NO_LOG, Log


class Refused(NamedTuple):
    """A write that the API server refused. body: the content of the write; another body is another write."""

    verb: str
    key: Key
    body: Object | Deletion
    error: ClusterError


DeferredWrites = Mapping[tuple[str, Key], Refused]
"""Refused writes by verb and object that wait for their back-off: the same write is refused without a call."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a plan; true if the plan wrote something or the cache changed: then plan again.

    refused: every refused write of the plan, of this round or before (DeferredWrites). whole: all parts of the plan
    were tried, so a write that is not in `refused` is refused no more. undone: an apply succeeded and changed nothing.
    """

    changed: bool
    refused: tuple[Refused, ...] = ()
    whole: bool = False
    undone: bool = False

    def __bool__(self) -> bool:
        return self.changed


@dataclass(frozen=True, slots=True)
class Executor:
    """Carries plans out, and puts the answers into the cache.

    instance: the reporting instance of Events, the name of the pod.
    """

    cluster: Cluster
    cache: Cache
    instance: str
    drift: DriftDetector = field(default_factory=DriftDetector)
    log: Log = NO_LOG

    async def carry_out(
        self,
        plan: Plan,
        owner: Object,
        now: datetime,
        deferred: DeferredWrites | None = None,
        *,
        may_retry: bool = True,
    ) -> Outcome:
        """Make the writes of one plan, each part of it independently.

        owner: the version that the plan was made from. If a write finds another version than the plan was made from,
        the executor reads the object and drops the rest of the plan: the next round decides with the current one. If a
        child is refused for the first time, the status waits for the next round, which can report the refusal.
        may_retry: False treats a child that always has another version as refused, so that the status is written.
        Raises ClusterError if a read fails.
        """
        for key in plan.gone:
            if await self._lives(key):
                return Outcome(True)
        drifted = [
            (rendered, live)
            for rendered in plan.apply
            if (live := self.cache.get(*key_of(rendered))) is None or not self.drift.in_sync(live, rendered)
        ]
        patch = status_patch(owner.get("status") or {}, plan.status)
        at_once = bool(patch) and plan.at_once and not plan.create and not plan.delete
        # A status write at the same time fails for an outdated owner by itself, without a read.
        if (drifted or plan.create or plan.delete) and not at_once and not await self._is_current(owner):
            return Outcome(True)
        writes = _RoundWrites(plan.parts, deferred or {}, may_retry)
        try:
            calls = [
                self._write(writes, "apply", key_of(rendered), owner, rendered, partial(self._apply, rendered))
                for rendered, _ in drifted
            ]
            if at_once:
                calls.append(self._write_status(writes, owner, patch))
            answers = await _together(*calls)
            # An object that a webhook reverts at once does not change: another apply now would be reverted too.
            stays = [key_of(rendered) for rendered, live in drifted if self.cache.get(*key_of(rendered)) is live]
            wrote = len(stays) < len(drifted)
            undone = bool(set(stays) - {one.key for one in writes.refused})
            for obj in plan.create:
                wrote |= await self._write(writes, "create", key_of(obj), owner, obj, partial(self._create, obj))
            for deletion in plan.delete:
                delete = partial(self._delete, deletion)
                wrote |= await self._write(writes, "delete", deletion.key, owner, deletion, delete)
            if writes.newly_refused:
                return Outcome(True, tuple(writes.refused), whole=True)
            if patch and not (answers[-1] if at_once else await self._write_status(writes, owner, patch)):
                # The API server may accept another status: the planner gets this refusal in the next round.
                newly_refused = any(
                    one.verb == STATUS and one not in writes.deferred.values() for one in writes.refused
                )
                return Outcome(wrote or newly_refused, tuple(writes.refused), whole=True, undone=undone)
            wrote |= bool(patch)
        except Conflict:
            return Outcome(True, tuple(writes.refused))
        for event in plan.events:
            await self.record_event(event, owner, now)
        return Outcome(wrote, tuple(writes.refused), whole=True, undone=undone)

    async def record_event(self, event: EventRecord, owner: Object, now: datetime) -> None:
        """Post an Event on the owner. A failure is only logged."""
        self.log.info("event", type=event.type, reason=event.reason, message=event.message)
        try:
            await self.cluster.create(event_of(event, owner, now, self.instance))
        except AlreadyExists:
            pass
        except ClusterError as error:  # nothing depends on an Event
            self.log.warning("could not post an Event", reason=event.reason, error=str(error))

    async def _lives(self, key: Key) -> bool:
        """Return True if an object exists that the plan takes for deleted; the cache then has it."""
        try:
            return self.cache.put(await self.cluster.get(key), answered=True)
        except NotFound:
            return False

    async def _is_current(self, owner: Object) -> bool:
        """Return True if the plan was made from the current owner: watches lag, each by a different time.

        A child created or deleted for an outdated owner would be created twice, or be the wrong one. The check costs a
        read only if the cached owner came from a watch: the answer to a status write is current.
        """
        key = key_of(owner)
        if self.cache.answered(key):
            return True
        await self._refresh(key)
        known = self.cache.get(*key)
        return known is not None and known["metadata"]["resourceVersion"] == owner["metadata"]["resourceVersion"]

    async def _write(
        self,
        writes: _RoundWrites,
        verb: str,
        key: Key,
        owner: Object,
        body: Object | Deletion,
        call: Callable[[], Awaitable[None]],
    ) -> bool:
        """Make one write. Return False if it is refused, or if a write of the same part is.

        Raises Conflict if the write was decided on an outdated version; the cache then has the current one. If the
        object was outdated, the owner may be too, and the object is rendered from it: both are read again.
        """
        if not writes.may_write(verb, key, body):
            return False
        try:
            await call()
        except Conflict as conflict:
            if verb == "create":  # a create has no version: the conflict is a quota that others use at the same time
                writes.refuse(Refused(verb, key, body, conflict))
                return False
            self.log.debug("decided on an old version", object=_shown(key), error=str(conflict))
            for old in dict.fromkeys((key, key_of(owner))):
                await self._refresh(old)
            if writes.may_retry or verb == STATUS:
                raise
            writes.refuse(Refused(verb, key, body, conflict))
            return False
        except ClusterError as error:
            writes.refuse(Refused(verb, key, body, error))
            return False
        return True

    async def _write_status(self, writes: _RoundWrites, owner: Object, patch: Object) -> bool:
        return await self._write(writes, STATUS, key_of(owner), owner, patch, partial(self._patch_status, owner, patch))

    async def _refresh(self, key: Key) -> None:
        try:
            self.cache.put(await self.cluster.get(key), answered=True)
        except NotFound:
            if known := self.cache.get(*key):
                self.cache.remove(key, known["metadata"]["uid"])

    async def _apply(self, rendered: Object) -> None:
        live = self.cache.get(*key_of(rendered))
        if live is not None and controller_uid(live) != controller_uid(rendered):
            raise AlreadyExists(
                f"apply {_shown(key_of(rendered))}: another owner has an object of this name; delete or rename it"
            )
        # If no live object is known, only create: an object of another owner must not be taken over.
        seen = {field: live["metadata"][field] for field in ("uid", "resourceVersion")} if live else None
        meta = {**rendered["metadata"], **(seen or {"resourceVersion": ABSENT})}
        answer = await self.cluster.apply({**rendered, "metadata": meta})
        self.cache.put(answer, answered=True)
        if live is not None and answer["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]:
            self.log.warning("applied, and a webhook or a policy reverted it", object=_shown(key_of(rendered)))
        else:
            self.log.info("applied", object=_shown(key_of(rendered)), drifted=live is not None)

    async def _create(self, obj: Object) -> None:
        try:
            self.cache.put(await self.cluster.create(obj), answered=True)
            self.log.info("created", object=_shown(key_of(obj)))
        except AlreadyExists:
            known = self.cache.get(*key_of(obj))
            await self._refresh(key_of(obj))
            if (
                known is not None and self.cache.get(*key_of(obj)) is known
            ):  # the planner knew it, and created it nevertheless
                raise

    async def _delete(self, deletion: Deletion) -> None:
        try:
            terminating = await self.cluster.delete(
                deletion.key, uid=deletion.uid, resource_version=deletion.resource_version
            )
        except NotFound:
            terminating = None
        if terminating is None:
            self.cache.remove(deletion.key, deletion.uid)
        else:
            self.cache.put(terminating, answered=True)
        self.log.info("deleted", object=_shown(deletion.key))

    async def _patch_status(self, owner: Object, patch: Object) -> None:
        key, meta = key_of(owner), owner["metadata"]
        try:
            self.cache.put(await self.cluster.patch_status(key, meta["resourceVersion"], patch), answered=True)
        except NotFound:
            self.cache.remove(key, meta["uid"])


@dataclass(slots=True)
class _RoundWrites:
    """The results of the writes of one plan. newly_refused: a child was refused that was not refused before."""

    parts: Sequence[frozenset[Key]]
    deferred: DeferredWrites
    may_retry: bool = True
    refused: list[Refused] = field(default_factory=list)
    newly_refused: bool = False

    def may_write(self, verb: str, key: Key, body: Object | Deletion) -> bool:
        """Return True if no write of its part was refused, and the same write does not wait for its back-off."""
        if verb != STATUS and any(one.verb != STATUS and self._together(one.key, key) for one in self.refused):
            return False
        known = self.deferred.get((verb, key))
        if known is None or known.body != body:
            return True
        self.refused.append(known)
        return False

    def refuse(self, refused: Refused) -> None:
        self.refused.append(refused)
        self.newly_refused |= refused.verb != STATUS

    def _together(self, one: Key, other: Key) -> bool:
        """Return True if the writes of two objects belong to one part."""
        return self._part(one) == self._part(other)

    def _part(self, key: Key) -> int | None:
        return next((number for number, keys in enumerate(self.parts) if key in keys), None)


async def _together(*writes: Awaitable[bool]) -> list[bool]:
    """Make all writes at the same time and return their results; the first error is raised after the last answer."""
    made: list[bool] = []
    for answer in await asyncio.gather(*writes, return_exceptions=True):
        if isinstance(answer, BaseException):
            raise answer
        made.append(answer)
    return made


def status_patch(present: Object, desired: Object | None) -> Object:
    """Return the JSON merge patch (RFC 7386) from one status to the other; empty if nothing changes."""
    return {} if desired is None else _merge_patch(present, desired)


def _merge_patch(present: Object, desired: Object) -> Object:
    patch: dict[str, Any] = {name: None for name in present if name not in desired}
    for name, value in desired.items():
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
"""The documentation of the API server counts characters, its code counts bytes: a message may be in any script."""


def event_of(event: EventRecord, owner: Object, now: datetime, instance: str) -> Object:
    """Return the Event of one transition of its owner.

    instance: the reporting instance, as in `slipway-7d9f-abcde`. The name of the Event is a hash of the owner's UID and
    the transition, so the API server refuses a repetition as AlreadyExists within the TTL of Events.
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
