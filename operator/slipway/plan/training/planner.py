"""TrainingJob: the state table, from what is recorded and seen to what is recorded next and written.

recorded                     and                            then
finished                                                    remove leftovers; the children after the TTL
an attempt is open           its Job is not made            make it, or cancel it where the spec changed
                             its Job has ended              record how; go on as for an ended one
                             suspended, or too late         close it
the newest succeeded         the image is the user's        seal, then finish
                             it is ours                     finish
the newest ended otherwise,  too late, or restarts spent    finish as failed
or there is none             suspended                      rest
                             the back-off is not over       wait
                             store, pool or data missing    wait; prepare the data
                                                            open the next attempt
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from slipway.api.artifactstore import ArtifactStoreSpec
from slipway.api.base import timedelta_of
from slipway.api.errors import SpecError
from slipway.api.kinds import Object
from slipway.api.trainingjob import Attempt, AttemptOutcome, TrainingJob, TrainingJobSpec, TrainingJobStatus
from slipway.plan.conditions import with_verdicts
from slipway.plan.parent import Parent
from slipway.plan.parse import parsed
from slipway.plan.plan import Happening, Plan, Settings, earliest
from slipway.plan.references import LOOK_AGAIN_AFTER, NotYet, condition, known_pool, known_store, ready_store
from slipway.plan.seen import Seen
from slipway.plan.training import states
from slipway.plan.training.attempts import cause, newest, opened, with_attempt
from slipway.plan.training.cleanup import everything, superseded
from slipway.plan.training.follow import Followed, follow
from slipway.plan.training.retry import counts, deadline, exhausted, retry_at
from slipway.plan.training.round import Decision, Round
from slipway.plan.training.works import SEAL, known_tasks, prepare, seal

_BLAMED = (AttemptOutcome.FAILED, AttemptOutcome.PREEMPTED)
"""Outcomes after which the next attempt is a restart."""


def plan_training(obj: Object, seen: Seen, settings: Settings, now: datetime) -> Plan:
    """Choose the next writes of one TrainingJob. Raises ValidationError for a status that is not one of ours."""
    parent = Parent.of(obj)
    if parent.deleting:
        return Plan()
    now = now.replace(microsecond=0)
    present = TrainingJobStatus.model_validate(obj.get("status", {}))
    try:
        spec = parsed(TrainingJob, obj).spec
    except SpecError as error:
        finished = present.finished_at is not None
        return Plan() if finished else _written(obj, parent, present, _stuck(present, error, now), now)
    round_ = Round(parent, spec, seen, settings, now)
    if present.finished_at is not None:
        return _after_the_end(obj, round_, present, present.finished_at)
    decision = _unless_stuck(present, now, lambda: _decide(round_, present))
    plan = _written(obj, parent, present, decision, now)
    return replace(
        plan,
        delete=(*plan.delete, *superseded(parent, present.attempts, seen)),
        wake_at=earliest((plan.wake_at, _deadline_ahead(round_, decision.status))),
    )


def _decide(round_: Round, status: TrainingJobStatus) -> Decision:
    attempt = newest(status)
    if attempt is None:
        return _between(round_, status)
    if attempt.outcome is None:
        return _follow(round_, status, attempt)
    if attempt.outcome is AttemptOutcome.SUCCEEDED:
        return _conclude(round_, status, attempt)
    return _between(round_, status)


# --- An attempt is open ------------------------------------------------------------------------------------------


def _follow(round_: Round, status: TrainingJobStatus, before: Attempt) -> Decision:
    found = follow(round_, status, before)
    attempt = found.attempt
    status = with_attempt(status, attempt)
    if attempt.outcome is None:
        return Decision(status, _state_of(status, found), found.plan)
    if attempt.outcome is AttemptOutcome.SUCCEEDED:
        if found.report is not None:
            made = {"artifact": found.report.artifact, "metrics": found.report.metrics}
            status = status.model_copy(update=made)
        after = _unless_stuck(status, round_.now, lambda: _conclude(round_, status, attempt))
        return replace(after, plan=found.plan.plus(after.plan))
    if counts(attempt, round_.spec.restarts):
        status = status.model_copy(update={"restarts": status.restarts + 1})
    after = _between(round_, status)
    return replace(after, plan=found.plan.plus(after.plan), events=(*_told(attempt, after), *after.events))


def _state_of(status: TrainingJobStatus, found: Followed) -> states.State:
    if found.attempt.running_at is not None:
        return states.running(found.attempt)
    return states.starting(found.attempt, _restart_of(status), found.trouble)


def _restart_of(status: TrainingJobStatus) -> Attempt | None:
    """The failed attempt that the newest one follows; None where it is the first, or follows a suspension."""
    before = status.attempts[-2] if len(status.attempts) > 1 else None
    return before if before is not None and before.outcome in _BLAMED else None


def _told(attempt: Attempt, after: Decision) -> tuple[Happening, ...]:
    """The Event of an attempt's end. A last failure is told by the end of the whole job."""
    if attempt.outcome is AttemptOutcome.SUSPENDED:
        return (Happening("Normal", "Suspended", f"attempt {attempt.number} was ended; it does not count"),)
    if attempt.outcome in _BLAMED and after.status.finished_at is None:
        return (Happening("Warning", f"Attempt{attempt.outcome}", cause(attempt)),)
    return ()


# --- No attempt is open, and none has succeeded ------------------------------------------------------------------


def _between(round_: Round, status: TrainingJobStatus) -> Decision:
    if (over := _given_up(round_, status)) is not None:
        return over
    if round_.spec.suspend:
        return Decision(status, states.suspended())
    before = newest(status)
    if before is not None and round_.now < (at := retry_at(before, status, round_.spec.restarts)):
        return Decision(status, states.restarting(before, at), Plan(wake_at=at))
    return _unless_stuck(status, round_.now, lambda: _open(round_, status))


def _given_up(round_: Round, status: TrainingJobStatus) -> Decision | None:
    spec = round_.spec
    blamed = next((attempt for attempt in reversed(status.attempts) if attempt.outcome in _BLAMED), None)
    why = f"; {cause(blamed)}" if blamed else ""
    limit = deadline(spec, status)
    if limit is not None and round_.now >= limit:
        message = f"spec.activeDeadline ({spec.active_deadline}) is over{why}"
        return Decision(_ended(status, round_.now), states.stalled("DeadlineExceeded", message))
    if exhausted(status, spec.restarts):
        spent = f"spec.restarts.max ({spec.restarts.max}) is spent; mend the cause and create the TrainingJob anew"
        message = f"{cause(blamed)}; {spent}" if blamed else spent
        return Decision(_ended(status, round_.now), states.stalled("RestartsExhausted", message))
    return None


def _open(round_: Round, status: TrainingJobStatus) -> Decision:
    """Write the next attempt down, once all that it needs is there. Raises NotYet and SpecError."""
    spec = round_.spec
    store = ready_store(round_.seen, round_.parent.namespace, spec.store)
    _refuse_unshared(spec, store)
    name = spec.pools[0] if spec.pools else None
    pool = known_pool(round_.seen, name) if name else None
    progress = prepare(round_, store, status)
    if progress.error is not None:
        stuck = _stuck(progress.status, progress.error, round_.now)
        return replace(stuck, plan=progress.plan.plus(stuck.plan))
    if progress.pending:
        return Decision(progress.status, states.preparing(", ".join(progress.pending)), progress.plan)
    devices = pool.resource.per_pod if pool and pool.resource else 1
    status = opened(
        round_.parent,
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
    return Decision(status, states.starting(attempt, before, None), progress.plan, events)


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
    store = known_store(round_.seen, round_.parent.namespace, round_.spec.store)
    progress = seal(round_, store, status, attempt)
    if progress.error is not None:
        stuck = _stuck(progress.status, progress.error, round_.now)
        return replace(stuck, plan=progress.plan.plus(stuck.plan))
    if progress.pending:
        return Decision(progress.status, states.sealing(attempt), progress.plan)
    sealed = known_tasks(progress.status)[SEAL]
    made = {"artifact": sealed.artifact, "metrics": sealed.metrics}
    return _succeeded(progress.status.model_copy(update=made), round_.now)


def _succeeded(status: TrainingJobStatus, now: datetime) -> Decision:
    state = states.succeeded(status.artifact)
    told = Happening("Normal", "Succeeded", state.verdicts["Complete"].message)
    return Decision(_ended(status, now), state, events=(told,))


def _ended(status: TrainingJobStatus, now: datetime) -> TrainingJobStatus:
    return status.model_copy(update={"finished_at": now})


def _after_the_end(obj: Object, round_: Round, present: TrainingJobStatus, finished_at: datetime) -> Plan:
    """What is recorded stands, whatever became of the children; they go when their time is over."""
    generation = round_.parent.generation
    conditions = tuple(known.model_copy(update={"observed_generation": generation}) for known in present.conditions)
    status = present.model_copy(update={"observed_generation": generation, "conditions": conditions})
    plan = _status(obj, status)
    ttl = round_.spec.ttl_after_finished
    over_at = finished_at + timedelta_of(ttl) if ttl is not None else None
    if over_at is not None and round_.now >= over_at:
        return replace(plan, delete=everything(round_.parent, round_.seen))
    return replace(plan, delete=superseded(round_.parent, present.attempts, round_.seen), wake_at=over_at)


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


def _written(obj: Object, parent: Parent, present: TrainingJobStatus, decision: Decision, now: datetime) -> Plan:
    state, attempt = decision.state, newest(decision.status)
    runs = attempt is not None and attempt.outcome is None and attempt.running_at is not None
    status = decision.status.model_copy(
        update={
            "observed_generation": parent.generation,
            "phase": state.phase,
            "conditions": with_verdicts(present.conditions, state.verdicts, parent.generation, now),
            "workers": f"{attempt.nodes}/{attempt.nodes}" if attempt and runs else None,
        }
    )
    plan = decision.plan.plus(_status(obj, status))
    return replace(plan, events=(*decision.events, *_stalled_now(present, state)))


def _status(obj: Object, status: TrainingJobStatus) -> Plan:
    wire = status.to_wire()
    return Plan(status=None if wire == obj.get("status") else wire)


def _stalled_now(present: TrainingJobStatus, state: states.State) -> tuple[Happening, ...]:
    verdict = state.stalled
    before = condition(present.conditions, "Stalled")
    if verdict is None or (before and before.status == "True" and before.reason == verdict.reason):
        return ()
    return (Happening("Warning", verdict.reason, verdict.message),)


def _deadline_ahead(round_: Round, status: TrainingJobStatus) -> datetime | None:
    """When the deadline needs a round of its own; None once training is over, and for one that changes nothing more."""
    attempt = newest(status)
    if status.finished_at is not None or (attempt and attempt.outcome is AttemptOutcome.SUCCEEDED):
        return None
    limit = deadline(round_.spec, status)
    return limit if limit is not None and limit > round_.now else None
