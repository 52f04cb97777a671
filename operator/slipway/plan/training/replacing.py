"""Replacement of pods of an attempt that are lost before all have run, each by a Job of one pod.

The agents of the other pods wait in the rendezvous while one is missing, so they do not have to restart. Once the
rendezvous is complete, plain torchrun has to restart all of them, and the loss ends the attempt. docs/decisions/0022.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from slipway.api.kinds import Object
from slipway.api.reports import shorten
from slipway.api.status import Failure, JobRecord
from slipway.api.trainingjob import MAX_GENERATIONS, MAX_REPLACEMENTS, Attempt, Replacement, TrainingJobStatus
from slipway.plan.jobs.lifecycle import JobPhase, Observed, observe_job
from slipway.plan.jobs.outcomes import Replaced, conditions_of, lingers
from slipway.plan.jobs.recovery import LOST, lost
from slipway.plan.jobs.retry import Cause
from slipway.plan.plan import Plan
from slipway.plan.training.attempts import replacement_name
from slipway.plan.training.retry import policy_of, tally_of
from slipway.plan.training.states import ReconcileContext

OTHERS_END_WITHIN = timedelta(seconds=30)
"""Time for the other pods to notice a failed replacement, so that their Job ends by itself and its logs remain."""
_MESSAGE_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class Replacements:
    """The present state of the replacements of an attempt.

    attempt: with the UIDs of their Jobs. due: those whose Job must be created. waiting: why pods are missing, as text.
    """

    attempt: Attempt
    replaced: Replaced
    plan: Plan = field(default_factory=Plan)
    due: tuple[Replacement, ...] = ()
    waiting: tuple[str, ...] = ()


def observe_replacements(
    ctx: ReconcileContext, attempt: Attempt, render: Callable[[Replacement], Object]
) -> Replacements:
    """Observe the Job of each replacement. Raises the errors of `observe_job`."""
    records: list[Replacement] = []
    pods: list[Object] = []
    succeeded: set[int] = set()
    failures: list[Failure] = []
    due: list[Replacement] = []
    waiting: list[str] = []
    plan = Plan()
    for one in attempt.replacements or ():
        observed = observe_job(
            ctx.owner,
            JobRecord(job=one.job, job_uid=one.job_uid),
            partial(render, one),
            ctx.observation,
            reports=False,
        )
        records.append(one.model_copy(update={"job_uid": observed.record.job_uid}))
        pods += observed.pods.trusted
        plan = plan.plus(observed.plan)
        if observed.phase is JobPhase.INTENDED:
            if ctx.now >= one.starts_at:
                due.append(one)
            else:
                plan = plan.plus(Plan(wake_at=one.starts_at))
            waiting.append(f"pod {one.index} was lost and is replaced at {one.starts_at:%H:%M:%S} UTC")
        elif observed.phase in (JobPhase.ENDED, JobPhase.UNREPORTED):
            if observed.end is not None and observed.end.succeeded:
                succeeded.add(one.index)
                continue
            failure, at = _failure(ctx, observed, one.index)
            if at is None or ctx.now >= at:
                failures.append(failure)
            plan = plan.plus(Plan(wake_at=at if at is not None and at > ctx.now else None))
    replaced = Replaced(
        frozenset(one.index for one in records), tuple(pods), frozenset(succeeded), failures[0] if failures else None
    )
    return Replacements(
        attempt.model_copy(update={"replacements": tuple(records) or None}), replaced, plan, tuple(due), tuple(waiting)
    )


def next_replacement(
    ctx: ReconcileContext, status: TrainingJobStatus, observed: Observed[Attempt]
) -> Replacement | None:
    """Return the replacement of the pod whose loss would end the attempt; None if the attempt ends.

    Index 0 is never replaced, because it hosts the rendezvous. No pod is replaced if spec.nodes has changed.
    """
    attempt, job = observed.record, observed.job
    failure = observed.end.failure if observed.end is not None else None
    if failure is None or not failure.index or attempt.running_at is not None or attempt.nodes != ctx.spec.nodes:
        return None
    if job is None or not lingers(job) or "backoffLimitPerIndex" not in job["spec"]:
        return None
    policy = policy_of(ctx.spec.restarts)
    cause = policy.cause(failure)
    if cause not in (Cause.DISRUPTED, Cause.NODE_LOST) or policy.counter(cause) != "disruptions":
        return None
    at = policy.retry_at(policy.counted(tally_of(status), cause, timedelta(0)), cause, ctx.now)
    before = next((one for one in attempt.replacements or () if one.index == failure.index), None)
    if at is None or (before is None and len(attempt.replacements or ()) >= MAX_REPLACEMENTS):
        return None
    number = before.number + 1 if before is not None else 1
    if number > MAX_GENERATIONS:
        return None
    return Replacement(
        index=failure.index,
        number=number,
        job=replacement_name(attempt, failure.index, number),
        starts_at=at,
        failure=failure.model_copy(update={"message": shorten(failure.message, _MESSAGE_CHARACTERS)})
        if failure.message
        else failure,
    )


def with_replacement(attempt: Attempt, replacement: Replacement) -> Attempt:
    """Return the attempt with the replacement instead of an older one of its index. The loss is no failure."""
    others = [one for one in attempt.replacements or () if one.index != replacement.index]
    found = tuple(sorted((*others, replacement), key=lambda one: one.index))
    return attempt.model_copy(update={"replacements": found, "failure": None})


def _failure(ctx: ReconcileContext, observed: Observed[JobRecord], index: int) -> tuple[Failure, datetime | None]:
    """Return the failure of a replacement, and when it ends the attempt; None for immediately."""
    end = observed.end if observed.phase is JobPhase.ENDED else lost(observed.pods.refused)
    found = end.failure if end is not None else None
    failure = (found or LOST).model_copy(update={"index": index})
    blameless = policy_of(ctx.spec.restarts).cause(failure) in (Cause.DISRUPTED, Cause.NODE_LOST)
    over = conditions_of(observed.job).get("Failed") if observed.job is not None else None
    if blameless or over is None:
        return failure, None
    return failure, datetime.fromisoformat(over["lastTransitionTime"]) + OTHERS_END_WITHIN
