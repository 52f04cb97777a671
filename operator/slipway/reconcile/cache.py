"""The operator's copy of the cluster: trimmed objects from watches, lists and the answers to its own writes.

The newest resourceVersion wins, in whatever order events arrive: within a kind it grows with every write (KEP-5504),
also across a deletion and re-creation. A deleted object stays deleted: a late event does not restore it.

The cache stores only the fields that planners and the executor read: a pod takes about 4 KB of memory instead of 20.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from slipway.api.kinds import (
    COMPRESSION_PLUGIN,
    GPU_POOL,
    JOB,
    MODEL_DEPLOYMENT,
    NETWORK_POLICY,
    OWNERS,
    POD,
    PVC,
    RECONCILED,
    STEP,
    Key,
    Kind,
    Object,
    key_of,
    kind_of,
)
from slipway.plan.jobs.pods import TEMPLATE, WORKLOAD, template_of, workload_of
from slipway.plan.observation import carries, controller_uid
from slipway.plan.owner import REVISION_LABEL
from slipway.plan.parse import value_at
from slipway.plan.steps.request import RETRY_ANNOTATION, SHARE_LABEL
from slipway.reconcile.references import is_foreign, owner_of, referenced

_OWNERS = {kind.kind: kind for kind in OWNERS}
INDEXED_LABELS = (REVISION_LABEL, SHARE_LABEL)
"""Labels that have an index: `select` then reads only the objects that carry them."""
NEVER = sys.maxsize
"""A resourceVersion above that of any object."""
TOMBSTONES = 10_000
"""Number of deleted UIDs to remember, the newest ones; a watch lags by seconds, not by 10,000 deletions."""


class _Entry(NamedTuple):
    object: Object
    version: int
    mark: int  # counts puts: an object that was put after a list began is not missing from that list
    answered: bool  # this version is an answer of the API server; a watch may lag


class Cache:
    """The current objects; implements slipway.plan.observation.ClusterView. Callers must not change what it returns."""

    def __init__(self) -> None:
        self._objects: dict[Kind, dict[tuple[str, str], _Entry]] = {}
        self._owned: dict[tuple[str, str], dict[Key, Object]] = {}  # namespace, controller's UID -> its children
        self._labelled: dict[tuple[Kind, str, str, str], set[tuple[str, str]]] = {}  # by each of INDEXED_LABELS
        self._referrers: dict[Key, set[Key]] = {}  # resources that name an object, whether it exists or not
        self._foreign: dict[Key, Object] = {}
        self._tombstones: OrderedDict[str, int] = OrderedDict()  # UID -> no version below this one exists
        self._marks = 0

    # --- For planners -------------------------------------------------------------------------------------------

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        entry = self._objects.get(kind, {}).get((namespace if kind.namespaced else "", name))
        return entry.object if entry else None

    def owned(self, kind: Kind, namespace: str, uid: str) -> Sequence[Object]:
        children = self._owned.get((namespace, uid), {})
        return [children[key] for key in sorted((key for key in children if key.kind == kind), key=lambda key: key[1:])]

    def select(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> Sequence[Object]:
        entries = self._objects.get(kind, {})
        indexed = next((label for label in INDEXED_LABELS if label in labels), None)
        if indexed is not None:  # a namespace may have thousands of other pods
            names: Iterable[tuple[str, str]] = self._labelled.get((kind, namespace, indexed, labels[indexed]), ())
        else:
            names = (name for name in entries if name[0] == namespace)
        return [entries[name].object for name in sorted(names) if carries(entries[name].object, labels)]

    def objects(self, kind: Kind) -> Iterator[Object]:
        return (entry.object for entry in self._objects.get(kind, {}).values())

    @property
    def unmanaged(self) -> Sequence[Object]:
        """Objects that have the name of a child and are not managed by Slipway: no watch and no list returns them."""
        return list(self._foreign.values())

    def affected(self, obj: Object) -> set[Key]:
        """Return the keys to plan again after a change of this object: its owner, and the resources that name it."""
        key = key_of(obj)
        owner = owner_of(obj)
        affected = self._referrers.get(key, set()) | ({owner} if owner else set())
        if is_foreign(obj):  # it may have the name of a child, which begins with the owner's name
            affected |= {
                key_of(other)
                for kind in RECONCILED
                for other in self.objects(kind)
                if other["metadata"].get("namespace", "") == key.namespace
                and f"{key.name}-".startswith(f"{other['metadata']['name']}-")
            }
        if key.kind == STEP:
            affected |= self._affected_by_step(key, obj)
        elif owner == key:  # pods of Steps get settings from the owner
            affected |= self._open_steps(key, obj["metadata"]["uid"])
        elif key.kind == NETWORK_POLICY and (uid := controller_uid(obj)):  # no pod of a Step starts without its policy
            affected |= self._open_steps(key, uid)
        if key.kind == GPU_POOL:  # the owner selects the pool of its Steps' pods
            for other in tuple(affected):
                if (known := self.get(*other)) is not None:
                    affected |= self._open_steps(other, known["metadata"]["uid"])
        if key.kind == COMPRESSION_PLUGIN:  # conversions are selected by input and output, not by name
            affected |= {key_of(deployment) for deployment in self.objects(MODEL_DEPLOYMENT)}
        return affected

    def _open_steps(self, key: Key, owner: str) -> set[Key]:
        return {key_of(step) for step in self.owned(STEP, key.namespace, owner) if not _done(step)}

    def _affected_by_step(self, key: Key, step: Object) -> set[Key]:
        """Return the owner of a Step, and the Steps that wait for it because they have the same work."""
        owners = (one for one in step["metadata"].get("ownerReferences", ()) if one.get("controller"))
        affected = {Key(kind, key.namespace, one["name"]) for one in owners if (kind := _OWNERS.get(one["kind"]))}
        share = (step["metadata"].get("labels") or {}).get(SHARE_LABEL)
        same = self.select(STEP, key.namespace, {SHARE_LABEL: share}) if share else ()
        return affected | {key_of(other) for other in same if not _done(other)}

    # --- For watches, lists and the executor --------------------------------------------------------------------

    def put(self, obj: Object, *, answered: bool = False) -> bool:
        """Store an object from a watch, a list or the answer to a write. Return whether a stored field changed."""
        meta = obj["metadata"]
        key, version = key_of(obj), int(meta["resourceVersion"])
        if (gone_at := self._tombstones.get(meta["uid"])) is not None:
            if version < gone_at:
                return False
            del self._tombstones[meta["uid"]]  # it exists: it had only lost the label that the watch selects by
        before = self._entry(key)
        if before is not None:
            if version <= before.version:
                if version == before.version:
                    self._remember(key, before.object, version, answered or before.answered)
                return False
            if before.object["metadata"]["uid"] != meta["uid"]:
                self._forget(key, before.object, NEVER)
                before = None
        kept = trimmed(obj)
        same = before is not None and _equal(before.object, kept)
        if before is not None and not same:
            self._unlink(key, before.object)
        self._remember(key, kept, version, answered)
        if same:
            self._link_owned(key, kept)
        else:
            self._link(key, kept)
        return not same

    def remove(self, key: Key, uid: str, version: int = NEVER) -> Object | None:
        """Remove a deleted object and return its last state. An object of the same name with another UID stays.

        version: the resourceVersion of the event, if there is one. A real deletion has a higher version than the
        object ever had. An object that only lost the watched label still has that version, and can be put again.
        """
        before = self._entry(key)
        if before is None or before.object["metadata"]["uid"] != uid:
            self._add_tombstone(uid, version)
            return None
        self._forget(key, before.object, version)
        return before.object

    def answered(self, key: Key) -> bool:
        """Return True if the cached version of an object is an answer of the API server, and so was current then."""
        entry = self._entry(key)
        return entry is not None and entry.answered

    def mark(self) -> int:
        """Return a number that marks the moment before a list request; pass it to `missing`."""
        return self._marks

    def missing(
        self, kind: Kind, seen: Iterable[tuple[str, str]], since: int, namespace: str | None = None
    ) -> list[Object]:
        """Return the cached objects that were not in a list: they were deleted, and no event reported it.

        seen: (namespace, name) of the items of the list. since: the value of `mark` before the list was requested; an
        object that was put later may be newer than the list. namespace: that of the list, None for all.
        """
        names = set(seen)
        return [
            entry.object
            for name, entry in self._objects.get(kind, {}).items()
            if entry.mark <= since
            and name not in names
            and namespace in (None, name[0])
            and Key(kind, *name) not in self._foreign
        ]

    # --- Internal -----------------------------------------------------------------------------------------------

    def _entry(self, key: Key) -> _Entry | None:
        return self._objects.get(key.kind, {}).get((key.namespace, key.name))

    def _remember(self, key: Key, obj: Object, version: int, answered: bool) -> None:
        self._marks += 1
        entry = _Entry(obj, version, self._marks, answered)
        self._objects.setdefault(key.kind, {})[(key.namespace, key.name)] = entry

    def _forget(self, key: Key, obj: Object, version: int) -> None:
        self._add_tombstone(obj["metadata"]["uid"], version)
        del self._objects[key.kind][(key.namespace, key.name)]
        self._unlink(key, obj)

    def _add_tombstone(self, uid: str, version: int) -> None:
        self._tombstones[uid] = max(version, self._tombstones.get(uid, 0))
        if len(self._tombstones) > TOMBSTONES:
            self._tombstones.popitem(last=False)

    def _link(self, key: Key, obj: Object) -> None:
        self._link_owned(key, obj)
        for other in referenced(obj):
            self._referrers.setdefault(other, set()).add(key)

    def _link_owned(self, key: Key, obj: Object) -> None:
        if is_foreign(obj):
            self._foreign[key] = obj
        for mark in _marks(key, obj):
            self._labelled.setdefault(mark, set()).add((key.namespace, key.name))
        if uid := controller_uid(obj):
            self._owned.setdefault((key.namespace, uid), {})[key] = obj

    def _unlink(self, key: Key, obj: Object) -> None:
        self._foreign.pop(key, None)
        for mark in _marks(key, obj):
            names = self._labelled.get(mark, set())
            names.discard((key.namespace, key.name))
            if not names:
                self._labelled.pop(mark, None)
        owner = (key.namespace, controller_uid(obj) or "")
        if key in self._owned.get(owner, {}):
            del self._owned[owner][key]
            if not self._owned[owner]:
                del self._owned[owner]
        for other in referenced(obj):
            if referrers := self._referrers.get(other):
                referrers.discard(key)
                if not referrers:
                    del self._referrers[other]


def _marks(key: Key, obj: Object) -> Iterator[tuple[Kind, str, str, str]]:
    labels = obj["metadata"].get("labels") or {}
    return ((key.kind, key.namespace, label, labels[label]) for label in INDEXED_LABELS if label in labels)


def _done(step: Object) -> bool:
    return bool(value_at(step, "status", "phase") == "Succeeded")


def _equal(one: Object, other: Object) -> bool:
    """Return True if two objects are equal except for the resourceVersion."""
    if one["metadata"].keys() != other["metadata"].keys():
        return False
    for field, value in one.items():
        if field != "metadata" and other.get(field) != value:
            return False
    metas = one["metadata"], other["metadata"]
    return one.keys() == other.keys() and all(
        metas[1][field] == value for field, value in metas[0].items() if field != "resourceVersion"
    )


_DROPPED_METADATA = frozenset({"managedFields", "selfLink", "generateName", "annotations", "finalizers"})
"""An object may have 256 KiB of annotations, written by any user; planners read only one annotation."""
_LABELS = ("slipway.dev/", "batch.kubernetes.io/", "app.kubernetes.io/managed-by", "velero.io/exclude-from-backup")
"""Prefixes of the labels that planners read."""
_POD_METADATA = ("name", "namespace", "uid", "resourceVersion", "labels", "ownerReferences", "deletionTimestamp")
_POD_STATUS = (
    "phase",
    "reason",
    "message",
    "conditions",
    "containerStatuses",
    "initContainerStatuses",
    "podIP",
    "startTime",
)
_CONTAINER_STATUS = ("name", "image", "imageID", "ready", "restartCount", "started", "state", "lastState")


def trimmed(obj: Object) -> Object:
    """Return a copy of the object with the fields that are read; equal strings are one object in memory."""
    kind = kind_of(obj)
    if kind == POD:
        return _pod(obj)
    kept = {field: value for field, value in obj.items() if field != "metadata"}
    if kind == JOB:  # a Job never changes; of its pod template only the workload is read again
        spec = {field: value for field, value in obj.get("spec", {}).items() if field != "template"}
        kept["spec"] = {**spec, WORKLOAD: workload_of(obj), TEMPLATE: template_of(obj)}
    elif kind == PVC:
        kept["spec"] = {field: value for field, value in obj.get("spec", {}).items() if field != "dataSource"}
    kept["metadata"] = _metadata(obj["metadata"])
    return {"apiVersion": kind.api_version, "kind": kind.kind, **_shared(kept)}


def _metadata(meta: Mapping[str, Any]) -> dict[str, Any]:
    kept = {field: value for field, value in meta.items() if field not in _DROPPED_METADATA}
    if (retry := (meta.get("annotations") or {}).get(RETRY_ANNOTATION)) is not None:
        kept["annotations"] = {RETRY_ANNOTATION: retry}
    if "labels" in kept:
        kept["labels"] = {name: text for name, text in (kept["labels"] or {}).items() if name.startswith(_LABELS)}
    return kept


def _pod(obj: Object) -> Object:
    meta, status = obj["metadata"], obj.get("status", {})
    kept = {field: status[field] for field in _POD_STATUS if field in status}
    for field in ("containerStatuses", "initContainerStatuses"):
        if field in kept:
            kept[field] = [{f: one[f] for f in _CONTAINER_STATUS if f in one} for one in kept[field]]
            for one in kept[field]:  # many pods have the same value, and it is longer than `_shared` interns
                one.update({f: sys.intern(one[f]) for f in ("image", "imageID") if one.get(f)})
    node = obj.get("spec", {}).get("nodeName")
    return {
        "apiVersion": POD.api_version,
        "kind": POD.kind,
        "metadata": _shared(_metadata({field: meta[field] for field in _POD_METADATA if field in meta})),
        "spec": {WORKLOAD: workload_of(obj)} | ({"nodeName": node} if node else {}),
        "status": _shared(kept),
    }


def _shared(value: Any) -> Any:
    """Return the value with one object in memory for all equal field names and short strings."""
    if isinstance(value, dict):
        return {sys.intern(field): _shared(item) for field, item in value.items()}
    if isinstance(value, list):
        return [_shared(item) for item in value]
    if isinstance(value, str) and len(value) < 64:
        return sys.intern(value)
    return value
