"""TrainingJob: the state table, from what is recorded and seen to what is recorded next and written.

recorded                     and                            then
finished                                                    remove leftovers; the children after the TTL
an attempt is open           its Job is not made            make it, or cancel it where the spec changed
                             its Job has ended              record how; go on as for an ended one
                             suspended, or too late         close it
the newest succeeded         the image is the user's        seal, then finish
                             it is ours                     finish
the newest ended otherwise,  too late, or no retry is left  finish as failed
or there is none             suspended                      rest
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
from slipway.plan.conditions import Verdict, with_verdicts
from slipway.plan.jobs.retry import Cause, why_never
from slipway.plan.observation import Observation
from slipway.plan.owner import Owner
from slipway.plan.parse import legible, parsed, whole_status
from slipway.plan.plan import Happening, Plan, Refusal, earliest
from slipway.plan.references import LOOK_AGAIN_AFTER, NotYet, condition, known_pool, known_store, ready_store
from slipway.plan.refused import CHILD_REFUSED, blocked, refused
from slipway.plan.steps.request import Store, retry_of
from slipway.plan.steps.tracking import StepSet
from slipway.plan.training import states
from slipway.plan.training.attempts import cause, newest, opened, with_attempt
from slipway.plan.training.auxiliary import prepare, seal
from slipway.plan.training.cleanup import everything, superseded
from slipway.plan.training.follow import Followed, follow, network_plan
from slipway.plan.training.podtemplate import refuse_stores
from slipway.plan.training.retry import BLAMED, counted, deadline, pending_deadline, policy_of, retry_at, tally_of
from slipway.plan.training.round import Decision, Round
from slipway.plan.training.sizes import refuse_oversized


def plan_training(obj: Object, observation: Observation) -> Plan:
    """Choose the next writes of one TrainingJob."""
    owner = Owner.of(obj)
    if owner.deleting:
        return Plan()
    observation = observation.at(observation.now.replace(microsecond=0))
    view, now, refusals = observation.view, observation.now, observation.refusals
    present = read_status(TrainingJobStatus, obj.get("status") or {})
    try:
        spec = parsed(TrainingJob, {"spec": obj.get("spec")}).spec
    except SpecError as error:
        if present.finished_at is not None:
            return Plan()
        spec, left_out = legible(TrainingJobSpec, obj.get("spec"), _STAND_IN)
        decision = _of_unreadable(Round(owner, spec, observation), present, error, left_out)
        left = Plan(delete=superseded(owner, present.attempts, view)).apart()
        return _written(obj, owner, present, decision, now, refusals).plus(left)
    round_ = Round(owner, spec, observation, retry_of(obj))
    if present.finished_at is not None:
        return _after_the_end(obj, round_, present, present.finished_at, refusals)
    decision = _unless_stuck(present, now, lambda: _decide(round_, present))
    plan = _written(obj, owner, present, decision, now, refusals)
    left = Plan(delete=superseded(owner, present.attempts, view)).apart()
    return plan.plus(left).plus(Plan(wake_at=earliest(_deadlines_ahead(round_, decision.status))))


def _decide(round_: Round, status: TrainingJobStatus) -> Decision:
    attempt = newest(status)
    if attempt is None:
        return _between(round_, status)
    if attempt.outcome is None:
        return _follow(round_, status, attempt)
    if attempt.outcome is AttemptOutcome.SUCCEEDED:
        return _conclude(round_, status, attempt)
    return _between(round_, status)


_STAND_IN = {"entrypoint": {"module": {"name": "unreadable"}}}
"""For a spec that does not tell what to run: nothing is run by it."""


def _of_unreadable(round_: Round, status: TrainingJobStatus, error: SpecError, left_out: frozenset[str]) -> Decision:
    """What runs under a spec that cannot be read as a whole is followed to its end; nothing is begun.

    round_: with the spec without its fields left_out. error: why the spec cannot be read.
    """
    attempt = newest(status)
    if attempt is None or attempt.outcome is not None or attempt.job_uid is None:
        return _stuck(status, error, round_.now)
    return _unless_stuck(status, round_.now, lambda: _followed_to_its_end(round_, status, attempt, error, left_out))


def _followed_to_its_end(
    round_: Round, status: TrainingJobStatus, attempt: Attempt, error: SpecError, left_out: frozenset[str]
) -> Decision:
    found = follow(round_, status, attempt)
    after = with_attempt(status, found.attempt)
    if found.attempt.outcome is None:
        state = states.obstructed(_state_of(after, found), error.reason, str(error))
        # What a policy allows is not decided by a default.
        kept = replace(found.plan, apply=()) if left_out & {"egress", "store"} else found.plan
        return Decision(after, state, kept.plus(Plan(wake_at=round_.now + LOOK_AGAIN_AFTER)))
    if found.attempt.outcome is AttemptOutcome.SUCCEEDED and not left_out & {"image", "store"}:
        return _decided(round_, status, found)
    stuck = _stuck(counted(after, found.attempt, round_.spec.restarts), error, round_.now)
    return replace(stuck, plan=found.plan.plus(stuck.plan), events=_told(found.attempt, stuck))


# --- An attempt is open ------------------------------------------------------------------------------------------


def _follow(round_: Round, status: TrainingJobStatus, before: Attempt) -> Decision:
    return _decided(round_, status, follow(round_, status, before))


def _decided(round_: Round, status: TrainingJobStatus, found: Followed) -> Decision:
    attempt = found.attempt
    status = with_attempt(status, attempt)
    if attempt.running_at is not None or attempt.outcome is AttemptOutcome.SUCCEEDED:
        status = status.model_copy(update={"pending_since": None})
    if attempt.outcome is None:
        state = _state_of(status, found)
        if found.conflict is None:
            return Decision(status, state, found.plan)
        state = states.obstructed(state, found.conflict.reason, str(found.conflict))
        return Decision(status, state, found.plan.plus(Plan(wake_at=round_.now + LOOK_AGAIN_AFTER)))
    if attempt.outcome is AttemptOutcome.SUCCEEDED:
        if found.report is not None:
            made = {"artifact": found.report.artifact, "metrics": found.report.metrics}
            status = status.model_copy(update=made)
        after = _unless_stuck(status, round_.now, lambda: _conclude(round_, status, attempt))
        return replace(after, plan=found.plan.plus(after.plan))
    status = counted(status, attempt, round_.spec.restarts)
    after = _between(round_, status)
    return replace(after, plan=found.plan.plus(after.plan), events=(*_told(attempt, after), *after.events))


def _state_of(status: TrainingJobStatus, found: Followed) -> states.State:
    attempt = found.attempt
    if attempt.recoveries:
        return states.recovering(attempt, found.trouble)
    if attempt.running_at is not None:
        return states.running(attempt)
    return states.starting(attempt, _restart_of(status), attempt.pending_reason)


def _restart_of(status: TrainingJobStatus) -> Attempt | None:
    """The failed attempt that the newest one follows; None where it is the first, or follows a suspension."""
    before = status.attempts[-2] if len(status.attempts) > 1 else None
    restarts = before is not None and before.outcome in BLAMED and before.outcome is not AttemptOutcome.NOT_STARTED
    return before if restarts else None


def _told(attempt: Attempt, after: Decision) -> tuple[Happening, ...]:
    """The Event of an attempt's end. A last failure is told by the end of the whole job."""
    if attempt.outcome is AttemptOutcome.SUSPENDED:
        return (Happening("Normal", "Suspended", f"attempt {attempt.number} was ended; it does not count"),)
    if attempt.outcome in BLAMED and after.status.finished_at is None:
        return (Happening("Warning", f"Attempt{attempt.outcome}", cause(attempt)),)
    return ()


# --- No attempt is open, and none has succeeded ------------------------------------------------------------------


def _between(round_: Round, status: TrainingJobStatus) -> Decision:
    if (over := _given_up(round_, status)) is not None:
        return over
    if round_.spec.suspend:
        return Decision(status, states.suspended())
    before = newest(status)
    at = retry_at(before, status, round_.spec.restarts) if before is not None else None
    if before is not None and at is not None and round_.now < at:
        return Decision(status, _until(before, at, round_.spec), Plan(wake_at=at))
    return _unless_stuck(status, round_.now, lambda: _open(round_, status))


def _until(before: Attempt, at: datetime, spec: TrainingJobSpec) -> states.State:
    """The state between two attempts. Stored data that is missing is the user's to put back."""
    missing = before.failure.missing if before.failure else None
    source = next((one for one in spec.data if one.stored is not None and one.stored.digest == missing), None)
    if before.outcome is not AttemptOutcome.INPUT_MISSING or source is None:
        return states.restarting(before, at)
    told = f"{cause(before)}; put it back, attempt {before.number + 1} starts at {at:%H:%M:%S} UTC"
    return states.stalled("InputMissing", f"spec.data[{source.name}].stored: {told}")


def _given_up(round_: Round, status: TrainingJobStatus) -> Decision | None:
    spec = round_.spec
    blamed = next((attempt for attempt in reversed(status.attempts) if attempt.outcome in BLAMED), None)
    why = f"; {cause(blamed)}" if blamed else ""
    limit = deadline(spec, status)
    if limit is not None and round_.now >= limit:
        message = f"spec.activeDeadline ({spec.active_deadline}) is over{why}"
        return Decision(_ended(status, round_.now), states.stalled("DeadlineExceeded", message))
    limit = pending_deadline(spec, status)
    if limit is not None and round_.now >= limit:
        message = f"the pods did not all run within spec.restarts.pendingTimeout ({spec.restarts.pending_timeout}){why}"
        return Decision(_ended(status, round_.now), states.stalled("PendingTimeout", message))
    if (spent := _spent(spec, status)) is not None:
        reason, limit_told = spent
        message = f"{cause(blamed)}; {limit_told}" if blamed else limit_told
        return Decision(_ended(status, round_.now), states.stalled(reason, f"{message}; {_AGAIN}"))
    return None


_AGAIN = "fix the cause, then delete and re-create the TrainingJob"


def _spent(spec: TrainingJobSpec, status: TrainingJobStatus) -> tuple[str, str] | None:
    """Reason and words where no other attempt follows; None where one does."""
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
        return "NotRetried", f"not retried, because {why_never(attempt.failure, policy.never)}"
    if found is Cause.INPUT_MISSING:
        return "InputMissing", f"{tally.inputs} attempts in a row did not find it"
    return (
        "DisruptionsExhausted",
        f"disruption limit reached (spec.restarts.maxDisruptions: {restarts.max_disruptions})",
    )


def _open(round_: Round, status: TrainingJobStatus) -> Decision:
    """Write the next attempt down, once all that it needs is there. Raises NotYet and SpecError."""
    spec = round_.spec
    refuse_oversized(spec)
    store = ready_store(round_.view, round_.owner.namespace, spec.store)
    _refuse_unshared(spec, store)
    refuse_stores(spec.pod_template, round_.view.select(ARTIFACT_STORE, round_.owner.namespace, {}))
    name = spec.pools[0] if spec.pools else None
    pool = known_pool(round_.view, name) if name else None
    wanted = StepSet(round_.owner, round_.view, round_.now, retry=round_.retry)
    progress = prepare(round_, Store(spec.store, store), status, wanted)
    if wanted.conflicts:
        raise wanted.conflicts[0]
    if progress.error is not None:
        stuck = _stuck(progress.status, progress.error, round_.now)
        return replace(stuck, plan=wanted.plan.plus(stuck.plan))
    if progress.pending:
        preparing = states.preparing(", ".join(progress.pending))
        return Decision(progress.status, preparing, wanted.plan, refused=wanted.refused)
    devices = pool.resource.per_pod if pool and pool.resource else 1
    status = opened(
        round_.owner,
        progress.status,
        pool=name,
        nodes=spec.nodes,
        processes=spec.processes_per_node or devices,
        now=round_.now,
    )
    attempt, before = status.attempts[-1], _restart_of(status)
    told = Happening("Normal", "AttemptStarted", f"attempt {attempt.number} starts as Job {attempt.job}")
    # The first one is not worth a write of its own: the status tells it.
    events = (told,) if attempt.number > 1 else ()
    network = replace(network_plan(round_, attempt), at_once=True) if attempt.number == 1 else Plan()
    return Decision(status, states.starting(attempt, before, None), wanted.plan.plus(network), events)


def _refuse_unshared(spec: TrainingJobSpec, store: ArtifactStoreSpec) -> None:
    if spec.image is not None and store.s3 is not None:
        problem = (
            f"what it leaves is sealed by another pod, and ArtifactStore {spec.store} is no folder they could share"
        )
        cure = "remove it, so that the script runs in the runtime image, or name a store on a PersistentVolumeClaim"
        raise SpecError("spec.image", problem, cure, reason="StoreNotShared")


# --- The newest attempt has succeeded ----------------------------------------------------------------------------


def _conclude(round_: Round, status: TrainingJobStatus, attempt: Attempt) -> Decision:
    """In the runtime image index 0 has sealed the output; an image of the user's leaves it to a task."""
    if round_.spec.image is None:
        return _succeeded(status, round_.now)
    store = known_store(round_.view, round_.owner.namespace, round_.spec.store)
    wanted = StepSet(round_.owner, round_.view, round_.now, retry=round_.retry)
    progress = seal(round_, Store(round_.spec.store, store), status, attempt, wanted)
    if wanted.conflicts:
        raise wanted.conflicts[0]
    if progress.error is not None:
        stuck = _stuck(status, progress.error, round_.now)
        return replace(stuck, plan=wanted.plan.plus(stuck.plan))
    if progress.sealed is None:
        return Decision(status, states.sealing(attempt, progress.pending), wanted.plan, refused=wanted.refused)
    made = {"artifact": progress.sealed.artifact, "metrics": progress.sealed.metrics}
    return _succeeded(status.model_copy(update=made), round_.now)


def _succeeded(status: TrainingJobStatus, now: datetime) -> Decision:
    state = states.succeeded(status.artifact)
    told = Happening("Normal", "Succeeded", state.verdicts["Complete"].message)
    return Decision(_ended(status, now), state, events=(told,))


def _ended(status: TrainingJobStatus, now: datetime) -> TrainingJobStatus:
    return status.model_copy(update={"finished_at": now, "pending_since": None})


def _after_the_end(
    obj: Object, round_: Round, present: TrainingJobStatus, finished_at: datetime, refusals: Sequence[Refusal]
) -> Plan:
    """What is recorded stands, whatever became of the children; they go when their time is over."""
    generation = round_.owner.generation
    verdicts = {
        one.type: Verdict(one.status == "True", one.reason, one.message)
        for one in present.conditions
        if one.status != "Unknown"
    }
    if (verdict := refused(refusals, present.conditions, round_.now)) is not None:
        verdicts[CHILD_REFUSED] = verdict
    conditions = with_verdicts(present.conditions, verdicts, generation, round_.now)
    status = present.model_copy(update={"observed_generation": generation, "conditions": conditions})
    plan = _status(obj, present, status, refusals)
    ttl = round_.spec.ttl_after_finished
    over_at = finished_at + timedelta_of(ttl) if ttl is not None else None
    if over_at is not None and round_.now >= over_at:
        return replace(plan, delete=everything(round_.owner, round_.view))
    return replace(plan, delete=superseded(round_.owner, present.attempts, round_.view), wake_at=over_at)


# --- From a decision to a plan -----------------------------------------------------------------------------------


def _unless_stuck(status: TrainingJobStatus, now: datetime, decide: Callable[[], Decision]) -> Decision:
    """The decision; where it cannot be taken, the ledger as it was, and why."""
    try:
        return decide()
    except NotYet as wait:
        return Decision(status, states.waiting(wait.reason, wait.message), Plan(wake_at=now + LOOK_AGAIN_AFTER))
    except SpecError as error:
        return _stuck(status, error, now)


def _stuck(status: TrainingJobStatus, error: SpecError, now: datetime) -> Decision:
    """Nothing goes on until somebody acts. It is derived anew in each round, and so leaves with its cause."""
    return Decision(status, states.stalled(error.reason, str(error)), Plan(wake_at=now + LOOK_AGAIN_AFTER))


def _written(
    obj: Object,
    owner: Owner,
    present: TrainingJobStatus,
    decision: Decision,
    now: datetime,
    refusals: Sequence[Refusal],
) -> Plan:
    state, attempt = decision.state, newest(decision.status)
    runs = attempt is not None and attempt.outcome is None and attempt.running_at is not None
    # What is waited for, or all that is wanted, is there: nothing that was refused keeps it from going on.
    elsewhere = ("Running", "BackOff", "StoreNotFound", "StoreNotReady", "PoolNotFound")
    verdicts = blocked(state.verdicts, refused(refusals, present.conditions, now, decision.refused), unless=elsewhere)
    status = decision.status.model_copy(
        update={
            "observed_generation": owner.generation,
            "phase": state.phase,
            "conditions": with_verdicts(present.conditions, verdicts, owner.generation, now),
            "workers": f"{attempt.nodes}/{attempt.nodes}"[:32] if attempt and runs else None,
        }
    )
    plan = decision.plan.plus(_status(obj, present, status, refusals))
    return replace(plan, events=(*decision.events, *_stalled_now(present, state)))


def _status(obj: Object, present: TrainingJobStatus, status: TrainingJobStatus, refusals: Sequence[Refusal]) -> Plan:
    whole = whole_status(obj, present, status, refusals)
    return Plan(status=None if whole == obj.get("status") else whole)


def _stalled_now(present: TrainingJobStatus, state: states.State) -> tuple[Happening, ...]:
    verdict = state.stalled
    before = condition(present.conditions, "Stalled")
    if verdict is None or (before and before.status == "True" and before.reason == verdict.reason):
        return ()
    return (Happening("Warning", verdict.reason, verdict.message),)


def _deadlines_ahead(round_: Round, status: TrainingJobStatus) -> tuple[datetime, ...]:
    """Deadlines that need a round of their own; none once training is over, and none that is past."""
    attempt = newest(status)
    if status.finished_at is not None or (attempt and attempt.outcome is AttemptOutcome.SUCCEEDED):
        return ()
    recovering = attempt is not None and bool(attempt.recoveries)  # its pods are gone: they wait for nothing any more
    limits = (deadline(round_.spec, status), None if recovering else pending_deadline(round_.spec, status))
    return tuple(limit for limit in limits if limit is not None and limit > round_.now)
