"""Which children of a TrainingJob have had their time.

Jobs stay for `kubectl logs`: that of the newest attempt, and that of the newest that failed, whose log says why. They
go when the TrainingJob's TTL is over, or with itself, and so do the Service and the NetworkPolicy of all attempts.
An attempt's outcome is recorded before anything of it is deleted, so a deletion never hides an end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from slipway.api.kinds import JOB, NETWORK_POLICY, SERVICE, STEP, Object
from slipway.api.trainingjob import Attempt, AttemptOutcome
from slipway.plan.jobs.outcomes import lingers
from slipway.plan.observation import ClusterView
from slipway.plan.owner import REPLACEMENT_LABEL, Owner, deletion
from slipway.plan.plan import Deletion

_STOPPED = (AttemptOutcome.SUSPENDED, AttemptOutcome.CANCELLED)
"""Outcomes of attempts that were stopped: their Jobs must go, for they may still run."""


def obsolete_jobs(owner: Owner, attempts: tuple[Attempt, ...], view: ClusterView) -> tuple[Deletion, ...]:
    """What attempts have left behind. attempts: as the status has them recorded."""
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
    """Of those that are not being deleted already."""
    return tuple(deletion(obj) for obj in objects if "deletionTimestamp" not in obj["metadata"])


def _failed(attempts: tuple[Attempt, ...]) -> list[Attempt]:
    return [attempt for attempt in attempts if attempt.outcome is AttemptOutcome.FAILED]


def _is_replaced(job: Object, attempt: Attempt) -> bool:
    """Whether this is the Job of a replacement that was lost itself. attempt: the one that is open."""
    current = {one.job for one in attempt.replacements or ()}
    return REPLACEMENT_LABEL in job["metadata"].get("labels", {}) and job["metadata"]["name"] not in current


def _attempts_job(owner: Owner, job: Object) -> str | None:
    """The name of the attempt's Job that this is, or whose report it reads, or a pod of which it replaces.

    None for Jobs of other tasks.
    """
    found = re.fullmatch(f"({re.escape(owner.child_name(''))}\\d+)(-q\\d+|-i\\d+-\\d+)?", job["metadata"]["name"])
    return found[1] if found else None
