"""What a planner answers: which writes lead from what is to what should be, and when to look again.

A planner is `plan_<kind>(parent, seen, settings, now) -> Plan`: pure, total, and silent where nothing is to be done.
The executor (reconcile/) carries a plan out in this order: apply, create, delete, status, events. A crash between any
two of them is harmless, because
- what is created was written into the status, as an intent, in an earlier round;
- what is applied or deleted is decided anew from what is seen;
- events follow a status that was written, so a transition is told at most once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Self

from slipway.api.kinds import Key, Object


@dataclass(frozen=True, slots=True)
class Deletion:
    """An object to delete in the background, only as long as it is the one that was seen."""

    key: Key
    uid: str
    resource_version: str


@dataclass(frozen=True, slots=True)
class Happening:
    """A transition worth an Event on the parent."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The writes of one round.

    status: the whole new status of the parent in wire form; None, or equal to the present one, writes nothing.
    create: posted once; AlreadyExists is no error, the next round looks whose it is.
    apply: server-side applied where what is rendered is not covered by what lives.
    wake_at: when to plan again even if nothing happens.
    gone: what the plan takes to be gone for good. No watch shows an object that lost our label, so each is looked for
    once more before anything is written, and the plan is dropped where one lives.
    """

    status: Object | None = None
    create: tuple[Object, ...] = ()
    apply: tuple[Object, ...] = ()
    delete: tuple[Deletion, ...] = ()
    events: tuple[Happening, ...] = ()
    wake_at: datetime | None = None
    gone: tuple[Key, ...] = ()

    def plus(self, other: Plan) -> Self:
        """Both plans' writes; the other's status wins where it has one, the earlier time to wake."""
        return replace(
            self,
            status=self.status if other.status is None else other.status,
            create=self.create + other.create,
            apply=self.apply + other.apply,
            delete=self.delete + other.delete,
            events=self.events + other.events,
            wake_at=earliest((self.wake_at, other.wake_at)),
            gone=self.gone + other.gone,
        )


def earliest(moments: Iterable[datetime | None]) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator was started with and planners need."""

    runtime_image: str
    """Image of training without an own image, of steps, and of everything that decides."""
    serving_image: str
    """Image with tritonserver and Python (onnxruntime and numpy) for the python backend."""
    image_pull_policy: str = "IfNotPresent"
    image_mirrors: tuple[str, ...] = ()
    """Registries that an admission webhook may put before the names of our pods' images."""
