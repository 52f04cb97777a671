"""ArtifactStore: a claim is ready once it exists and can be shared, a bucket once a pod has checked it.

The operator reads no Secret and no store. A failed check is repeated at growing intervals: no watch reports that a
Secret or a policy of the bucket was corrected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from slipway.api.artifactstore import ArtifactStore, ArtifactStoreSpec, ArtifactStoreStatus, ClaimStore
from slipway.api.errors import SpecError, StoreAway, StoreError
from slipway.api.kinds import JOB, PVC, Object
from slipway.api.reading import read_status
from slipway.api.scheduling import Resources
from slipway.api.status import TaskRun, TaskState
from slipway.api.tasks import CheckTask
from slipway.plan import conditions
from slipway.plan.conditions import ConditionValue, blocked, refused, with_conditions
from slipway.plan.egress import OPEN_EGRESS, egress_rules
from slipway.plan.jobs.pending import missing_secret
from slipway.plan.observation import ClusterView, Observation
from slipway.plan.owner import Owner, deletion
from slipway.plan.parse import merged_status, parse
from slipway.plan.plan import EventRecord, Plan
from slipway.plan.references import RESYNC_INTERVAL, condition
from slipway.plan.storemount import StoreMount, secret_of
from slipway.plan.tasks import (
    TaskSpec,
    follow_task,
    intended,
    pods_of_record,
    recheck_at,
    succeeded,
    why_waiting,
    will_retry,
)

SHARED_MODE = "ReadWriteMany"


def plan_store(obj: Object, observation: Observation) -> Plan:
    """Choose the next writes for one ArtifactStore."""
    now, refusals = observation.now, observation.refusals
    owner = Owner.of(obj)
    if owner.deleting:
        return Plan()
    present = read_status(ArtifactStoreStatus, obj.get("status") or {})
    try:
        result = _check(parse(ArtifactStore, obj), present, owner, observation)
    except SpecError as error:
        again = Plan(wake_at=now + RESYNC_INTERVAL)
        result = CheckResult("Failed", conditions.stalled(error.reason, str(error)), present.check, again)
    values = blocked(result.values, refused(refusals, present.conditions, now))
    status = ArtifactStoreStatus(
        observed_generation=owner.generation,
        phase=result.phase,
        conditions=with_conditions(present.conditions, values, owner.generation, now),
        check=result.check,
    )
    whole = merged_status(obj, present, status, refusals)
    return replace(result.plan, status=None if whole == obj.get("status") else whole, events=_events(present, result))


def _check(store: ArtifactStore, present: ArtifactStoreStatus, owner: Owner, observation: Observation) -> CheckResult:
    if (claim := store.spec.persistent_volume_claim) is not None:
        return _check_claim(claim, owner, observation.view, observation.now)
    return check_bucket(store.spec, present, owner, observation)


def _check_claim(named: ClaimStore, owner: Owner, view: ClusterView, now: datetime) -> CheckResult:
    name = named.claim_name
    claim = view.get(PVC, owner.namespace, name)
    if claim is None:
        message = f"there is no PersistentVolumeClaim {name} in this namespace; create it"
        return CheckResult(
            "Pending", conditions.under_way("ClaimNotFound", message), plan=Plan(wake_at=now + RESYNC_INTERVAL)
        )
    modes = claim.get("spec", {}).get("accessModes", [])
    if SHARED_MODE not in modes:
        raise SpecError(
            "spec.persistentVolumeClaim.claimName",
            f"claim {name} has the access modes {', '.join(modes) or 'none'}, and pods on several nodes use a store",
            f"name a claim with access mode {SHARED_MODE}",
            reason="ClaimNotShared",
        )
    return CheckResult("Ready", conditions.ready("ClaimFound", f"claim {name} can be shared"))


def _events(present: ArtifactStoreStatus, result: CheckResult) -> tuple[EventRecord, ...]:
    verdict = result.values["Stalled"]
    before = condition(present.conditions, "Stalled")
    if not verdict.status or (before and before.status == "True" and before.reason == verdict.reason):
        return ()
    return (EventRecord("Warning", verdict.reason, verdict.message),)


CHECK = "check-store"
FOLDER = "check"
"""Folder below the store's root that the pod writes to check its permissions."""

Phase = Literal["Pending", "Ready", "Failed"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The state of a store. check: the newest try for a bucket; plan: the next writes."""

    phase: Phase
    values: Mapping[str, ConditionValue]
    check: TaskRun | None = None
    plan: Plan = field(default_factory=Plan)


def check_bucket(
    spec: ArtifactStoreSpec,
    present: ArtifactStoreStatus,
    owner: Owner,
    observation: Observation,
) -> CheckResult:
    """Check a bucket by a pod. Raises SpecError if another owner has the Job's name."""
    view, settings, now = observation.view, observation.settings, observation.now
    small = Resources(cpu="100m", memory="256Mi")
    task = TaskSpec(
        CHECK, CheckTask(), settings.runtime_image, StoreMount(spec), owner.child_name("check"), small, folder=FOLDER
    )
    before = present.check
    plan = Plan()
    if before is not None and (due_at := _due_at(before)) is not None:
        if now >= due_at:
            record = intended(task, before.tries + 1, now)
        else:
            record, plan = before, Plan(wake_at=due_at)
    else:
        record, plan = follow_task(owner, before, task, observation)
    result = _check_result(owner, spec, record, present, observation)
    plan = plan.plus(Plan(delete=tuple(deletion(job) for job in _finished_jobs(record, owner, view))))
    return replace(result, check=record, plan=plan.plus(result.plan))


def _due_at(record: TaskRun) -> datetime | None:
    """Return the time of the next try after a final failure; None for any other try."""
    if record.state is not TaskState.FAILED or will_retry(record):
        return None
    return recheck_at(record)


def _finished_jobs(record: TaskRun, owner: Owner, view: ClusterView) -> list[Object]:
    """Return the Jobs to delete: those of earlier tries and a successful one. A failed Job stays for its log."""
    jobs = [job for job in view.owned(JOB, owner.namespace, owner.uid) if "deletionTimestamp" not in job["metadata"]]
    return [job for job in jobs if succeeded(record) or not f"{job['metadata']['name']}-".startswith(f"{record.job}-")]


def _check_result(
    owner: Owner,
    spec: ArtifactStoreSpec,
    record: TaskRun,
    present: ArtifactStoreStatus,
    observation: Observation,
) -> CheckResult:
    bucket = spec.s3.bucket if spec.s3 else ""
    if succeeded(record):
        answered = f"bucket {bucket} was listed, read and written"
        open_to = f"; {OPEN_EGRESS}" if egress_rules(spec) is None else ""
        return CheckResult("Ready", conditions.ready("BucketAnswered", answered + open_to))
    if record.state is TaskState.FAILED:
        return _failed(record)
    pods, secret = pods_of_record(owner, record, observation).trusted, secret_of(spec)
    if (missing := next((why for pod in pods if (why := missing_secret(pod, secret))), None)) is not None:
        return CheckResult("Pending", conditions.under_way("SecretNotFound", missing))
    if record.tries > 1 and present.phase is not None:  # the result of the last try is shown until this one has ended
        last = {one.type: ConditionValue(one.status == "True", one.reason, one.message) for one in present.conditions}
        return CheckResult(present.phase, last)
    why, wake_at = why_waiting(owner, record, observation, secret)
    message = f"job/{record.job}: {why}" if why else f"job/{record.job} checks bucket {bucket}"
    return CheckResult("Pending", conditions.under_way("Checking", message), plan=Plan(wake_at=wake_at))


def _failed(record: TaskRun) -> CheckResult:
    failure = record.failure
    kind = failure.exception if failure else None
    message = failure.message if failure and failure.message else f"job/{record.job} failed; see its log"
    if kind == StoreAway.__name__:
        return CheckResult("Pending", conditions.under_way("StoreAway", message))
    if will_retry(record):
        return CheckResult("Pending", conditions.under_way("Checking", message))
    if kind == StoreError.__name__:
        return CheckResult("Failed", conditions.stalled("StoreRefused", message))
    reason = ": ".join(part for part in (kind or (failure.reason if failure else None), message) if part)
    return CheckResult("Failed", conditions.stalled("CheckFailed", f"{reason}; see the log of job/{record.job}"))
