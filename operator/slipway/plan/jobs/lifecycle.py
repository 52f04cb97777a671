"""The state machine of a Job, from the record of the intent to the end.

The record comes first: a crash between any two writes leaves a record without a Job, which is then created, or a Job
whose UID is not recorded yet, which is then identified by its name, its owner and its workload.

recorded                 observed                                         phase
no UID                   no Job of this name                              INTENDED
its UID                  the Job has not ended                            RUNNING
its UID                  it has ended; the watch of pods may lag          LAGGING
its UID                  it has ended or is gone, and so are its pods     UNREPORTED
its UID                  it has ended, or none of its pods can end        ENDED
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Generic, TypeVar

from slipway.api.artifacts import URI_PREFIX
from slipway.api.errors import ContractError
from slipway.api.kinds import JOB, Key, Object
from slipway.api.reports import Report
from slipway.api.status import Failure, JobRecord
from slipway.plan.jobs.outcomes import (
    NO_REPLACEMENTS,
    STUCK_AFTER,
    JobEnd,
    Replaced,
    conditions_of,
    failed_end,
    failed_index,
    failure_of_report,
    has_ended,
    is_consequence,
    job_end,
    lingers,
    remaining,
    stuck_at,
    success_report,
    wait_for_pods_until,
)
from slipway.plan.jobs.pending import lost_after, lost_pod, never_runs
from slipway.plan.jobs.pods import JobPods, index_of, own_job, pods_of
from slipway.plan.jobs.retry import NODE_LOST, UNKNOWN, Cause, cause_of
from slipway.plan.observation import Observation
from slipway.plan.owner import Owner
from slipway.plan.plan import Plan, earliest
from slipway.plan.taskinput import is_inside

Record = TypeVar("Record", bound=JobRecord)


class JobPhase(Enum):
    """The phase of a Job, derived as in the table above."""

    INTENDED = auto()
    RUNNING = auto()
    LAGGING = auto()
    UNREPORTED = auto()
    ENDED = auto()


@dataclass(frozen=True, slots=True)
class Observed(Generic[Record]):
    """The present state of a Job.

    record: with the UID, once there is one. pods: none if the Job is gone. end: set if it has ended, perhaps also for
    an UNREPORTED one. plan: the next writes, and when to check again. pending: why its report is not recovered yet.
    """

    phase: JobPhase
    record: Record
    job: Object | None = None
    pods: JobPods = field(default_factory=lambda: JobPods((), ()))
    end: JobEnd | None = None
    plan: Plan = field(default_factory=Plan)
    pending: str | None = None


def observe_job(
    owner: Owner,
    record: Record,
    render: Callable[[], Object],
    observation: Observation,
    *,
    reports: bool = True,
    replaced: Replaced = NO_REPLACEMENTS,
) -> Observed[Record]:
    """Derive the phase of a Job. Raises SpecError if another object has its name, and any error of `render`.

    render: returns the desired Job; called only before the UID is recorded. reports: False for a user's image, whose
    pods write no report. replaced: the replacements of its lost pods, which do not count any more.
    """
    now = observation.now
    live = owner.own(observation.view, JOB, record.job, record.job_uid)
    if record.job_uid is None:
        if live is None:
            return Observed(JobPhase.INTENDED, record)
        own_job(owner, live, render(), observation.settings)
        record = record.model_copy(update={"job_uid": live["metadata"]["uid"]})
    if live is None:
        return Observed(JobPhase.UNREPORTED, record, plan=Plan(gone=(Key(JOB, owner.namespace, record.job),)))
    if live["metadata"]["uid"] != record.job_uid:
        return Observed(JobPhase.UNREPORTED, record)
    trusted, refused = pods_of(live, observation)
    trusted = [*(pod for pod in trusted if index_of(pod) not in replaced.indices), *replaced.pods]
    pods = JobPods(remaining(live, trusted, now), refused)
    end = _end(live, pods.trusted, now, replaced)
    if end is None:
        cut_short = _cut_short(live, pods.trusted, now, replaced, record.failure)
        if cut_short is not None:
            return Observed(JobPhase.ENDED, record, live, pods, cut_short)
        return Observed(JobPhase.RUNNING, record, live, pods, plan=Plan(wake_at=_next_check(live, pods.trusted, now)))
    if (observed_at := wait_for_pods_until(live, pods.trusted, now)) is not None:
        return Observed(JobPhase.LAGGING, record, live, pods, end, Plan(wake_at=observed_at))
    phase = (
        JobPhase.UNREPORTED if reports and not _is_complete(end, live, pods.trusted, record.failure) else JobPhase.ENDED
    )
    return Observed(phase, record, live, pods, end)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a Job. report: that of a success, None without one; failure: set for a failed Job."""

    report: Report | None = None
    failure: Failure | None = None


def result_of(end: JobEnd, folder: str, *, reports: bool = True) -> Result:
    """Return the result of an ended Job. An artifact outside its folder is a failure: the next pod would mount it."""
    report = end.report if reports else None
    if end.succeeded and (stray := _misplaced(report, folder)) is not None:
        return Result(failure=stray)
    if end.succeeded and not reports:
        return Result()
    if end.succeeded and report is not None and report.outcome == "succeeded":
        return Result(report)
    if report is not None and report.outcome == "failed":
        return Result(failure=failure_of_report(report, 0))
    return Result(failure=end.failure or Failure(reason=UNKNOWN))


def _misplaced(report: Report | None, folder: str) -> Failure | None:
    artifact = report.artifact if report is not None else None
    if artifact is None or is_inside(artifact.uri, f"{URI_PREFIX}{folder}"):
        return None
    message = f"the pod reported an artifact at {artifact.uri}, outside of its own folder {URI_PREFIX}{folder}"
    return Failure(reason="Error", exception=ContractError.__name__, message=message)


def _end(job: Object, pods: Sequence[Object], now: datetime, replaced: Replaced) -> JobEnd | None:
    end = job_end(job, pods, replaced)
    failing = conditions_of(job).get("FailureTarget")
    if end is None and failing is not None and now >= _stuck_at(failing):
        return _stuck_end(failing, pods)
    return end


def _stuck_end(failing: Object, pods: Sequence[Object]) -> JobEnd:
    """Return the end of a Job with a pod that never ends, which is the cause if the others only report its loss."""
    end = failed_end(failing, pods)
    stuck = next((pod for pod in pods if not has_ended(pod)), None)
    if stuck is None or (end.failure is not None and end.failure.reason != UNKNOWN and not is_consequence(end.failure)):
        return end
    others = f"; the others: {end.failure.exception}" if end.failure and end.failure.exception else ""
    message = f"pod {stuck['metadata']['name']} does not end, though its Job has failed{others}"
    return JobEnd(False, failure=Failure(reason=NODE_LOST, index=index_of(stuck), message=message))


def _cut_short(
    job: Object, pods: Sequence[Object], now: datetime, replaced: Replaced, before: Failure | None
) -> JobEnd | None:
    """Return the end of a Job that will not end by itself, because a pod is lost or can never run; None otherwise."""
    failure = lost_pod(pods, now) or never_runs(pods) or failed_index(job, pods, replaced, before)
    if failure is None and lingers(job):
        failure = replaced.failure
    if failure is None:
        return None
    if (report := success_report(pods)) is not None:  # index 0 reports when all others are done
        return JobEnd(True, report=report)
    return JobEnd(False, failure=failure)


def _next_check(job: Object, pods: Sequence[Object], now: datetime) -> datetime | None:
    failing = conditions_of(job).get("FailureTarget")
    return earliest((_stuck_at(failing) if failing else stuck_at(job), lost_after(pods, now)))


def _stuck_at(failing: Object) -> datetime:
    """Return when a failing Job counts as ended although a pod has not: the other pods have reported by then."""
    return datetime.fromisoformat(failing["lastTransitionTime"]) + STUCK_AFTER


def _is_complete(end: JobEnd, job: Object, pods: Sequence[Object], before: Failure | None) -> bool:
    """Return True if the remaining pods show how the Job ended; otherwise the report is read from the store.

    When a pod fails, the Job controller deletes the running ones: of two that fail together, the first one may be gone,
    and the other reports only that it lost its peer. before: the first observed disruption.
    """
    if end.failure is not None and is_consequence(end.failure):
        if before is not None and cause_of(before) is Cause.DISRUPTED and "backoffLimitPerIndex" in job["spec"]:
            return True
        return len(pods) >= int(job["spec"].get("completions", 1))
    return not end.report_missing
