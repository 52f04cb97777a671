"""What a planner answers: which writes lead from what is to what should be, and when to look again.

A planner is `plan_<kind>(parent, observation) -> Plan`: pure, total, and silent where nothing is to
be done. The executor (reconcile/) carries a plan out in this order: apply, create, delete, status, events. A crash
between any two of them is harmless, because
- what is created was written into the status, as an intent, in an earlier round;
- what is applied or deleted is decided anew from what is seen;
- events follow a status that was written, so a transition is told at most once.

A write that the API server refuses stops the rest of its own part of the plan and nothing else: the other parts are
carried out, and the planner hears of the refusal before the status is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, NamedTuple, Self

from slipway.api.kinds import Key, Object, key_of


@dataclass(frozen=True, slots=True)
class Deletion:
    """An object to delete in the background, only as long as it is the one that was seen."""

    key: Key
    uid: str
    resource_version: str


STATUS = "patch the status of"
"""The verb of a Refusal of the parent's own status; the others are create, apply and delete."""


class Refusal(NamedTuple):
    """A write of an earlier round that the API server did not take, as the planner is told of it.

    verb: create, apply, delete or STATUS. message: the API server's words. since: when it was first refused.
    passing: the API server was away or failed (5xx, 429, no answer), which says nothing about the object.
    """

    verb: str
    key: Key
    message: str
    since: datetime
    transient: bool = False


@dataclass(frozen=True, slots=True)
class EventRecord:
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
    parts: keys of objects whose writes belong together and to nothing else; all other writes are one part as well.
    Within a part the order is apply, create, delete, and a refusal stops the rest of it (no Job without its
    NetworkPolicy); parts neither wait for nor stop each other.
    at_once: the status says nothing of what is applied, which only prepares what it intends: both may be written at the
    same time, where nothing is created or deleted.
    defect: what a part of the planner raised that should never raise. The rest is planned all the same; the loop logs
    the defect and plans again after a back-off.
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
        """The same plan, whose writes of children are a part of their own in every plan that it is added to."""
        written = [*(key_of(obj) for obj in (*self.apply, *self.create)), *(one.key for one in self.delete)]
        return replace(self, parts=(*self.parts, frozenset(written))) if written else self

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
            parts=self.parts + other.parts,
            at_once=self.at_once or other.at_once,
            defect=self.defect or other.defect,
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
    isolated: bool = True
    """Whether a pod reads of a claim only what it mounts. False for processes of one user on one machine."""
