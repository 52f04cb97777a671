"""The objects that a dry run created, changed and deleted, in the order of the first write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from slipway.api.kinds import CHILDREN, Key, Object, key_of
from slipway.cluster.twin import Twin
from slipway.cluster.twin import WatchEvent as Entry

Verb = Literal["create", "change", "delete"]

_SERVER_FIELDS = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink")


class Difference(NamedTuple):
    """One changed field. before, after: None if it is absent."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one object. before: None for a new one. after: its last state; None for a deleted one.

    temporary: the dry run created the object and deleted it again.
    """

    verb: Verb
    key: Key
    before: Object | None
    after: Object | None
    temporary: bool = False

    @property
    def object(self) -> Object:
        return self.after or self.before or {}

    @property
    def differences(self) -> tuple[Difference, ...]:
        if self.before is None or self.after is None:
            return ()
        return tuple(_differences(manifest_of(self.before), manifest_of(self.after)))


@dataclass
class ChangeLog:
    """Records every write to a twin from now on."""

    twin: Twin
    before: dict[Key, Object]
    _last: dict[Key, Object] = field(default_factory=dict)
    _gone: set[Key] = field(default_factory=set)

    @classmethod
    async def of(cls, twin: Twin) -> ChangeLog:
        before = {key_of(obj): obj for kind in CHILDREN for obj in await twin.list(kind)}
        made = cls(twin, before)
        twin.subscribe(made._on_event)
        return made

    def _on_event(self, entry: Entry) -> None:
        key = key_of(entry.object)
        if key.kind not in CHILDREN:
            return
        if entry.type == "DELETED":
            self._gone.add(key)
            self._last.setdefault(key, entry.object)
        else:
            self._gone.discard(key)
            self._last[key] = entry.object

    def order(self, obj: Object) -> int:
        """Return the position of an object in the order of creation; -1 for one that existed before."""
        keys = list(self._last)
        key = key_of(obj)
        return keys.index(key) if key in self._last and key not in self.before else -1

    def changes(self) -> list[Change]:
        found = [self._change(key, last) for key, last in self._last.items()]
        return [change for change in found if change is not None]

    def _change(self, key: Key, last: Object) -> Change | None:
        before, gone = self.before.get(key), key in self._gone
        if before is None:
            return Change("create", key, None, last, temporary=gone)
        if gone:
            return Change("delete", key, before, None)
        change = Change("change", key, before, last)
        return change if change.differences else None


def manifest_of(obj: Object) -> Object:
    """Return the object as a manifest: without the fields that the API server writes."""
    meta = {name: value for name, value in obj["metadata"].items() if name not in _SERVER_FIELDS}
    body = {name: value for name, value in obj.items() if name not in ("apiVersion", "kind", "metadata", "status")}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": meta, **body}


def _differences(before: Any, after: Any, path: str = "") -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in [*before, *(name for name in after if name not in before)]:
            below = f"{path}.{name}".lstrip(".")
            yield from _differences(before.get(name), after.get(name), below)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _differences(one, other, f"{path}[{index}]")
    elif before != after:
        yield Difference(path, before, after)
