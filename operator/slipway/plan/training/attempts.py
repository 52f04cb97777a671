"""The history of attempts: how one is opened, ended, named and described, and which Jobs outlive it.

Jobs stay for `kubectl logs`: that of the newest attempt, and that of the newest that failed, whose log shows why. They
are deleted when the TTL of the TrainingJob is over, or with it, and so are the Service and the NetworkPolicy of all
attempts. The outcome of an attempt is recorded before anything of it is deleted, so a deletion never hides an end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from slipway.api.kinds import JOB, NETWORK_POLICY, SERVICE, STEP, Object
from slipway.api.status import Failure
from slipway.api.trainingjob import Attempt, AttemptOutcome, TrainingJobStatus
from slipway.plan.jobs.outcomes import describe_failure, lingers
from slipway.plan.jobs.retry import cause_of
from slipway.plan.observation import ClusterView
from slipway.plan.owner import REPLACEMENT_LABEL, Owner, deletion
from slipway.plan.plan import Deletion
from slipway.plan.training.retry import OUTCOMES

MAX_ATTEMPTS = 32
"""Maximum number of attempts in the status; numbers and counters continue."""


def newest(status: TrainingJobStatus) -> Attempt | None:
    return status.attempts[-1] if status.attempts else None


def with_attempt(status: TrainingJobStatus, attempt: Attempt) -> TrainingJobStatus:
    """Return the status with the attempt: a new one at the end, a known one replaced."""
    others = tuple(known for known in status.attempts if known.number != attempt.number)
    return status.model_copy(update={"attempts": (*others, attempt)[-MAX_ATTEMPTS:]})


def opened(
    owner: Owner, status: TrainingJobStatus, *, pool: str | None, nodes: int, processes: int, now: datetime
) -> TrainingJobStatus:
    """Return the status with the next attempt as an intent."""
    before = newest(status)
    number = before.number + 1 if before else 1
    attempt = Attempt(
        number=number,
        job=job_name(owner, number),
        pool=pool,
        nodes=nodes,
        processes_per_node=processes,
        started_at=now,
    )
    since = {"started_at": status.started_at or now, "pending_since": status.pending_since or now}
    return with_attempt(status, attempt).model_copy(update=since)


def ended(attempt: Attempt, outcome: AttemptOutcome, now: datetime, failure: Failure | None = None) -> Attempt:
    cleared = {"pending_reason": None, "pending_observed_at": None}
    return attempt.model_copy(update={"outcome": outcome, "ended_at": now, "failure": failure, **cleared})


def failed(attempt: Attempt, failure: Failure, now: datetime) -> Attempt:
    return ended(attempt, OUTCOMES.get(cause_of(failure), AttemptOutcome.FAILED), now, failure)


def job_name(owner: Owner, number: int) -> str:
    """Return the name of an attempt's Job, short enough for a pod's hostname, which adds an index."""
    return owner.child_name(str(number))


def replacement_name(attempt: Attempt, index: int, number: int) -> str:
    """Return the name of the Job that replaces a lost pod: `<attempt's Job>-i<index>-<generation>`."""
    return f"{attempt.job}-i{index}-{number}"


def folder(owner: Owner, number: int) -> str:
    """Return the attempt's own folder in the store."""
    return f"training/{owner.uid}/{number}"


def cause(attempt: Attempt) -> str:
    """Describe the end of an attempt: `attempt 2 failed: rank 1 (pod 1): ValueError: boom (exit code 1)`."""
    failure = attempt.failure
    if attempt.outcome in _OUTCOME_TEXTS:
        message = f": {failure.message}" if failure and failure.message else ""
        return f"attempt {attempt.number} {_OUTCOME_TEXTS[attempt.outcome]}{message}"
    if attempt.outcome is not AttemptOutcome.FAILED or failure is None:
        return f"attempt {attempt.number}: {outcome_reason(attempt)}"
    return f"attempt {attempt.number} failed: {describe_failure(failure)}"


_OUTCOME_TEXTS = {
    AttemptOutcome.PREEMPTED: "was preempted",
    AttemptOutcome.NODE_LOST: "lost a Node",
    AttemptOutcome.NOT_STARTED: "did not start",
    AttemptOutcome.INPUT_MISSING: "did not find an input",
}


def outcome_reason(attempt: Attempt) -> str:
    """Return the reason of an attempt's end as one word: Error, Preempted, OOMKilled, Lost, Suspended, ..."""
    if attempt.failure is not None:
        return attempt.failure.reason
    return str(attempt.outcome or "Open")


_STOPPED = (AttemptOutcome.SUSPENDED, AttemptOutcome.CANCELLED)
"""Outcomes of stopped attempts, whose Jobs are deleted because they may still run."""


def obsolete_jobs(owner: Owner, attempts: tuple[Attempt, ...], view: ClusterView) -> tuple[Deletion, ...]:
    """Return the deletions of Jobs that ended attempts have left. attempts: those in the status."""
    logged = {attempt.job for attempt in attempts[-1:] if attempt.outcome not in _STOPPED}
    logged |= {attempt.job for attempt in _failed(attempts)[-1:]}
    is_open = next((attempt.job for attempt in attempts[-1:] if attempt.outcome is None), None)
    jobs = [
        job
        for job in view.owned(JOB, owner.namespace, owner.uid)
        if (name := _attempts_job(owner, job))
        and (name not in logged or (lingers(job) if name != is_open else _is_replaced(job, attempts[-1])))
    ]
    return deletions(jobs)


def all_children(owner: Owner, view: ClusterView) -> tuple[Deletion, ...]:
    return deletions(
        obj for kind in (JOB, SERVICE, NETWORK_POLICY, STEP) for obj in view.owned(kind, owner.namespace, owner.uid)
    )


def deletions(objects: Iterable[Object]) -> tuple[Deletion, ...]:
    """Return the deletions of the objects that are not being deleted already."""
    return tuple(deletion(obj) for obj in objects if "deletionTimestamp" not in obj["metadata"])


def _failed(attempts: tuple[Attempt, ...]) -> list[Attempt]:
    return [attempt for attempt in attempts if attempt.outcome is AttemptOutcome.FAILED]


def _is_replaced(job: Object, attempt: Attempt) -> bool:
    """Return True for the Job of a replacement that was replaced again. attempt: the open one."""
    current = {one.job for one in attempt.replacements or ()}
    return REPLACEMENT_LABEL in job["metadata"].get("labels", {}) and job["metadata"]["name"] not in current


def _attempts_job(owner: Owner, job: Object) -> str | None:
    """Return the name of the attempt's Job that this is, whose report it reads, or whose pod it replaces.

    None for Jobs of other tasks.
    """
    found = re.fullmatch(f"({re.escape(owner.child_name(''))}\\d+)(-q\\d+|-i\\d+-\\d+)?", job["metadata"]["name"])
    return found[1] if found else None
