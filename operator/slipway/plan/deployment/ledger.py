"""The task records of one round: what is wanted is followed, what nobody wants any more is ended and forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from slipway.api.artifacts import ArtifactRef, State
from slipway.api.kinds import JOB, Key
from slipway.api.modeldeployment import Revision
from slipway.api.status import TaskRecord, TaskState
from slipway.plan.deployment.standing import Stuck
from slipway.plan.parent import Parent, deletion
from slipway.plan.plan import Plan, Settings
from slipway.plan.seen import Seen
from slipway.plan.storemount import secret_of
from slipway.plan.tasks import (
    TRIED_AGAIN,
    Work,
    failed_by_store,
    follow_task,
    pods_of_record,
    starved,
    tries_of,
    will_retry,
)
from slipway.plan.trouble import PATIENCE, is_running, trouble

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
        self._stuck: dict[str, str] = {}
        self.plan = Plan()

    @property
    def records(self) -> tuple[TaskRecord, ...]:
        return tuple(self._records.values())

    @property
    def followed(self) -> tuple[str, ...]:
        """Digests of the tasks that are wanted in this round."""
        return tuple(self._followed)

    def follow(self, work: Work, label: str) -> TaskRecord:
        """Bring a task on. label: how messages call it, as `spec.compression.steps[0] (prune 1.0)`."""
        digest = work.digest
        if digest not in self._followed:
            self._followed[digest] = (work, label)
            record, plan = follow_task(
                self._parent, self._records.get(digest), work, self._seen, self._settings, self._now
            )
            self._records[digest] = record
            self.plan = self.plan.plus(plan)
            self._watch(record, work)
        return self._records[digest]

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
    def failure(self) -> str | None:
        """Why the first task that is given up failed; None where none is."""
        for digest, (work, label) in self._followed.items():
            record = self._records[digest]
            if record.state is TaskState.FAILED and not will_retry(record):
                return f"{label} failed{_why(record)}; {_cure(record, work)}"
        return None

    @property
    def running(self) -> tuple[str, ...]:
        """Labels of the tasks under way, with why their pods do not run where that has lasted."""
        return tuple(
            label + (f" ({why})" if (why := self._stuck.get(digest)) else "")
            for digest, (_, label) in self._followed.items()
            if self._records[digest].state is not TaskState.SUCCEEDED
        )

    def _watch(self, record: TaskRecord, work: Work) -> None:
        """A pod that does not get to run is told of after a while; no event comes when the while is over."""
        pods, refused = pods_of_record(self._parent, record, self._seen, self._settings)
        if record.state is not TaskState.RUNNING or record.started_at is None or any(is_running(pod) for pod in pods):
            return
        impatient_at = record.started_at + PATIENCE
        if self._now < impatient_at:
            self.plan = self.plan.plus(Plan(wake_at=impatient_at))
        else:
            self._stuck[record.digest] = trouble(pods, 1, secret_of(work.store.spec), refused)


def _why(record: TaskRecord) -> str:
    failure = record.failure
    if failure is None:
        return ""
    what = ": ".join(part for part in (failure.exception or failure.reason, failure.message) if part)
    exit_code = f" (exit code {failure.exit_code})" if failure.exit_code not in (None, 0, 1) else ""
    return f": {what}{exit_code}"


def _cure(record: TaskRecord, work: Work) -> str:
    if starved(record) and work.resources_field is not None:
        return f"raise {work.resources_field}.memory above {work.memory}"
    if failed_by_store(record):
        return TRIED_AGAIN
    return f"see the logs of job/{record.job}"


def pruned(
    parent: Parent, records: Sequence[TaskRecord], revisions: Iterable[Revision], first: str | None, seen: Seen
) -> tuple[tuple[TaskRecord, ...], Plan]:
    """The records of the given revisions; what is left over loses its Jobs first and then its record.

    first: the revision whose records go last where there are too many.
    """
    by_need = sorted(revisions, key=lambda revision: revision.name != first)
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
            plan = plan.plus(Plan(delete=gone))
        else:  # forgotten, it could never be ended any more
            plan = plan.plus(Plan(gone=(Key(JOB, parent.namespace, record.job),)))
    staying = [record for record in records if record.digest in stays]
    return tuple([*staying, *ending][:MAX_RECORDS]), plan
