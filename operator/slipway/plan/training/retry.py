"""The retry policy of attempts, from spec.restarts, and its counters in the status."""

from __future__ import annotations

from datetime import datetime, timedelta

from slipway.api.base import timedelta_of
from slipway.api.status import Failure
from slipway.api.trainingjob import Attempt, AttemptOutcome, Restarts, TrainingJobSpec, TrainingJobStatus
from slipway.plan.jobs.retry import Cause, Limit, NeverRetry, RetryPolicy, Tally

LONGEST_BACKOFF = timedelta(hours=1)
DISRUPTION_BACKOFF = timedelta(seconds=10)
LONGEST_DISRUPTION_BACKOFF = timedelta(minutes=5)
"""Maximum delay after a disruption, and so the maximum time that free capacity stays unused."""
MAX_MISSING_INPUTS = 5
"""Maximum number of attempts in a row that may find an input missing."""
MISSING_INPUT_BACKOFF = timedelta(seconds=30)

BLAMED = frozenset(
    {
        AttemptOutcome.FAILED,
        AttemptOutcome.PREEMPTED,
        AttemptOutcome.NODE_LOST,
        AttemptOutcome.NOT_STARTED,
        AttemptOutcome.INPUT_MISSING,
    }
)
"""Outcomes after which the policy decides about the next attempt; the others are actions of the user."""
OUTCOMES = {
    Cause.DISRUPTED: AttemptOutcome.PREEMPTED,
    Cause.NODE_LOST: AttemptOutcome.NODE_LOST,
    Cause.NOT_STARTED: AttemptOutcome.NOT_STARTED,
    Cause.INPUT_MISSING: AttemptOutcome.INPUT_MISSING,
}
"""The outcome of an attempt by its cause; Failed for all other causes."""


def policy_of(restarts: Restarts) -> RetryPolicy:
    disruptions = Limit(restarts.max_disruptions, DISRUPTION_BACKOFF, LONGEST_DISRUPTION_BACKOFF)
    limits = {
        "failures": Limit(restarts.max, timedelta_of(restarts.backoff), LONGEST_BACKOFF),
        "disruptions": disruptions,
        "starts": Limit(None, DISRUPTION_BACKOFF, LONGEST_DISRUPTION_BACKOFF),  # spec.restarts.pendingTimeout ends them
        "inputs": Limit(MAX_MISSING_INPUTS, MISSING_INPUT_BACKOFF, LONGEST_BACKOFF),
    }
    counted_as = {} if restarts.ignore_preemption else {Cause.DISRUPTED: "failures", Cause.NODE_LOST: "failures"}
    never = NeverRetry(
        frozenset(restarts.never.exit_codes), frozenset(restarts.never.exceptions), field="spec.restarts.never"
    )
    return RetryPolicy(limits, counted_as, timedelta_of(restarts.reset_after), never)


def tally_of(status: TrainingJobStatus) -> Tally:
    """Return the counters of the status, with its newest attempt."""
    return Tally(
        failures=status.restarts,
        disruptions=status.disruptions,
        starts=_in_a_row(status, AttemptOutcome.NOT_STARTED),
        inputs=_in_a_row(status, AttemptOutcome.INPUT_MISSING),
    )


def counted(status: TrainingJobStatus, attempt: Attempt, restarts: Restarts) -> TrainingJobStatus:
    """Return the status with the counters after this attempt, its newest one, which has just ended."""
    if attempt.outcome not in BLAMED:
        return status.model_copy(update={"pending_since": None})
    policy = policy_of(restarts)
    ran = (attempt.ended_at or attempt.started_at) - attempt.running_at if attempt.running_at else timedelta(0)
    tally = policy.counted(tally_of(status), policy.cause(attempt.failure), ran)
    update: dict[str, object] = {"restarts": tally.failures, "disruptions": tally.disruptions}
    if attempt.running_at is not None or attempt.outcome is AttemptOutcome.FAILED:
        update["pending_since"] = None
    return status.model_copy(update=update)


def counted_loss(status: TrainingJobStatus, failure: Failure, restarts: Restarts) -> TrainingJobStatus:
    """Return the status with the counters after the loss of a pod that is replaced."""
    policy = policy_of(restarts)
    tally = policy.counted(tally_of(status), policy.cause(failure), timedelta(0))
    return status.model_copy(update={"disruptions": tally.disruptions})


def retry_at(attempt: Attempt, status: TrainingJobStatus, restarts: Restarts) -> datetime | None:
    """Return when the next attempt may start after this ended one; None for immediately."""
    if attempt.outcome not in BLAMED:
        return None
    policy = policy_of(restarts)
    return policy.retry_at(tally_of(status), policy.cause(attempt.failure), attempt.ended_at or attempt.started_at)


def deadline(spec: TrainingJobSpec, status: TrainingJobStatus) -> datetime | None:
    """Return the end of spec.activeDeadline; None without one, or before the start."""
    if spec.active_deadline is None or status.started_at is None:
        return None
    return status.started_at + timedelta_of(spec.active_deadline)


def pending_deadline(spec: TrainingJobSpec, status: TrainingJobStatus) -> datetime | None:
    """Return the end of spec.restarts.pendingTimeout; None while all pods run."""
    if status.pending_since is None:
        return None
    return status.pending_since + timedelta_of(spec.restarts.pending_timeout)


def _in_a_row(status: TrainingJobStatus, outcome: AttemptOutcome) -> int:
    """Return the number of the newest attempts in a row with this outcome, without cancelled and open ones."""
    count = 0
    for attempt in reversed(status.attempts):
        if attempt.outcome is outcome:
            count += 1
        elif attempt.outcome not in (None, AttemptOutcome.CANCELLED):
            break
    return count
