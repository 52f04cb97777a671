"""The task records of one round: what is wanted is followed, what nobody wants any more is ended and forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from slipway.api.artifacts import ArtifactRef, State
from slipway.api.errors import SpecError
from slipway.api.kinds import JOB, Key, Object
from slipway.api.modeldeployment import Revision
from slipway.api.reports import shorten
from slipway.api.status import TaskRecord, TaskState
from slipway.plan.deployment.standing import Stuck
from slipway.plan.egress import keep_policy
from slipway.plan.parent import Parent, deletion
from slipway.plan.plan import Plan, Settings
from slipway.plan.seen import Seen
from slipway.plan.storemount import secret_of
from slipway.plan.tasks import (
    RETRY_AFTER,
    TRIED_AGAIN,
    Work,
    follow_task,
    lacks_input,
    may_be_remade,
    missing_inputs,
    remade,
    starved,
    tried_again,
    tries_of,
    why_waiting,
    will_retry,
)

MAX_RECORDS = 64
"""As in the schema of status.tasks."""


class Ledger:
    """Gathers, over one round, the records as they become and the writes that follow from them.

    What is followed twice (one digest under two roles) is one task.
    """

    def __init__(
        self, parent: Parent, records: Sequence[TaskRecord], seen: Seen, settings: Settings, now: datetime
    ) -> None:
        self._parent, self._seen, self._settings, self._now = parent, seen, settings, now
        self._records = {record.digest: record for record in records}
        self._followed: dict[str, tuple[Work, str]] = {}
        self._waits: dict[str, str] = {}
        self._remaking: set[str] = set()
        self._lost: dict[str, datetime] = {}
        self.conflicts: list[SpecError] = []
        """What stands under the names of the Jobs; the other tasks go on."""
        self.plan = Plan()
        self._policy = Plan()

    @property
    def records(self) -> tuple[TaskRecord, ...]:
        return tuple(self._records.values())

    @property
    def followed(self) -> tuple[str, ...]:
        """Digests of the tasks that are wanted in this round."""
        return tuple(self._followed)

    def lost(self, digest: str, at: datetime) -> None:
        """Have an artifact made again that was not in the store at that time."""
        self._lost[digest] = at

    def follow(self, work: Work, label: str) -> TaskRecord:
        """Bring a task on. label: how messages call it, as `spec.compression.steps[0] (prune 1.0)`."""
        digest = work.digest
        if digest not in self._followed:
            self._followed[digest] = (work, label)
            before = self._records.get(digest)
            try:
                record, plan = follow_task(self._parent, before, work, self._seen, self._settings, self._now)
            except SpecError as error:
                if before is None:
                    raise
                self.conflicts.append(error)
                return before
            if self._is_lost(record):
                record, plan = remade(self._parent, record, work, self._now), Plan()
            self._records[digest] = record
            self.plan = self.plan.plus(plan.apart())
            self._keep_policy(record, work)
            self._find_conflict(record)
            if lacks_input(record):
                self._remake_inputs(record, work)
            why, wake_at = why_waiting(
                self._parent, record, self._seen, self._settings, self._now, secret_of(work.store.spec)
            )
            self.plan = self.plan.plus(Plan(wake_at=wake_at))
            if why is not None:
                self._waits[digest] = why
        return self._records[digest]

    def _is_lost(self, record: TaskRecord) -> bool:
        if record.state is not TaskState.SUCCEEDED or record.artifact is None or record.ended_at is None:
            return False
        at = self._lost.get(record.artifact.digest)
        return at is not None and at > record.ended_at and may_be_remade(record, self._now)

    def _keep_policy(self, record: TaskRecord, work: Work) -> None:
        """Once a round, and as long as any task is under way whose pods it selects."""
        under_way = record.state in (TaskState.INTENDED, TaskState.RUNNING) and work.held_out is None
        if under_way and not self._policy.apply:
            self._policy = keep_policy(self._parent, work.store.spec, self._seen)
            self.plan = self.plan.plus(self._policy)

    def artifact(self, work: Work, label: str, state: State) -> ArtifactRef | None:
        """What the task makes; None while it is not done. Raises Stuck for a result of another state."""
        record = self.follow(work, label)
        if record.state is not TaskState.SUCCEEDED:
            return None
        if record.artifact is None or record.artifact.state is not state:
            left = f"a result of state {record.artifact.state}" if record.artifact else "no result"
            raise Stuck("StepFailed", f"{label} left {left}, where {state} was due; see the logs of job/{record.job}")
        return record.artifact

    @property
    def moved_image(self) -> str | None:
        """What to say where one name of an image stood for two contents while the tasks ran; None where none did.

        Their results go together: what compares two models must have evaluated both by the same bits.
        """
        ran: dict[str, tuple[str, str]] = {}
        for digest, (work, label) in self._followed.items():
            found = self._records[digest].image_id
            if found is None:
                continue
            first, by = ran.setdefault(work.image, (found, label))
            if first != found:
                return (
                    f"image {work.image} was {shorten(first, 160)} for the {by} and {shorten(found, 160)} for the"
                    f" {label}: its tag was moved; name it by digest (image.digests of the chart, or spec.image of the"
                    " CompressionPlugin)"
                )
        return None

    @property
    def failure(self) -> str | None:
        """Why the first task that is given up failed; None where none is."""
        for digest, (work, label) in self._followed.items():
            record = self._records[digest]
            if record.state is TaskState.FAILED and not will_retry(record) and digest not in self._remaking:
                return f"{label} failed{_why(record)}; {_cure(record, work)}"
        return None

    @property
    def running(self) -> tuple[str, ...]:
        """Labels of the tasks under way, with why their pods do not run where that has lasted."""
        return tuple(
            label + (f" ({why})" if (why := self._waits.get(digest)) else "")
            for digest, (_, label) in self._followed.items()
            if self._records[digest].state is not TaskState.SUCCEEDED
        )

    def _find_conflict(self, record: TaskRecord) -> None:
        """A Job that lost its ownerReference is followed to its end all the same."""
        live = self._seen.get(JOB, self._parent.namespace, record.job)
        if record.state is TaskState.RUNNING and live is not None and live["metadata"]["uid"] == record.job_uid:
            conflict = self._parent.conflict(self._seen, JOB, record.job)
            self.conflicts += [conflict] if conflict else []

    def _remake_inputs(self, record: TaskRecord, work: Work) -> None:
        """Run the tasks again whose artifacts this one did not find; theirs may be missing in turn, and so follow.

        What is not made by a task of ours (a model, stored data) is only told of.
        """
        lost = missing_inputs(record, work)
        makers = [
            (digest, maker)
            for digest, (maker, _) in self._followed.items()
            if (made := self._records[digest]).artifact is not None
            and made.artifact.digest in lost
            and may_be_remade(made, self._now)
        ]
        due_at = (record.ended_at or self._now) + RETRY_AFTER
        if not makers:
            return
        self._remaking.add(record.digest)
        if self._now < due_at:
            self._waits[record.digest] = f"{_words(record)}; what made it runs again at {due_at:%H:%M:%S} UTC"
            self.plan = self.plan.plus(Plan(wake_at=due_at))
            return
        for digest, maker in makers:
            self._records[digest] = remade(self._parent, self._records[digest], maker, self._now)


def _why(record: TaskRecord) -> str:
    failure = record.failure
    if failure is None:
        return ""
    exit_code = f" (exit code {failure.exit_code})" if failure.exit_code not in (None, 0, 1) else ""
    return f": {_words(record)}{exit_code}"


def _words(record: TaskRecord) -> str:
    failure = record.failure
    parts = (failure.exception or failure.reason, failure.message) if failure else ()
    return ": ".join(part for part in parts if part)


def _cure(record: TaskRecord, work: Work) -> str:
    if starved(record) and work.resources_field is not None:
        return f"raise {work.resources_field}.memory above {work.memory}"
    if lacks_input(record):
        return f"put it back into the store; {TRIED_AGAIN}"
    if tried_again(record):
        return TRIED_AGAIN
    return f"see the logs of job/{record.job}"


def pruned(
    parent: Parent,
    records: Sequence[TaskRecord],
    revisions: Iterable[Revision],
    needed: tuple[str | None, ...],
    seen: Seen,
) -> tuple[tuple[TaskRecord, ...], Plan]:
    """The records of the given revisions; what is left over loses its Jobs first and then its record.

    needed: the revisions whose records are the last to go where there are too many, the most needed first.
    """
    order = {name: at for at, name in reversed(list(enumerate(needed)))}
    by_need = sorted(revisions, key=lambda revision: order.get(revision.name, len(needed)))
    wanted = [digest for revision in by_need for digest in revision.tasks]
    stays = set(list(dict.fromkeys(wanted))[:MAX_RECORDS])
    jobs = (
        seen.owned(JOB, parent.namespace, parent.uid) if any(record.digest not in stays for record in records) else ()
    )
    plan, ending = Plan(), []
    for record in records:
        if record.digest in stays:
            continue
        live = tries_of(parent, record.digest, jobs)
        if live:
            ending.append(record)
            gone = tuple(deletion(job) for job in live if "deletionTimestamp" not in job["metadata"])
            plan = plan.plus(Plan(delete=gone).apart())
        else:  # forgotten, it could never be ended any more
            plan = plan.plus(Plan(gone=(Key(JOB, parent.namespace, record.job),)))
    staying = [record for record in records if record.digest in stays]
    # Where there is no room, what is being deleted already goes by itself; the others would be forgotten.
    going = {record.digest for record in ending if _all_going(tries_of(parent, record.digest, jobs))}
    ending.sort(key=lambda record: record.digest in going)
    return tuple([*staying, *ending][:MAX_RECORDS]), plan


def _all_going(jobs: Iterable[Object]) -> bool:
    return all("deletionTimestamp" in job["metadata"] for job in jobs)
