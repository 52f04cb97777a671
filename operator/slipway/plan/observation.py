"""The one argument of every planner besides its resource: a view of the cluster, the time, refusals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol, Self

from slipway.api.kinds import Key, Kind, Object, key_of
from slipway.plan.plan import Refusal, Settings


class ClusterView(Protocol):
    """The objects of one moment. Nobody may change what it returns."""

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """One object, whoever owns it; namespace is "" for cluster-scoped kinds."""
        ...

    def owned(self, kind: Kind, namespace: str, uid: str) -> Sequence[Object]:
        """The objects of a namespace whose controller has this UID, by name: no owner is of another namespace.

        What pods report is read from `jobpods.pods_of` alone: anybody may write an ownerReference.
        """
        ...

    def select(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> Sequence[Object]:
        """The objects of a namespace ("" for cluster-scoped kinds) that carry all the labels, by name.

        With REVISION_LABEL among them it looks at what carries that alone; else it may look through every object of the
        kind: for small kinds (plugins), or when something has gone wrong.
        """
        ...


class Snapshot:
    """A Seen made of given objects: for dry runs and tests."""

    def __init__(self, objects: Iterable[Object] = ()) -> None:
        self._objects: dict[Key, Object] = {key_of(obj): obj for obj in objects}

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        return self._objects.get(Key(kind, namespace if kind.namespaced else "", name))

    def owned(self, kind: Kind, namespace: str, uid: str) -> Sequence[Object]:
        return [
            obj
            for key, obj in sorted(self._objects.items(), key=lambda item: item[0][1:])
            if key.kind == kind and key.namespace == namespace and controller_uid(obj) == uid
        ]

    def select(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> Sequence[Object]:
        return [
            obj
            for key, obj in sorted(self._objects.items(), key=lambda item: item[0][1:])
            if key.kind == kind and key.namespace == namespace and carries(obj, labels)
        ]


def carries(obj: Object, labels: Mapping[str, str]) -> bool:
    present = obj["metadata"].get("labels") or {}
    return all(present.get(name) == value for name, value in labels.items())


def controller_uid(obj: Object) -> str | None:
    """UID of the object's controller, None where it has none."""
    for owner in obj["metadata"].get("ownerReferences", ()):
        if owner.get("controller"):
            return str(owner["uid"])
    return None


Measurements = Mapping[str, float]
"""Figures by name. Nothing collects any yet: a rollout that is judged by the metrics of its pods will."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One moment, as a planner is told of it.

    seen: the cluster. now: aware. refusals: what the API server did not take of the plan before. measurements: of the
    pods of the resource.
    """

    view: ClusterView
    settings: Settings
    now: datetime
    refusals: Sequence[Refusal] = ()
    measurements: Measurements = field(default_factory=dict)

    def at(self, now: datetime) -> Self:
        """The same, at another time."""
        return replace(self, now=now)
