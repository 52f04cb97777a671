"""The plan: the writes that lead from the present state to the desired one, and the time of the next plan.

A planner is `plan_<kind>(obj, observation) -> Plan`: it is pure and total, and its plan is empty if nothing is to do.
The executor (reconcile/) carries a plan out in this order: apply, create, delete, status, events. A crash between any
two of them is harmless, because
- an earlier round has recorded each created object in the status, as an intent;
- each round decides again what to apply or delete, from the present state;
- events follow a written status, so each transition has at most one Event.

A write that the API server refuses stops only the rest of its own part of the plan: the other parts are carried out,
and the planner gets the refusal before the status is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, NamedTuple, Self

from slipway.api.kinds import Key, Object, key_of


@dataclass(frozen=True, slots=True)
class Deletion:
    """An object to delete in the background; uid and resource_version are preconditions."""

    key: Key
    uid: str
    resource_version: str


STATUS = "patch the status of"
"""The verb of a Refusal of the owner's own status; the others are create, apply and delete."""


class Refusal(NamedTuple):
    """A write of an earlier round that the API server refused.

    verb: create, apply, delete or STATUS. message: the API server's message. since: time of the first refusal.
    transient: the API server was unavailable or failed (5xx, 429, no answer); the object may be valid.
    """

    verb: str
    key: Key
    message: str
    since: datetime
    transient: bool = False


@dataclass(frozen=True, slots=True)
class EventRecord:
    """A transition to report as an Event on the owner."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The writes of one round.

    status: the whole new status of the owner in wire form; None, or equal to the present one, writes nothing.
    create: posted once; AlreadyExists is no error, the next round checks the owner of the object.
    apply: server-side applied if the live object differs from the rendered one.
    wake_at: when to plan again even if nothing happens.
    gone: objects that the plan takes for deleted. No watch reports an object that lost our label, so the executor reads
    each once more before it writes anything, and drops the plan if one exists.
    parts: keys of objects whose writes belong together; all other writes form one more part.
    Within a part the order is apply, create, delete, and a refusal stops the rest of it (no Job without its
    NetworkPolicy); parts neither wait for nor stop each other.
    at_once: the status does not depend on the applied objects: both may be written at the same time if nothing is
    created or deleted.
    defect: an unexpected error of a part of the planner. The rest is planned nevertheless; the loop logs the defect and
    plans again after a back-off.
    """

    status: Object | None = None
    create: tuple[Object, ...] = ()
    apply: tuple[Object, ...] = ()
    delete: tuple[Deletion, ...] = ()
    events: tuple[EventRecord, ...] = ()
    wake_at: datetime | None = None
    gone: tuple[Key, ...] = ()
    parts: tuple[frozenset[Key], ...] = ()
    at_once: bool = False
    defect: Exception | None = None

    def as_own_part(self) -> Self:
        """Return the same plan with its writes of children as a separate part."""
        written = [*(key_of(obj) for obj in (*self.apply, *self.create)), *(one.key for one in self.delete)]
        return replace(self, parts=(*self.parts, frozenset(written))) if written else self

    def plus(self, other: Plan) -> Self:
        """Return a plan with the writes of both, the status of the other if it has one, and the earlier wake_at."""
        return replace(
            self,
            status=self.status if other.status is None else other.status,
            create=self.create + other.create,
            apply=self.apply + other.apply,
            delete=self.delete + other.delete,
            events=self.events + other.events,
            wake_at=earliest((self.wake_at, other.wake_at)),
            gone=self.gone + other.gone,
            parts=self.parts + other.parts,
            at_once=self.at_once or other.at_once,
            defect=self.defect or other.defect,
        )


def earliest(moments: Iterable[datetime | None]) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the operator that planners need."""

    runtime_image: str
    """Image of training without an own image, of steps, and of every task whose result decides something."""
    serving_image: str
    """Image with tritonserver and Python (onnxruntime and numpy) for the python backend."""
    image_pull_policy: str = "IfNotPresent"
    image_mirrors: tuple[str, ...] = ()
    """Registries that an admission webhook may prefix to the image names of our pods."""
    isolated: bool = True
    """True if a pod can read only what it mounts of a claim. False for processes of one user on one machine."""
