"""What a cluster went through, by every change of its objects: which Jobs were ever made, and what statuses found.

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


class MadeJob(NamedTuple):
    """A Job that was made once. owner: UID."""

    name: str
    role: str
    owner: str


class ChangeHistory:
    """Records every object as it is after each change, in order."""

    def __init__(self) -> None:
        self.jobs: dict[str, MadeJob] = {}
        """By UID."""
        self.owners: dict[str, Object] = {}
        """Every object of a reconciled kind that ever was, by UID, oldest first, as it was last seen."""
        self.broken: list[str] = []
        """Messages on rules that were broken."""
        self.changes = 0
        self._entries: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
        self._ended: dict[tuple[str, ...], Object] = {}
        self._deleted: set[str] = set()

    def fork(self) -> ChangeHistory:
        """The same past, for another future."""
        other = ChangeHistory()
        other.jobs, other.owners, other.broken = dict(self.jobs), dict(self.owners), list(self.broken)
        other._entries.update((name, set(uids)) for name, uids in self._entries.items())
        other._ended, other._deleted = dict(self._ended), set(self._deleted)
        return other

    def record_change(self, obj: Object) -> None:
        self.changes += 1
        if obj["kind"] == "Job":
            self._job(obj)
        elif obj["apiVersion"].startswith(_OURS) and kind_of(obj) in RECONCILED:
            self._status(self.owners.get(obj["metadata"]["uid"]), obj)
            self.owners[obj["metadata"]["uid"]] = obj

    def job_counts(self) -> Counter[tuple[str, str]]:
        """Count the Jobs by role and by `kind/name` of the owner, whoever made them.

        Work that Steps share is counted by its digest, and once: chance decides whose Step
        does it, and twice does no harm.
        """
        own = Counter(
            (self._named(made.owner), made.role) for made in self.jobs.values() if not self.is_shared(made.owner)
        )
        shared = {
            self.owners[made.owner]["spec"]["digest"] for made in self.jobs.values() if self.is_shared(made.owner)
        }
        return own + Counter(("shared", digest) for digest in shared)

    def is_shared(self, uid: str | None) -> bool:
        """Return True if an owner is a Step whose result others may take over."""
        return uid in self.owners and is_shared(self.owners[uid])

    def violations(self) -> list[str]:
        """Return all broken rules."""
        found = list(self.broken)
        for entry, uids in self._entries.items():
            if len(uids) > 1:
                found.append(f"{' '.join(entry[1:])} was carried out by {len(uids)} Jobs")
        entries = Counter(uid for uids in self._entries.values() for uid in uids)
        for uid, made in self.jobs.items():
            if made.role == "recover":
                continue
            if entries[uid] > 1 or (entries[uid] == 0 and not self._given_up(uid, made)):
                found.append(f"Job {made.name} ({made.role}) is named by {entries[uid]} status entries")
        return found

    def record_deletion(self, uid: str) -> None:
        """Record a deletion: nothing is expected of the status of that object from now on."""
        self._deleted.add(uid)
        if uid in self.owners:
            self.owners[uid] = {**self.owners[uid], "gone": True}

    def _given_up(self, uid: str, made: MadeJob) -> bool:
        """It was written down, and ended with its record before its UID could be: nobody wants it any more."""
        owner = self.owners.get(made.owner, {"gone": True})
        if "gone" in owner:
            return True
        return uid in self._deleted and made.name not in {one["job"] for one in _records(owner)}

    # --- Inside -------------------------------------------------------------------------------------------------

    def _named(self, uid: str) -> str:
        owner = self.owners.get(uid)
        if owner is not None and owner["kind"] == STEP.kind:
            return "/".join(Owner.of(owner).controller or ("nobody", ""))
        return f"{owner['kind']}/{owner['metadata']['name']}" if owner else "nobody"

    def _job(self, job: Object) -> None:
        uid = job["metadata"]["uid"]
        if uid in self.jobs:
            return
        made = MadeJob(job["metadata"]["name"], role_of(job), controller_uid(job) or "")
        self.jobs[uid] = made
        owner = self.owners.get(made.owner)
        if owner is None or "gone" in owner:
            self.broken.append(f"Job {made.name} was made for nobody")
        elif made.name not in _intents(owner):
            self.broken.append(f"Job {made.name} was made before it was written down")

    def _status(self, before: Object | None, obj: Object) -> None:
        status, owner = obj.get("status", {}), obj["metadata"]["uid"]
        for attempt in status.get("attempts", ()):
            number = str(attempt["number"])
            self._entry((owner, "attempt", number), attempt, "outcome")
            for one in attempt.get("replacements", ()):
                name = (owner, "attempt", number, "pod", str(one["index"]), "generation", str(one["number"]))
                self._entry(name, one, "endedAt")
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
    """Return the records of the Jobs of a resource: attempts, or the run of a Step, which itself intends its first."""
    status = owner.get("status", {})
    if owner["kind"] != STEP.kind:
        attempts = status.get("attempts", ())
        replacements = [one for attempt in attempts[-1:] for one in attempt.get("replacements", ())]
        return [*attempts, *(replacements if attempts and not attempts[-1].get("outcome") else ())]
    first = {"job": job_name(job_prefix(Owner.of(owner)), 1), "tries": 1}
    return [status.get("run", first)]


def _intents(owner: Object) -> set[str]:
    """Names of the Jobs that a status allows to be made: recorded, and not known to have been made."""
    records = _records(owner)
    names = {one["job"] for one in records if not one.get("jobUID") and not one.get("outcome")}
    return names | {f"{one['job']}-q{one['recoveries']}" for one in records if one.get("recoveries")}
