"""The observation that every planner gets with its resource: a view of the cluster, the time, and refusals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol, Self

from slipway.api.kinds import Key, Kind, Object, key_of
from slipway.plan.plan import Refusal, Settings


class ClusterView(Protocol):
    """The objects of the cluster at one time. Callers must not change returned objects."""

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Return one object of any owner; namespace is "" for cluster-scoped kinds."""
        ...

    def owned(self, kind: Kind, namespace: str, uid: str) -> Sequence[Object]:
        """Return the objects of a namespace whose controller has this UID, sorted by name.

        Use `jobs.pods.pods_of` for the reports of pods: any user may write an ownerReference.
        """
        ...

    def select(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> Sequence[Object]:
        """Return the objects of a namespace ("" for cluster-scoped kinds) that have all the labels, sorted by name.

        With REVISION_LABEL it uses an index. Otherwise it may read every object of the kind: use it for kinds with few
        objects (plugins), or after an error.
        """
        ...


class Snapshot:
    """A ClusterView of given objects, for dry runs and tests."""

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
    """Return the UID of the object's controller, None without one."""
    for owner in obj["metadata"].get("ownerReferences", ()):
        if owner.get("controller"):
            return str(owner["uid"])
    return None


Measurements = Mapping[str, float]
"""Metrics of pods by name. Nothing collects them yet; a rollout that depends on metrics will."""


@dataclass(frozen=True, slots=True)
class Observation:
    """The input of a planner at one time.

    view: the cluster. now: aware. refusals: the refused writes of earlier plans. measurements: metrics of the pods of
    the resource.
    """

    view: ClusterView
    settings: Settings
    now: datetime
    refusals: Sequence[Refusal] = ()
    measurements: Measurements = field(default_factory=dict)

    def at(self, now: datetime) -> Self:
        """Return the same observation at another time."""
        return replace(self, now=now)
