"""The planner of Steps: the Job of each try, and the result.

If another Step of the same namespace and store has done the same work, a Step uses its result. While the Job of another
Step does the work, it waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from slipway.api.errors import SpecError
from slipway.api.kinds import JOB, STEP, Object
from slipway.api.reading import read_status
from slipway.api.status import TaskRun, TaskState
from slipway.api.step import Step, StepSpec, StepStatus
from slipway.api.tasks import Task
from slipway.plan import conditions
from slipway.plan.conditions import ConditionValue, blocked, refused, with_conditions
from slipway.plan.egress import may_start
from slipway.plan.jobs.outcomes import DEADLINE_EXCEEDED, describe_cause, has_started
from slipway.plan.jobs.pending import PENDING_GRACE, is_running
from slipway.plan.jobs.pods import pods_of
from slipway.plan.observation import ClusterView, Observation, controller_uid
from slipway.plan.owner import Owner
from slipway.plan.parse import merged_status, parse
from slipway.plan.plan import Plan
from slipway.plan.references import (
    FOR_ALL,
    FOR_EVALUATION,
    RESYNC_INTERVAL,
    NotYet,
    StoreUse,
    known_store,
)
from slipway.plan.steps.owner import OwnerSettings, controller_of, owner_settings
from slipway.plan.steps.request import SHARE_LABEL, job_of, job_prefix
from slipway.plan.storemount import StoreMount, secret_of
from slipway.plan.tasks import (
    TaskSpec,
    follow_task,
    input_is_unusable,
    intended,
    next_try,
    pods_of_record,
    remade,
    retries_itself,
    succeeded,
    usual_resources,
    why_waiting,
    will_retry,
)

RUNNING_STATUS_DELAY = timedelta(seconds=10)
"""Time after which a running Step is shown as Running; a shorter Step saves that write of its status."""
OLDER_STEP_GRACE = timedelta(seconds=5)
"""Time for which a Step waits for an older one to start the same work."""
LONGEST_SHARED_WAIT = timedelta(hours=1)

Phase = Literal["Pending", "Running", "Succeeded", "Failed"]
_TASK: TypeAdapter[Task] = TypeAdapter(Task)


@dataclass(frozen=True, slots=True)
class _Progress:
    """The result of a round. quiet: the status need not be written."""

    run: TaskRun | None
    phase: Phase
    values: Mapping[str, ConditionValue]
    plan: Plan = field(default_factory=Plan)
    shared_from: str | None = None
    quiet: bool = False


def plan_step(obj: Object, observation: Observation) -> Plan:
    """Choose the next writes for one Step."""
    now, refusals = observation.now, observation.refusals
    step = Owner.of(obj)
    if step.deleting:
        return Plan()
    present = read_status(StepStatus, obj.get("status") or {})
    runs, retry = present.runs, present.retry
    try:
        spec = parse(Step, {"spec": obj.get("spec")}).spec
        progress = _progress(obj, step, spec, present, observation)
        runs, retry = spec.runs, spec.retry
    except NotYet as wait:
        again = Plan(wake_at=now + RESYNC_INTERVAL)
        progress = _Progress(present.run, "Pending", conditions.under_way(wait.reason, wait.message), again)
    except SpecError as error:
        again = Plan(wake_at=now + RESYNC_INTERVAL)
        progress = _Progress(present.run, "Pending", conditions.stalled(error.reason, str(error)), again)
    values = blocked(progress.values, refused(refusals, present.conditions, now))
    if progress.quiet and len(values) == len(progress.values):
        return progress.plan
    status = present.model_copy(
        update={
            "observed_generation": step.generation,
            "phase": progress.phase,
            "conditions": with_conditions(present.conditions, values, step.generation, now),
            "runs": runs,
            "retry": retry,
            "run": progress.run,
            "shared_from": progress.shared_from if progress.run != present.run else present.shared_from,
        }
    )
    whole = merged_status(obj, present, status, refusals)
    return progress.plan.plus(Plan(status=None if whole == obj.get("status") else whole))


def _progress(obj: Object, step: Owner, spec: StepSpec, present: StepStatus, observation: Observation) -> _Progress:
    view, now = observation.view, observation.now
    run, again = present.run, spec.runs > max(present.runs, 1)
    if run is not None and run.state is TaskState.SUCCEEDED and not again:
        return _done(run)
    settings = owner_settings(obj, view)
    task = _task_spec(step, spec, settings, view)
    if run is not None and run.state is TaskState.SUCCEEDED:
        run = remade(run, task, now)
    elif run is not None and run.state is TaskState.FAILED:
        asked = spec.retry is not None and spec.retry != present.retry
        if again or asked:
            run = next_try(run, task, now)
        elif input_is_unusable(run):
            return _failed(run)
    elif run is None and not again:
        if (shared := _shared(obj, spec, view)) is not None:
            return _done(shared[1], shared[0])
        if (wait := _wait_for_others(obj, step, spec, observation)) is not None:
            return wait
    live = view.get(JOB, step.namespace, job_of(step, run))
    run = run or intended(task, 1, datetime.fromisoformat((live or obj)["metadata"]["creationTimestamp"]))
    if settings.missing is not None and live is None and run.state is TaskState.INTENDED:
        raise settings.missing
    may = settings.may_start and _policy_holds(settings, task, view)
    after, plan = follow_task(step, run, task, observation, may_start=may)
    return _progress_of(step, present, after, task, plan, settings, observation)


def _task_spec(step: Owner, spec: StepSpec, settings: OwnerSettings, view: ClusterView) -> TaskSpec:
    """Return the task of a Step. Raises NotYet and SpecError for the stores, and SpecError for another digest.

    The owner has waited until the stores were ready, so they only have to exist.
    """
    try:
        parsed_task = _TASK.validate_python(spec.task)
    except ValidationError as error:
        problem = f"is not a task of this version of Slipway: {error.errors()[0]['msg']}"
        raise SpecError("spec.task", problem, "upgrade Slipway", reason="TaskUnknown") from error
    held_out = known_store(view, step.namespace, spec.held_out, FOR_EVALUATION) if spec.held_out else None
    store = known_store(view, step.namespace, spec.store, _use_of(spec.store, view, step.namespace))
    task = TaskSpec(
        spec.role,
        parsed_task,
        spec.image,
        StoreMount(store, held_out=held_out),
        job_prefix(step),
        settings.resources or usual_resources(parsed_task),
        settings.template,
        settings.placement,
        spec.folder,
        settings.deadline,
    )
    if task.digest != spec.digest:
        problem = "does not match the task: a store or an input was replaced after the Step was created"
        raise SpecError(
            "spec.digest", problem, "nothing: the owner of the step asks for another one", reason="DigestDiffers"
        )
    return task


def _use_of(name: str, view: ClusterView, namespace: str) -> StoreUse:
    """Return the use of a store: a Step that reads only evaluation data may name the store for it."""
    for use in (FOR_ALL, FOR_EVALUATION):
        try:
            known_store(view, namespace, name, use)
        except SpecError:
            continue
        return use
    return FOR_ALL


def _policy_holds(settings: OwnerSettings, task: TaskSpec, view: ClusterView) -> bool:
    """Return True if the NetworkPolicy of the pod exists, or it needs none. Raises SpecError (NameConflict)."""
    return task.held_out is not None or may_start(settings.owner, task.store.spec, view)


def _progress_of(
    step: Owner,
    present: StepStatus,
    run: TaskRun,
    task: TaskSpec,
    plan: Plan,
    settings: OwnerSettings,
    observation: Observation,
) -> _Progress:
    now = observation.now
    if succeeded(run):
        return replace(_done(run), plan=plan)
    if run.state is TaskState.FAILED and not will_retry(run):
        return replace(_failed(run), plan=plan)
    conflict = step.conflict(observation.view, JOB, run.job)
    if conflict is not None:  # the Job is identified by its UID, and continues
        plan = plan.plus(Plan(wake_at=now + RESYNC_INTERVAL))
        return _Progress(run, "Running", conditions.stalled(conflict.reason, str(conflict)), plan)
    why, wake_at = why_waiting(step, run, observation, secret_of(task.store.spec))
    plan = plan.plus(Plan(wake_at=wake_at))
    if why is not None:
        reason = "BackOff" if run.state is TaskState.FAILED else "PodsNotRunning"
        return _Progress(run, "Pending", conditions.under_way(reason, why), plan)
    if not settings.may_start and run.state is TaskState.INTENDED:
        suspended = conditions.inactive("Suspended", f"{settings.owner.kind} {settings.owner.name} is suspended")
        return _Progress(run, "Pending", suspended, plan)
    if run.state is not TaskState.RUNNING:
        quiet = present.run is None
        return _Progress(
            run, "Pending", conditions.under_way("Starting", f"job/{run.job} is being created"), plan, quiet=quiet
        )
    pods = pods_of_record(step, run, observation).trusted
    if pods and not any(has_started(pod) for pod in pods):
        starting = conditions.under_way("Starting", f"the pod of job/{run.job} does not run yet")
        return _Progress(run, "Pending", starting, plan, quiet=present.run is None)
    shown_at = (run.started_at or now) + RUNNING_STATUS_DELAY
    quiet = now < shown_at and present.run is None
    plan = plan.plus(Plan(wake_at=shown_at if quiet else None))
    return _Progress(run, "Running", conditions.under_way("Running", f"job/{run.job} runs"), plan, quiet=quiet)


def _failed(run: TaskRun) -> _Progress:
    cause = describe_cause(run.failure) if run.failure else "it failed"
    again = "; Slipway retries" if retries_itself(run) else ""
    gone = run.failure is not None and run.failure.reason == DEADLINE_EXCEEDED
    logs = "" if gone else f"; see the logs of job/{run.job}"
    return _Progress(run, "Failed", conditions.stalled("StepFailed", f"{cause}{logs}{again}"))


def _done(run: TaskRun, shared_from: str | None = None) -> _Progress:
    message = f"made {run.artifact.digest}" if run.artifact else "succeeded without an artifact"
    return _Progress(run, "Succeeded", conditions.ready("Succeeded", message), shared_from=shared_from)


# --- Steps of others that do the same work ------------------------------------------------------------------------


def _others(obj: Object, spec: StepSpec, view: ClusterView) -> list[Object]:
    """Return the Steps of existing owners with the same work on the same files, oldest first."""
    share = (obj["metadata"].get("labels") or {}).get(SHARE_LABEL)
    same = view.select(STEP, obj["metadata"]["namespace"], {SHARE_LABEL: share}) if share else ()
    return sorted(
        (
            one
            for one in same
            if one["metadata"]["uid"] != obj["metadata"]["uid"]
            and (one["spec"].get("digest"), one["spec"].get("folder")) == (spec.digest, spec.folder)
            and (owner := controller_of(one, view)) is not None
            and not Owner.of(owner).deleting
        ),
        key=_age,
    )


def _age(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["creationTimestamp"], obj["metadata"]["uid"]


def _shared(obj: Object, spec: StepSpec, view: ClusterView) -> tuple[str, TaskRun] | None:
    """Return the name of a Step that has done the work, and its run."""
    for other in _others(obj, spec, view):
        status = read_status(StepStatus, other.get("status") or {})
        if status.run is not None and succeeded(status.run) and status.runs >= int(other["spec"].get("runs", 1)):
            return other["metadata"]["name"], status.run.model_copy(update={"remade": 0})
    return None


def _wait_for_others(obj: Object, step: Owner, spec: StepSpec, observation: Observation) -> _Progress | None:
    """Return the progress of waiting for a Step that does the work, or is about to; None if there is none.

    Doing the work twice is harmless, so a Step does not wait for a pod that does not run, nor for ever.
    """
    view, now = observation.view, observation.now
    made_at = datetime.fromisoformat(obj["metadata"]["creationTimestamp"])
    if now >= made_at + LONGEST_SHARED_WAIT or view.get(JOB, step.namespace, job_of(step, None)) is not None:
        return None
    for other in _others(obj, spec, view):
        name = other["metadata"]["name"]
        if "deletionTimestamp" in other["metadata"]:
            continue
        if (wake_at := _busy_until(Owner.of(other), other, observation)) is not None:
            message = f"step {name} does the same work; its result is shared"
            wait = Plan(wake_at=min(wake_at, made_at + LONGEST_SHARED_WAIT))
            return _Progress(None, "Pending", conditions.under_way("Shared", message), wait)
        if now < made_at + OLDER_STEP_GRACE and _age(other) < _age(obj) and not other.get("status", {}).get("run"):
            message = f"step {name} is about to do the same work"
            wait = Plan(wake_at=made_at + OLDER_STEP_GRACE)
            return _Progress(None, "Pending", conditions.under_way("Shared", message), wait, quiet=True)
    return None


def _busy_until(other: Owner, obj: Object, observation: Observation) -> datetime | None:
    """Return when to check a Step whose pod runs, or whose Job is new, again; None if it makes no progress."""
    status = read_status(StepStatus, obj.get("status") or {})
    if status.run is not None and status.run.state in (TaskState.SUCCEEDED, TaskState.FAILED):
        return None
    now = observation.now
    job = observation.view.get(JOB, other.namespace, job_of(other, status.run))
    if job is None or controller_uid(job) != other.uid or "deletionTimestamp" in job["metadata"]:
        return None
    if any(is_running(pod) for pod in pods_of(job, observation).trusted):
        return now + LONGEST_SHARED_WAIT
    grace = datetime.fromisoformat(job["metadata"]["creationTimestamp"]) + PENDING_GRACE
    return grace if now < grace else None
