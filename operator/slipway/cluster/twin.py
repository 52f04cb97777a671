"""A Kubernetes API server in memory: the kinds and verbs that Slipway uses, for dry runs, local runs and tests.

It implements resourceVersion, generation, UID, creationTimestamp, conflicts, server-side apply with
one manager, the status subresource, finalizers, and garbage collection of objects whose owners are gone.
It checks the size of writes as JSON, and statuses against the schema of their CRD.
It omits admission, defaults and validation of specs, and refuses anything else with Unsupported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from slipway.api.base import wire_time
from slipway.api.errors import AlreadyExists, Conflict, Invalid, NotFound
from slipway.api.kinds import (
    DEPLOYMENT,
    EVENT,
    JOB,
    LEASE,
    NETWORK_POLICY,
    POD_DISRUPTION_BUDGET,
    RECONCILED,
    REFERENCED,
    WATCHED,
    Key,
    Kind,
    Object,
    key_of,
)
from slipway.api.status import not_yet_observed
from slipway.cluster.ownership import apply_merge_patch, apply_onto, copy_json, select_owned
from slipway.cluster.port import ABSENT
from slipway.cluster.statusschema import check_status
from slipway.cluster.wire import check_size, round_trip

_KNOWN = frozenset((*WATCHED, EVENT, LEASE))
_WITH_GENERATION = frozenset((*RECONCILED, *REFERENCED, JOB, DEPLOYMENT, NETWORK_POLICY, POD_DISRUPTION_BUDGET))
_WITHOUT_STATUS = frozenset(kind for kind in _KNOWN if kind in (EVENT, LEASE))

Clock = Callable[[], datetime]


class Unsupported(NotImplementedError):
    """The twin does not support this kind or call; a real server might."""


class WatchEvent(NamedTuple):
    """One event of a watch. All subscribers get the same object, and must not change it."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Object


class Twin:
    """A Cluster in memory. clock gives the time of creationTimestamp and deletionTimestamp (aware).

    uids: None counts them, which is correct if no other twin gets objects of this one.
    """

    def __init__(self, clock: Clock, objects: Iterable[Object] = (), uids: Callable[[], UUID] | None = None) -> None:
        self._clock = clock
        self._uids = uids or (lambda: UUID(int=self._made))
        self._objects: dict[Key, Object] = {}
        self._applied: dict[str, Object] = {}
        self._revision = 1  # the first write gets 2: no object ever has ABSENT
        self._made = 0
        self._collecting = False
        self._subscribers: list[Callable[[WatchEvent], None]] = []
        for obj in objects:
            self._add(obj)

    def subscribe(self, subscriber: Callable[[WatchEvent], None]) -> None:
        """Call it with every event from now on, in order, before the write that caused it returns."""
        self._subscribers.append(subscriber)

    @property
    def revision(self) -> int:
        """The resourceVersion of the newest write."""
        return self._revision

    def fork(self, clock: Clock) -> Twin:
        """Return an independent twin with the same objects and without subscribers."""
        other = Twin(clock)
        # Stored objects are replaced, never changed: both may share them.
        other._objects, other._applied = dict(self._objects), dict(self._applied)
        other._revision, other._made = self._revision, self._made
        return other

    def dump(self) -> Object:
        """Return all objects as JSON data for `restore`."""
        return {"revision": self._revision, "objects": list(self._objects.values()), "applied": self._applied}

    def restore(self, saved: Object) -> None:
        """Load the objects of another twin, with UIDs and versions. Sends no events. Raises KeyError, Unsupported."""
        self._objects = {_key_of(obj): obj for obj in saved["objects"]}
        self._applied, self._revision = dict(saved["applied"]), int(saved["revision"])

    # --- The port -----------------------------------------------------------------------------------------------

    async def get(self, key: Key) -> Object:
        return copy_json(self._live(key))

    async def list(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Sequence[Object]:
        _check_known(kind)
        return [
            copy_json(obj)
            for key, obj in sorted(self._objects.items(), key=lambda item: item[0][1:])
            if key.kind == kind
            and namespace in (None, key.namespace)
            and (labels or {}).items() <= obj["metadata"].get("labels", {}).items()
        ]

    async def create(self, obj: Object) -> Object:
        key = _key_of(obj)
        obj = round_trip(f"create {key.kind} {key.name}", obj)
        if "resourceVersion" in obj["metadata"]:
            raise Invalid(f"create {key.kind} {key.name}: resourceVersion should not be set on objects to be created")
        if key in self._objects:
            raise AlreadyExists(f"create {key.kind} {key.name}: it exists")
        return self._add(obj)

    async def apply(self, obj: Object) -> Object:
        key = _key_of(obj)
        obj = round_trip(f"apply {key.kind} {key.name}", obj)
        meta = obj["metadata"]
        live = self._objects.get(key)
        version, uid = meta.get("resourceVersion"), meta.get("uid")
        wanted = {**obj, "metadata": {k: v for k, v in meta.items() if k not in ("resourceVersion", "uid")}}
        if key.kind not in _WITHOUT_STATUS:
            wanted.pop("status", None)
        if live is None:
            if uid is not None:
                raise Conflict(f"apply {key.kind} {key.name}: uid mismatch: no existing object was found")
            made = self._add(wanted)
            self._applied[made["metadata"]["uid"]] = copy_json(wanted)
            return made
        at = live["metadata"]
        if version == ABSENT or version not in (None, at["resourceVersion"]) or uid not in (None, at["uid"]):
            raise Conflict(f"apply {key.kind} {key.name}: the object has been modified")
        owned = select_owned(self._applied.get(at["uid"], {}), live)
        merged = apply_onto(live, owned, wanted)
        self._applied[at["uid"]] = copy_json(wanted)
        return self._store(key, merged)

    async def patch_status(self, key: Key, resource_version: str, patch: Object) -> Object:
        live = self._live(key)
        call = f"patch the status of {key.kind} {key.name}"
        if key.kind in _WITHOUT_STATUS:
            raise NotFound(f"{call}: it has none")
        patch = round_trip(call, patch)
        self._check_version(live, resource_version)
        patched = {**live, "status": apply_merge_patch(live.get("status"), patch)}
        check_status(call, key.kind, patch, patched["status"])
        check_size(call, patched)
        return self._store(key, patched)

    async def delete(self, key: Key, *, uid: str, resource_version: str) -> Object | None:
        live = self._live(key)
        if live["metadata"]["uid"] != uid:
            raise Conflict(f"delete {key.kind} {key.name}: the UID in the precondition is not the object's")
        self._check_version(live, resource_version)
        return self._delete(key)

    # --- Writes of others: users, controllers, the kubelet --------------------------------------------------------

    def edit(self, key: Key, change: Callable[[Object], None]) -> Object:
        """Write as another client: `change` edits a copy of the object, status included, which is then stored."""
        edited = copy_json(self._live(key))
        change(edited)
        return self._store(key, edited)

    def remove(self, key: Key) -> Object | None:
        """Delete the object in the background as another client."""
        self._live(key)
        return self._delete(key)

    def add(self, obj: Object) -> Object:
        """Create the object as another client, with its status (a running pod, say). Raises AlreadyExists."""
        key = _key_of(obj)
        if key in self._objects:
            raise AlreadyExists(f"create {key.kind} {key.name}: it exists")
        made = self._add(obj)
        return self._store(key, {**made, "status": copy_json(obj["status"])}) if "status" in obj else made

    def collect(self) -> bool:
        """Delete objects whose owners are all gone, as the garbage collector does; runs after every deletion.

        Returns whether it deleted anything.
        """
        if self._collecting:  # the loop below also handles what it deletes itself
            return False
        self._collecting, before = True, self._revision
        try:
            while orphans := self._find_orphans():
                for key in orphans:
                    self._delete(key)
        finally:
            self._collecting = False
        return self._revision != before

    # --- Inside -------------------------------------------------------------------------------------------------

    def _find_orphans(self) -> Sequence[Key]:
        """Return objects whose owners are all gone and that are not being deleted yet."""
        uids = {obj["metadata"]["uid"] for obj in self._objects.values()}
        return [
            key
            for key, obj in self._objects.items()
            if (owners := obj["metadata"].get("ownerReferences", ()))
            and "deletionTimestamp" not in obj["metadata"]
            and not any(owner["uid"] in uids for owner in owners)
        ]

    def _live(self, key: Key) -> Object:
        _check_known(key.kind)
        if key not in self._objects:
            raise NotFound(f"{key.kind} {key.name} not found")
        return self._objects[key]

    def _check_version(self, live: Object, resource_version: str) -> None:
        if live["metadata"]["resourceVersion"] != resource_version:
            raise Conflict(f"{live['kind']} {live['metadata']['name']}: the object has been modified")

    def _next(self) -> str:
        self._revision += 1
        return str(self._revision)

    def _add(self, obj: Object) -> Object:
        key = _key_of(obj)
        made = copy_json(obj)
        self._made += 1
        meta = made["metadata"]
        for field in ("uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "generation"):
            meta.pop(field, None)
        meta["uid"] = str(self._uids())
        meta["resourceVersion"] = self._next()
        meta["creationTimestamp"] = self._now()
        if key.kind in _WITH_GENERATION:
            meta["generation"] = 1
        if key.kind not in _WITHOUT_STATUS:
            made.pop("status", None)
        if key.kind in RECONCILED:
            made["status"] = not_yet_observed()  # the CRD's default
        self._objects[key] = made
        self._notify("ADDED", made)
        return copy_json(made)

    def _store(self, key: Key, obj: Object) -> Object:
        """Replace an object: a no-op keeps its version, a change outside metadata and status raises its generation."""
        live = self._objects[key]
        if obj == live:
            return copy_json(live)
        meta = {**obj["metadata"], "resourceVersion": self._next()}
        if key.kind in _WITH_GENERATION and _spec(obj) != _spec(live):
            meta["generation"] = live["metadata"]["generation"] + 1
        stored = {**copy_json(obj), "metadata": meta}
        if "deletionTimestamp" in meta and not meta.get("finalizers"):
            self._drop(key, stored)
        else:
            self._objects[key] = stored
            self._notify("MODIFIED", stored)
        return copy_json(stored)

    def _delete(self, key: Key) -> Object | None:
        live = self._objects[key]
        meta = live["metadata"]
        if not meta.get("finalizers"):
            self._drop(key, {**live, "metadata": {**meta, "resourceVersion": self._next()}})
            return None
        if "deletionTimestamp" in meta:
            return copy_json(live)
        deletion = {"deletionTimestamp": self._now(), "deletionGracePeriodSeconds": 0}
        if key.kind in _WITH_GENERATION:
            deletion["generation"] = meta["generation"] + 1
        held = {**live, "metadata": {**meta, **deletion, "resourceVersion": self._next()}}
        self._objects[key] = held
        self._notify("MODIFIED", held)
        return copy_json(held)

    def _drop(self, key: Key, last: Object) -> None:
        del self._objects[key]
        self._applied.pop(last["metadata"]["uid"], None)
        self._notify("DELETED", last)
        self.collect()

    def _now(self) -> str:
        return wire_time(self._clock())

    def _notify(self, what: Literal["ADDED", "MODIFIED", "DELETED"], obj: Object) -> None:
        event = WatchEvent(what, copy_json(obj))
        for subscriber in self._subscribers:
            subscriber(event)


def _spec(obj: Object) -> dict[str, Any]:
    return {field: value for field, value in obj.items() if field not in ("metadata", "status")}


def _check_known(kind: Kind) -> None:
    if kind not in _KNOWN:
        raise Unsupported(f"the twin has no {kind.plural}.{kind.group}")


def _key_of(obj: Object) -> Key:
    try:
        key = key_of(obj)
    except KeyError as error:
        raise Unsupported(f"the twin cannot identify the object: {error}") from error
    if key.kind.namespaced != bool(key.namespace):
        raise Invalid(f"{key.kind} {key.name}: a namespace is {'missing' if key.kind.namespaced else 'out of place'}")
    return key
