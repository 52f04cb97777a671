"""The retry policy of attempts, as spec.restarts asks for it, and what the status counts for it."""

from __future__ import annotations

from datetime import datetime, timedelta

from slipway.api.base import timedelta_of
from slipway.api.status import Failure
from slipway.api.trainingjob import Attempt, AttemptOutcome, Restarts, TrainingJobSpec, TrainingJobStatus
from slipway.plan.jobs.retry import Cause, Limit, Never, RetryPolicy, Tally

LONGEST_BACKOFF = timedelta(hours=1)
DISRUPTION_BACKOFF = timedelta(seconds=10)
LONGEST_DISRUPTION_BACKOFF = timedelta(minutes=5)
"""A cluster that preempts has no room; by so much longer than needed an attempt waits once it has."""
MAX_MISSING_INPUTS = 5
"""Attempts in a row that may find an input missing: somebody deletes it faster than it is made."""
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
"""Outcomes after which the policy decides about the next attempt; the others are the user's doing."""
OUTCOMES = {
    Cause.DISRUPTED: AttemptOutcome.PREEMPTED,
    Cause.NODE_LOST: AttemptOutcome.NODE_LOST,
    Cause.NOT_STARTED: AttemptOutcome.NOT_STARTED,
    Cause.INPUT_MISSING: AttemptOutcome.INPUT_MISSING,
}
"""The outcome that a cause gives an attempt; Failed where none is named."""


def policy_of(restarts: Restarts) -> RetryPolicy:
    disruptions = Limit(restarts.max_disruptions, DISRUPTION_BACKOFF, LONGEST_DISRUPTION_BACKOFF)
    limits = {
        "failures": Limit(restarts.max, timedelta_of(restarts.backoff), LONGEST_BACKOFF),
        "disruptions": disruptions,
        "starts": Limit(None, DISRUPTION_BACKOFF, LONGEST_DISRUPTION_BACKOFF),  # spec.restarts.pendingTimeout ends them
        "inputs": Limit(MAX_MISSING_INPUTS, MISSING_INPUT_BACKOFF, LONGEST_BACKOFF),
    }
    counted_as = {} if restarts.ignore_preemption else {Cause.DISRUPTED: "failures", Cause.NODE_LOST: "failures"}
    never = Never(
        frozenset(restarts.never.exit_codes), frozenset(restarts.never.exceptions), field="spec.restarts.never"
    )
    return RetryPolicy(limits, counted_as, timedelta_of(restarts.reset_after), never)


def tally_of(status: TrainingJobStatus) -> Tally:
    """What the status has counted, its newest attempt included."""
    return Tally(
        failures=status.restarts,
        disruptions=status.disruptions,
        starts=_in_a_row(status, AttemptOutcome.NOT_STARTED),
        inputs=_in_a_row(status, AttemptOutcome.INPUT_MISSING),
    )


def counted(status: TrainingJobStatus, attempt: Attempt, restarts: Restarts) -> TrainingJobStatus:
    """The status after this attempt, which has just ended and is its newest."""
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
    """The status after a pod was lost for this cause and is replaced, before all pods have run."""
    policy = policy_of(restarts)
    tally = policy.counted(tally_of(status), policy.cause(failure), timedelta(0))
    return status.model_copy(update={"disruptions": tally.disruptions})


def retry_at(attempt: Attempt, status: TrainingJobStatus, restarts: Restarts) -> datetime | None:
    """When the next attempt may start after this one, which has ended; None for at once."""
    if attempt.outcome not in BLAMED:
        return None
    policy = policy_of(restarts)
    return policy.retry_at(tally_of(status), policy.cause(attempt.failure), attempt.ended_at or attempt.started_at)


def deadline(spec: TrainingJobSpec, status: TrainingJobStatus) -> datetime | None:
    """When to give up; None where nothing limits the job or it has not started."""
    if spec.active_deadline is None or status.started_at is None:
        return None
    return status.started_at + timedelta_of(spec.active_deadline)


def pending_deadline(spec: TrainingJobSpec, status: TrainingJobStatus) -> datetime | None:
    """When to give up on pods that do not all run; None while they do."""
    if status.pending_since is None:
        return None
    return status.pending_since + timedelta_of(spec.restarts.pending_timeout)


def _in_a_row(status: TrainingJobStatus, outcome: AttemptOutcome) -> int:
    """So many of the newest attempts ended so; those that were never carried out or are open do not interrupt."""
    count = 0
    for attempt in reversed(status.attempts):
        if attempt.outcome is outcome:
            count += 1
        elif attempt.outcome not in (None, AttemptOutcome.CANCELLED):
            break
    return count
