"""When an attempt is followed by another, and when no more."""

from __future__ import annotations

from datetime import datetime, timedelta

from slipway.api.base import timedelta_of
from slipway.api.trainingjob import Attempt, AttemptOutcome, Restarts, TrainingJobSpec, TrainingJobStatus

LONGEST_BACKOFF_SECONDS = 3600.0


def counts(attempt: Attempt, restarts: Restarts) -> bool:
    """Whether an ended attempt uses up a restart."""
    if attempt.outcome is AttemptOutcome.PREEMPTED:
        return not restarts.ignore_preemption
    return attempt.outcome is AttemptOutcome.FAILED


def backoff(restarts: Restarts, failures: int) -> timedelta:
    """The wait after so many counted failures (at least 1)."""
    # Twelve doublings of the shortest wait, a second, are more than an hour.
    seconds = timedelta_of(restarts.backoff).total_seconds() * 2.0 ** min(failures - 1, 12)
    return timedelta(seconds=min(seconds, LONGEST_BACKOFF_SECONDS))


def retry_at(attempt: Attempt, status: TrainingJobStatus, restarts: Restarts) -> datetime:
    """When the next attempt may start after this one, which has ended."""
    end = attempt.ended_at or attempt.started_at
    return end + backoff(restarts, max(1, status.restarts)) if counts(attempt, restarts) else end


def exhausted(status: TrainingJobStatus, restarts: Restarts) -> bool:
    return status.restarts > restarts.max


def deadline(spec: TrainingJobSpec, status: TrainingJobStatus) -> datetime | None:
    """When to give up; None where nothing limits the job or it has not started."""
    if spec.active_deadline is None or status.started_at is None:
        return None
    return status.started_at + timedelta_of(spec.active_deadline)
