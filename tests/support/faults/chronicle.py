"""What a cluster went through, by every change of its objects: which Jobs were ever made, and what statuses said.

It holds each change to laws that no fault excuses, and tells which Jobs ran whatever became of them since.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import NamedTuple

from slipway.api.kinds import GROUP, RECONCILED, STEP, Object, kind_of
from slipway.plan.observation import controller_uid
from slipway.plan.owner import Owner
from slipway.plan.steps.request import SHARE_LABEL, job_prefix
from slipway.plan.tasks import job_name
from support.faults.world import role_of

_OURS = f"{GROUP}/"


class Made(NamedTuple):
    """A Job that was made once. parent: UID."""

    name: str
    role: str
    owner: str


class Chronicle:
    """Give it every object as it is after each change, in order."""

    def __init__(self) -> None:
        self.jobs: dict[str, Made] = {}
        """By UID."""
        self.parents: dict[str, Object] = {}
        """Every object of a reconciled kind that ever was, by UID, oldest first, as it was last seen."""
        self.broken: list[str] = []
        """Laws that were broken."""
        self.changes = 0
        self._entries: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
        self._ended: dict[tuple[str, ...], Object] = {}
        self._deleted: set[str] = set()

    def fork(self) -> Chronicle:
        """The same past, for another future."""
        other = Chronicle()
        other.jobs, other.parents, other.broken = dict(self.jobs), dict(self.parents), list(self.broken)
        other._entries.update((name, set(uids)) for name, uids in self._entries.items())
        other._ended, other._deleted = dict(self._ended), set(self._deleted)
        return other

    def seen(self, obj: Object) -> None:
        self.changes += 1
        if obj["kind"] == "Job":
            self._job(obj)
        elif obj["apiVersion"].startswith(_OURS) and kind_of(obj) in RECONCILED:
            self._status(self.parents.get(obj["metadata"]["uid"]), obj)
            self.parents[obj["metadata"]["uid"]] = obj

    def ran(self) -> Counter[tuple[str, str]]:
        """How many Jobs each role of each parent had, by `kind/name` of the parent; whoever made them.

        Work that Steps share is counted by its digest, and once: whose Step does it is chance, and twice does no harm.
        """
        own = Counter(
            (self._named(made.owner), made.role) for made in self.jobs.values() if not self.is_shared(made.owner)
        )
        shared = {
            self.parents[made.owner]["spec"]["digest"] for made in self.jobs.values() if self.is_shared(made.owner)
        }
        return own + Counter(("shared", digest) for digest in shared)

    def is_shared(self, uid: str | None) -> bool:
        """Whether a parent is a Step whose result others may take over."""
        return uid in self.parents and is_shared(self.parents[uid])

    def verdict(self) -> list[str]:
        """All that speaks against the operator."""
        said = list(self.broken)
        for entry, uids in self._entries.items():
            if len(uids) > 1:
                said.append(f"{' '.join(entry[1:])} was carried out by {len(uids)} Jobs")
        entries = Counter(uid for uids in self._entries.values() for uid in uids)
        for uid, made in self.jobs.items():
            if made.role == "recover":
                continue
            if entries[uid] > 1 or (entries[uid] == 0 and not self._given_up(uid, made)):
                said.append(f"Job {made.name} ({made.role}) stands in {entries[uid]} ledger entries")
        return said

    def gone(self, uid: str) -> None:
        """That object is deleted: what its status can no longer say is not asked for."""
        self._deleted.add(uid)
        if uid in self.parents:
            self.parents[uid] = {**self.parents[uid], "gone": True}

    def _given_up(self, uid: str, made: Made) -> bool:
        """It was written down, and ended with its record before its UID could be: nobody wants it any more."""
        owner = self.parents.get(made.owner, {"gone": True})
        if "gone" in owner:
            return True
        return uid in self._deleted and made.name not in {one["job"] for one in _records(owner)}

    # --- Inside -------------------------------------------------------------------------------------------------

    def _named(self, uid: str) -> str:
        owner = self.parents.get(uid)
        if owner is not None and owner["kind"] == STEP.kind:
            return "/".join(Owner.of(owner).controller or ("nobody", ""))
        return f"{owner['kind']}/{owner['metadata']['name']}" if owner else "nobody"

    def _job(self, job: Object) -> None:
        uid = job["metadata"]["uid"]
        if uid in self.jobs:
            return
        made = Made(job["metadata"]["name"], role_of(job), controller_uid(job) or "")
        self.jobs[uid] = made
        owner = self.parents.get(made.owner)
        if owner is None or "gone" in owner:
            self.broken.append(f"Job {made.name} was made for nobody")
        elif made.name not in _intents(owner):
            self.broken.append(f"Job {made.name} was made before it was written down")

    def _status(self, before: Object | None, obj: Object) -> None:
        status, owner = obj.get("status", {}), obj["metadata"]["uid"]
        for attempt in status.get("attempts", ()):
            self._entry((owner, "attempt", str(attempt["number"])), attempt, "outcome")
        if obj["kind"] == STEP.kind and (run := status.get("run")) is not None and "sharedFrom" not in status:
            self._entry((owner, "step", obj["spec"]["role"], str(run["tries"])), run, "endedAt")
        if before is not None:
            self._conditions(before, obj)

    def _entry(self, name: tuple[str, ...], record: Object, ended: str) -> None:
        if uid := record.get("jobUID"):
            self._entries[name].add(uid)
        if record.get(ended):
            first = self._ended.setdefault(name, record)
            if first != record:
                self.broken.append(f"{' '.join(name[1:])} had ended as {first}, and was changed to {record}")

    def _conditions(self, before: Object, obj: Object) -> None:
        """lastTransitionTime moves exactly when the status flips."""
        was = {one["type"]: one for one in before.get("status", {}).get("conditions", ())}
        for one in obj.get("status", {}).get("conditions", ()):
            old = was.get(one["type"])
            if old is None or old["status"] != one["status"] or old["lastTransitionTime"] == one["lastTransitionTime"]:
                continue
            self.broken.append(f"condition {one['type']} stayed {one['status']} and its lastTransitionTime moved")


def is_shared(obj: Object) -> bool:
    return obj["kind"] == STEP.kind and SHARE_LABEL in obj["metadata"].get("labels", {})


def _records(owner: Object) -> list[Object]:
    """Of the Jobs of a resource: its attempts, or the run of a Step, whose first one is intended by the Step itself."""
    status = owner.get("status", {})
    if owner["kind"] != STEP.kind:
        return [*status.get("attempts", ())]
    first = {"job": job_name(job_prefix(Owner.of(owner)), 1), "tries": 1}
    return [status.get("run", first)]


def _intents(owner: Object) -> set[str]:
    """Names of the Jobs that a status allows to be made: recorded, and not known to have been made."""
    records = _records(owner)
    names = {one["job"] for one in records if not one.get("jobUID") and not one.get("outcome")}
    return names | {f"{one['job']}-q{one['recoveries']}" for one in records if one.get("recoveries")}
