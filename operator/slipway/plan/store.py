"""ArtifactStore: a claim is usable once it exists and can be shared, a bucket once a pod has tried it.

The operator reads no Secret and touches no store. A try that failed is repeated, less and less often: no watch shows
that a Secret or a policy of the bucket was corrected.
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
    looked_at_again,
    pods_of_record,
    succeeded,
    why_waiting,
    will_retry,
)

SHARED_MODE = "ReadWriteMany"


def plan_store(obj: Object, observation: Observation) -> Plan:
    """Say whether pods can use the store."""
    now, refusals = observation.now, observation.refusals
    owner = Owner.of(obj)
    if owner.deleting:
        return Plan()
    present = read_status(ArtifactStoreStatus, obj.get("status") or {})
    try:
        found = _look(parse(ArtifactStore, obj), present, owner, observation)
    except SpecError as error:
        again = Plan(wake_at=now + RESYNC_INTERVAL)
        found = Found("Failed", conditions.stalled(error.reason, str(error)), present.check, again)
    values = blocked(found.values, refused(refusals, present.conditions, now))
    status = ArtifactStoreStatus(
        observed_generation=owner.generation,
        phase=found.phase,
        conditions=with_conditions(present.conditions, values, owner.generation, now),
        check=found.check,
    )
    whole = merged_status(obj, present, status, refusals)
    return replace(found.plan, status=None if whole == obj.get("status") else whole, events=_events(present, found))


def _look(store: ArtifactStore, present: ArtifactStoreStatus, owner: Owner, observation: Observation) -> Found:
    if (claim := store.spec.persistent_volume_claim) is not None:
        return _claim(claim, owner, observation.view, observation.now)
    return try_bucket(store.spec, present, owner, observation)


def _claim(named: ClaimStore, owner: Owner, view: ClusterView, now: datetime) -> Found:
    name = named.claim_name
    claim = view.get(PVC, owner.namespace, name)
    if claim is None:
        message = f"there is no PersistentVolumeClaim {name} in this namespace; create it"
        return Found(
            "Pending", conditions.under_way("ClaimNotFound", message), plan=Plan(wake_at=now + RESYNC_INTERVAL)
        )
    modes = claim.get("spec", {}).get("accessModes", [])
    if SHARED_MODE not in modes:
        raise SpecError(
            "spec.persistentVolumeClaim.claimName",
            f"claim {name} has the access modes {', '.join(modes) or 'none'}, and pods of several nodes share a store",
            f"name a claim whose accessModes hold {SHARED_MODE}",
            reason="ClaimNotShared",
        )
    return Found("Ready", conditions.ready("ClaimFound", f"claim {name} can be shared"))


def _events(present: ArtifactStoreStatus, found: Found) -> tuple[EventRecord, ...]:
    verdict = found.values["Stalled"]
    before = condition(present.conditions, "Stalled")
    if not verdict.status or (before and before.status == "True" and before.reason == verdict.reason):
        return ()
    return (EventRecord("Warning", verdict.reason, verdict.message),)


CHECK = "check-store"
FOLDER = "check"
"""Below the store's root: what the pod writes to see whether it may."""

Phase = Literal["Pending", "Ready", "Failed"]


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a store in one round. check: of a bucket, the newest try; plan: the writes that bring it on."""

    phase: Phase
    values: Mapping[str, ConditionValue]
    check: TaskRun | None = None
    plan: Plan = field(default_factory=Plan)


def try_bucket(
    spec: ArtifactStoreSpec,
    present: ArtifactStoreStatus,
    owner: Owner,
    observation: Observation,
) -> Found:
    """Raises SpecError where another owner has the Job's name."""
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
    found = _found(owner, spec, record, present, observation)
    plan = plan.plus(Plan(delete=tuple(deletion(job) for job in _over(record, owner, view))))
    return replace(found, check=record, plan=plan.plus(found.plan))


def _due_at(record: TaskRun) -> datetime | None:
    """When a try that failed for good is made again; None for any other."""
    if record.state is not TaskState.FAILED or will_retry(record):
        return None
    return looked_at_again(record)


def _over(record: TaskRun, owner: Owner, view: ClusterView) -> list[Object]:
    """Jobs that nobody needs: of earlier tries, and of one that went well. A failed one keeps its log."""
    jobs = [job for job in view.owned(JOB, owner.namespace, owner.uid) if "deletionTimestamp" not in job["metadata"]]
    return [job for job in jobs if succeeded(record) or not f"{job['metadata']['name']}-".startswith(f"{record.job}-")]


def _found(
    owner: Owner,
    spec: ArtifactStoreSpec,
    record: TaskRun,
    present: ArtifactStoreStatus,
    observation: Observation,
) -> Found:
    bucket = spec.s3.bucket if spec.s3 else ""
    if succeeded(record):
        answered = f"bucket {bucket} was listed, read and written"
        open_to = f"; {OPEN_EGRESS}" if egress_rules(spec) is None else ""
        return Found("Ready", conditions.ready("BucketAnswered", answered + open_to))
    if record.state is TaskState.FAILED:
        return _failed(record)
    pods, secret = pods_of_record(owner, record, observation).believed, secret_of(spec)
    if (missing := next((why for pod in pods if (why := missing_secret(pod, secret))), None)) is not None:
        return Found("Pending", conditions.under_way("SecretNotFound", missing))
    if record.tries > 1 and present.phase is not None:  # what the last try said holds until this one has ended
        said = {one.type: ConditionValue(one.status == "True", one.reason, one.message) for one in present.conditions}
        return Found(present.phase, said)
    why, wake_at = why_waiting(owner, record, observation, secret)
    message = f"job/{record.job}: {why}" if why else f"job/{record.job} tries bucket {bucket}"
    return Found("Pending", conditions.under_way("Checking", message), plan=Plan(wake_at=wake_at))


def _failed(record: TaskRun) -> Found:
    failure = record.failure
    kind = failure.exception if failure else None
    said = failure.message if failure and failure.message else f"job/{record.job} failed; its log says why"
    if kind == StoreAway.__name__:
        return Found("Pending", conditions.under_way("StoreAway", said))
    if will_retry(record):
        return Found("Pending", conditions.under_way("Checking", said))
    if kind == StoreError.__name__:
        return Found("Failed", conditions.stalled("StoreRefused", said))
    reason = ": ".join(part for part in (kind or (failure.reason if failure else None), said) if part)
    return Found("Failed", conditions.stalled("CheckFailed", f"{reason}; see the log of job/{record.job}"))
