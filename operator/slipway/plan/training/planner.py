"""The planner of TrainingJobs: the state table from the recorded and observed state to the next action.

recorded                     and                            then
finished                                                    delete obsolete Jobs; all children after the TTL
an attempt is open           it has no Job                  create the Job, or cancel it if the spec changed
                             its Job has ended              record the end; continue as for an ended attempt
                             suspended, or a deadline       end it
the newest succeeded         a user's image                 seal, then finish
                             the runtime image              finish
the newest ended otherwise,  a deadline, or no retry left   finish as failed
or there is none             suspended                      wait
                             the back-off is not over       wait
                             store, pool or data missing    wait; prepare the data
                                                            open the next attempt
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from slipway.api.artifactstore import ArtifactStoreSpec
from slipway.api.base import timedelta_of
from slipway.api.errors import SpecError
from slipway.api.kinds import ARTIFACT_STORE, Object
from slipway.api.reading import read_status
from slipway.api.trainingjob import Attempt, AttemptOutcome, TrainingJob, TrainingJobSpec, TrainingJobStatus
from slipway.plan.conditions import CHILD_REFUSED, ConditionValue, blocked, refused, with_conditions
from slipway.plan.jobs.outcomes import DEADLINE_EXCEEDED, describe_failure
from slipway.plan.jobs.retry import Cause, no_retry_reason
from slipway.plan.observation import Observation
from slipway.plan.owner import Owner
from slipway.plan.parse import merged_status, parse, parse_leniently
from slipway.plan.plan import EventRecord, Plan, Refusal, earliest
from slipway.plan.references import RESYNC_INTERVAL, NotYet, condition, known_pool, known_store, ready_store
from slipway.plan.steps.request import Store, retry_of
from slipway.plan.steps.tracking import StepSet
from slipway.plan.training import states
from slipway.plan.training.attempts import all_children, cause, newest, obsolete_jobs, opened, with_attempt
from slipway.plan.training.auxiliary import prepare, seal
from slipway.plan.training.follow import Followed, follow, network_plan
from slipway.plan.training.retry import (
    BLAMED,
    counted,
    counted_loss,
    deadline,
    pending_deadline,
    policy_of,
    retry_at,
    tally_of,
)
from slipway.plan.training.states import Decision, ReconcileContext
from slipway.plan.training.validation import refuse_oversized, refuse_stores


def plan_training(obj: Object, observation: Observation) -> Plan:
    """Choose the next writes of one TrainingJob."""
    owner = Owner.of(obj)
    if owner.deleting:
        return Plan()
    observation = observation.at(observation.now.replace(microsecond=0))
    view, now, refusals = observation.view, observation.now, observation.refusals
    present = read_status(TrainingJobStatus, obj.get("status") or {})
    try:
        spec = parse(TrainingJob, {"spec": obj.get("spec")}).spec
    except SpecError as error:
        if present.finished_at is not None:
            return Plan()
        spec, left_out = parse_leniently(TrainingJobSpec, obj.get("spec"), _STAND_IN)
        decision = _decide_unreadable(ReconcileContext(owner, spec, observation), present, error, left_out)
        left = Plan(delete=obsolete_jobs(owner, present.attempts, view)).as_own_part()
        return _write(obj, owner, present, decision, now, refusals).plus(left)
    ctx = ReconcileContext(owner, spec, observation, retry_of(obj))
    if present.finished_at is not None:
        return _plan_finished(obj, ctx, present, present.finished_at, refusals)
    decision = _or_blocked(present, now, lambda: _decide(ctx, present))
    plan = _write(obj, owner, present, decision, now, refusals)
    left = Plan(delete=obsolete_jobs(owner, present.attempts, view)).as_own_part()
    return plan.plus(left).plus(Plan(wake_at=earliest(_deadlines_ahead(ctx, decision.status))))


def _decide(ctx: ReconcileContext, status: TrainingJobStatus) -> Decision:
    attempt = newest(status)
    if attempt is None:
        return _between_attempts(ctx, status)
    if attempt.outcome is None:
        return _follow(ctx, status, attempt)
    if attempt.outcome is AttemptOutcome.SUCCEEDED:
        return _conclude(ctx, status, attempt)
    return _between_attempts(ctx, status)


_STAND_IN = {"entrypoint": {"module": {"name": "unreadable"}}}
"""Stands in for a missing entry point; it never runs."""


def _decide_unreadable(
    ctx: ReconcileContext, status: TrainingJobStatus, error: SpecError, left_out: frozenset[str]
) -> Decision:
    """Follow an open attempt under a spec that cannot be read completely; start nothing new.

    ctx: has the spec without the fields left_out. error: why the spec cannot be read.
    """
    attempt = newest(status)
    if attempt is None or attempt.outcome is not None or attempt.job_uid is None:
        return _blocked(status, error, ctx.now)
    return _or_blocked(status, ctx.now, lambda: _follow_to_end(ctx, status, attempt, error, left_out))


def _follow_to_end(
    ctx: ReconcileContext, status: TrainingJobStatus, attempt: Attempt, error: SpecError, left_out: frozenset[str]
) -> Decision:
    found = follow(ctx, status, attempt, may_replace=False)
    after = with_attempt(status, found.attempt)
    if found.attempt.outcome is None:
        state = states.with_stalled(_state_of(after, found), error.reason, str(error))
        # A default value must not change a NetworkPolicy.
        plan = replace(found.plan, apply=()) if left_out & {"egress", "store"} else found.plan
        return Decision(after, state, plan.plus(Plan(wake_at=ctx.now + RESYNC_INTERVAL)))
    if found.attempt.outcome is AttemptOutcome.SUCCEEDED and not left_out & {"image", "store"}:
        return _decided(ctx, status, found)
    blocked = _blocked(counted(after, found.attempt, ctx.spec.restarts), error, ctx.now)
    return replace(blocked, plan=found.plan.plus(blocked.plan), events=_attempt_events(found.attempt, blocked))


# --- An attempt is open ------------------------------------------------------------------------------------------


def _follow(ctx: ReconcileContext, status: TrainingJobStatus, before: Attempt) -> Decision:
    return _decided(ctx, status, follow(ctx, status, before))


def _decided(ctx: ReconcileContext, status: TrainingJobStatus, found: Followed) -> Decision:
    attempt = found.attempt
    status = with_attempt(status, attempt)
    if attempt.running_at is not None or attempt.outcome is AttemptOutcome.SUCCEEDED:
        status = status.model_copy(update={"pending_since": None})
    if attempt.outcome is None:
        events = _replacement_events(found)
        if found.replacement is not None:
            status = counted_loss(status, found.replacement.failure, ctx.spec.restarts)
        state = _state_of(status, found)
        if found.conflict is None:
            return Decision(status, state, found.plan, events)
        state = states.with_stalled(state, found.conflict.reason, str(found.conflict))
        return Decision(status, state, found.plan.plus(Plan(wake_at=ctx.now + RESYNC_INTERVAL)))
    if attempt.outcome is AttemptOutcome.SUCCEEDED:
        if found.report is not None:
            made = {"artifact": found.report.artifact, "metrics": found.report.metrics}
            status = status.model_copy(update=made)
        after = _or_blocked(status, ctx.now, lambda: _conclude(ctx, status, attempt))
        return replace(after, plan=found.plan.plus(after.plan))
    status = counted(status, attempt, ctx.spec.restarts)
    after = _between_attempts(ctx, status)
    return replace(after, plan=found.plan.plus(after.plan), events=(*_attempt_events(attempt, after), *after.events))


def _state_of(status: TrainingJobStatus, found: Followed) -> states.State:
    attempt = found.attempt
    if attempt.recoveries:
        return states.recovering(attempt, found.pending_reason)
    if attempt.running_at is not None:
        return states.running(attempt)
    return states.starting(attempt, _restart_of(status), attempt.pending_reason)


def _restart_of(status: TrainingJobStatus) -> Attempt | None:
    """Return the failed attempt before the newest one; None for the first one, or one after a suspension."""
    before = status.attempts[-2] if len(status.attempts) > 1 else None
    restarts = before is not None and before.outcome in BLAMED and before.outcome is not AttemptOutcome.NOT_STARTED
    return before if restarts else None


def _replacement_events(found: Followed) -> tuple[EventRecord, ...]:
    """Return the Event of a replaced pod."""
    if (lost := found.replacement) is None:
        return ()
    message = f"attempt {found.attempt.number}: {describe_failure(lost.failure)}; another pod starts at"
    return (EventRecord("Warning", "PodReplaced", f"{message} {lost.starts_at:%H:%M:%S} UTC"),)


def _attempt_events(attempt: Attempt, after: Decision) -> tuple[EventRecord, ...]:
    """Return the Event of an attempt's end. A final failure is reported by the end of the job."""
    if attempt.outcome is AttemptOutcome.SUSPENDED:
        return (EventRecord("Normal", "Suspended", f"attempt {attempt.number} was ended; it does not count"),)
    if attempt.outcome in BLAMED and after.status.finished_at is None:
        return (EventRecord("Warning", f"Attempt{attempt.outcome}", cause(attempt)),)
    return ()


# --- No attempt is open, and none has succeeded ------------------------------------------------------------------


def _between_attempts(ctx: ReconcileContext, status: TrainingJobStatus) -> Decision:
    if (over := _give_up(ctx, status)) is not None:
        return over
    if ctx.spec.suspend:
        return Decision(status, states.suspended())
    before = newest(status)
    at = retry_at(before, status, ctx.spec.restarts) if before is not None else None
    if before is not None and at is not None and ctx.now < at:
        return Decision(status, _backoff_state(before, at, ctx.spec), Plan(wake_at=at))
    return _or_blocked(status, ctx.now, lambda: _open(ctx, status))


def _backoff_state(before: Attempt, at: datetime, spec: TrainingJobSpec) -> states.State:
    """Return the state between two attempts; Stalled if the user must restore stored data."""
    missing = before.failure.missing if before.failure else None
    source = next((one for one in spec.data if one.stored is not None and one.stored.digest == missing), None)
    if before.outcome is not AttemptOutcome.INPUT_MISSING or source is None:
        return states.restarting(before, at)
    message = f"{cause(before)}; restore it before attempt {before.number + 1} starts at {at:%H:%M:%S} UTC"
    return states.stalled("InputMissing", f"spec.data[{source.name}].stored: {message}")


def _give_up(ctx: ReconcileContext, status: TrainingJobStatus) -> Decision | None:
    spec = ctx.spec
    blamed = next((attempt for attempt in reversed(status.attempts) if attempt.outcome in BLAMED), None)
    why = f"; {cause(blamed)}" if blamed else ""
    limit = deadline(spec, status)
    if limit is not None and ctx.now >= limit:
        message = f"spec.activeDeadline ({spec.active_deadline}) exceeded{why}"
        return Decision(_ended(status, ctx.now), states.stalled(DEADLINE_EXCEEDED, message))
    limit = pending_deadline(spec, status)
    if limit is not None and ctx.now >= limit:
        message = f"the pods did not all run within spec.restarts.pendingTimeout ({spec.restarts.pending_timeout}){why}"
        return Decision(_ended(status, ctx.now), states.stalled("PendingTimeout", message))
    if (spent := _limit_reached(spec, status)) is not None:
        reason, limit_message = spent
        message = f"{cause(blamed)}; {limit_message}" if blamed else limit_message
        return Decision(_ended(status, ctx.now), states.stalled(reason, f"{message}; {_RECREATE}"))
    return None


_RECREATE = "fix the cause, then delete and re-create the TrainingJob"


def _limit_reached(spec: TrainingJobSpec, status: TrainingJobStatus) -> tuple[str, str] | None:
    """Return reason and message if no other attempt follows; None if one does."""
    restarts, policy, tally = spec.restarts, policy_of(spec.restarts), tally_of(status)
    if tally.failures > restarts.max:
        return "RestartsExhausted", f"restart limit reached (spec.restarts.max: {restarts.max})"
    attempt = newest(status)
    if attempt is None or attempt.outcome not in BLAMED or attempt.failure is None:
        return None
    found = policy.cause(attempt.failure)
    if not policy.spent(tally, found):
        return None
    if policy.counter(found) is None:
        return "NotRetried", f"not retried, because {no_retry_reason(attempt.failure, policy.never)}"
    if found is Cause.INPUT_MISSING:
        return "InputMissing", f"{tally.inputs} attempts in a row did not find it"
    return (
        "DisruptionsExhausted",
        f"disruption limit reached (spec.restarts.maxDisruptions: {restarts.max_disruptions})",
    )


def _open(ctx: ReconcileContext, status: TrainingJobStatus) -> Decision:
    """Record the next attempt, once its inputs exist. Raises NotYet and SpecError."""
    spec = ctx.spec
    refuse_oversized(spec)
    store = ready_store(ctx.view, ctx.owner.namespace, spec.store)
    _refuse_unshared(spec, store)
    refuse_stores(spec.pod_template, ctx.view.select(ARTIFACT_STORE, ctx.owner.namespace, {}))
    name = spec.pools[0] if spec.pools else None
    pool = known_pool(ctx.view, name) if name else None
    steps = StepSet(ctx.owner, ctx.view, ctx.now, retry=ctx.retry)
    progress = prepare(ctx, Store(spec.store, store), status, steps)
    if steps.conflicts:
        raise steps.conflicts[0]
    if progress.error is not None:
        blocked = _blocked(progress.status, progress.error, ctx.now)
        return replace(blocked, plan=steps.plan.plus(blocked.plan))
    if progress.pending:
        preparing = states.preparing(", ".join(progress.pending))
        return Decision(progress.status, preparing, steps.plan, refused=steps.refused)
    devices = pool.resource.per_pod if pool and pool.resource else 1
    status = opened(
        ctx.owner,
        progress.status,
        pool=name,
        nodes=spec.nodes,
        processes=spec.processes_per_node or devices,
        now=ctx.now,
    )
    attempt, before = status.attempts[-1], _restart_of(status)
    event = EventRecord("Normal", "AttemptStarted", f"attempt {attempt.number} starts as Job {attempt.job}")
    # The first attempt has no Event: the status shows it, and an Event would be one more write.
    events = (event,) if attempt.number > 1 else ()
    network = replace(network_plan(ctx, attempt), at_once=True) if attempt.number == 1 else Plan()
    return Decision(status, states.starting(attempt, before, None), steps.plan.plus(network), events)


def _refuse_unshared(spec: TrainingJobSpec, store: ArtifactStoreSpec) -> None:
    if spec.image is not None and store.s3 is not None:
        problem = (
            f"another pod seals its output, and ArtifactStore {spec.store} is not on a PersistentVolumeClaim to share"
        )
        cure = "remove it, so that the script runs in the runtime image, or name a store on a PersistentVolumeClaim"
        raise SpecError("spec.image", problem, cure, reason="StoreNotShared")


# --- The newest attempt has succeeded ----------------------------------------------------------------------------


def _conclude(ctx: ReconcileContext, status: TrainingJobStatus, attempt: Attempt) -> Decision:
    """Finish after a success: index 0 seals the output in the runtime image; a Step seals that of a user's image."""
    if ctx.spec.image is None:
        return _succeeded(status, ctx.now)
    store = known_store(ctx.view, ctx.owner.namespace, ctx.spec.store)
    steps = StepSet(ctx.owner, ctx.view, ctx.now, retry=ctx.retry)
    progress = seal(ctx, Store(ctx.spec.store, store), status, attempt, steps)
    if steps.conflicts:
        raise steps.conflicts[0]
    if progress.error is not None:
        blocked = _blocked(status, progress.error, ctx.now)
        return replace(blocked, plan=steps.plan.plus(blocked.plan))
    if progress.sealed is None:
        return Decision(status, states.sealing(attempt, progress.pending), steps.plan, refused=steps.refused)
    made = {"artifact": progress.sealed.artifact, "metrics": progress.sealed.metrics}
    return _succeeded(status.model_copy(update=made), ctx.now)


def _succeeded(status: TrainingJobStatus, now: datetime) -> Decision:
    state = states.succeeded(status.artifact)
    event = EventRecord("Normal", "Succeeded", state.values["Complete"].message)
    return Decision(_ended(status, now), state, events=(event,))


def _ended(status: TrainingJobStatus, now: datetime) -> TrainingJobStatus:
    return status.model_copy(update={"finished_at": now, "pending_since": None})


def _plan_finished(
    obj: Object, ctx: ReconcileContext, present: TrainingJobStatus, finished_at: datetime, refusals: Sequence[Refusal]
) -> Plan:
    """Plan a finished job: its record does not change any more, and its children are deleted after the TTL."""
    generation = ctx.owner.generation
    values = {
        one.type: ConditionValue(one.status == "True", one.reason, one.message)
        for one in present.conditions
        if one.status != "Unknown"
    }
    if (verdict := refused(refusals, present.conditions, ctx.now)) is not None:
        values[CHILD_REFUSED] = verdict
    conditions = with_conditions(present.conditions, values, generation, ctx.now)
    status = present.model_copy(update={"observed_generation": generation, "conditions": conditions})
    plan = _status(obj, present, status, refusals)
    ttl = ctx.spec.ttl_after_finished
    over_at = finished_at + timedelta_of(ttl) if ttl is not None else None
    if over_at is not None and ctx.now >= over_at:
        return replace(plan, delete=all_children(ctx.owner, ctx.view))
    return replace(plan, delete=obsolete_jobs(ctx.owner, present.attempts, ctx.view), wake_at=over_at)


# --- From a decision to a plan -----------------------------------------------------------------------------------


def _or_blocked(status: TrainingJobStatus, now: datetime, decide: Callable[[], Decision]) -> Decision:
    """Return the decision; if it raises an error, the unchanged status with the error."""
    try:
        return decide()
    except NotYet as wait:
        return Decision(status, states.waiting(wait.reason, wait.message), Plan(wake_at=now + RESYNC_INTERVAL))
    except SpecError as error:
        return _blocked(status, error, now)


def _blocked(status: TrainingJobStatus, error: SpecError, now: datetime) -> Decision:
    """Return a stalled decision. Each round derives it again, so it ends with its cause."""
    return Decision(status, states.stalled(error.reason, str(error)), Plan(wake_at=now + RESYNC_INTERVAL))


def _write(
    obj: Object,
    owner: Owner,
    present: TrainingJobStatus,
    decision: Decision,
    now: datetime,
    refusals: Sequence[Refusal],
) -> Plan:
    state, attempt = decision.state, newest(decision.status)
    runs = attempt is not None and attempt.outcome is None and attempt.running_at is not None
    # In these states no refused write blocks the job.
    elsewhere = ("Running", "BackOff", "StoreNotFound", "StoreNotReady", "PoolNotFound")
    values = blocked(state.values, refused(refusals, present.conditions, now, decision.refused), unless=elsewhere)
    status = decision.status.model_copy(
        update={
            "observed_generation": owner.generation,
            "phase": state.phase,
            "conditions": with_conditions(present.conditions, values, owner.generation, now),
            "workers": f"{attempt.nodes}/{attempt.nodes}"[:32] if attempt and runs else None,
        }
    )
    plan = decision.plan.plus(_status(obj, present, status, refusals))
    return replace(plan, events=(*decision.events, *_stalled_events(present, state)))


def _status(obj: Object, present: TrainingJobStatus, status: TrainingJobStatus, refusals: Sequence[Refusal]) -> Plan:
    whole = merged_status(obj, present, status, refusals)
    return Plan(status=None if whole == obj.get("status") else whole)


def _stalled_events(present: TrainingJobStatus, state: states.State) -> tuple[EventRecord, ...]:
    verdict = state.stalled
    before = condition(present.conditions, "Stalled")
    if verdict is None or (before and before.status == "True" and before.reason == verdict.reason):
        return ()
    return (EventRecord("Warning", verdict.reason, verdict.message),)


def _deadlines_ahead(ctx: ReconcileContext, status: TrainingJobStatus) -> tuple[datetime, ...]:
    """Return the future deadlines at which to plan again; none once training is over."""
    attempt = newest(status)
    if status.finished_at is not None or (attempt and attempt.outcome is AttemptOutcome.SUCCEEDED):
        return ()
    recovering = attempt is not None and bool(attempt.recoveries)  # its pods are gone: they do not wait any more
    limits = (deadline(ctx.spec, status), None if recovering else pending_deadline(ctx.spec, status))
    return tuple(limit for limit in limits if limit is not None and limit > ctx.now)
