"""ArtifactStore: a claim is usable once it exists and can be shared, a bucket once a pod has tried it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from slipway.api.artifactstore import ArtifactStore, ArtifactStoreStatus, ClaimStore
from slipway.api.errors import SpecError
from slipway.api.kinds import PVC, Object
from slipway.api.reading import read_status
from slipway.plan import conditions
from slipway.plan.conditions import with_conditions
from slipway.plan.observation import Observation
from slipway.plan.owner import Owner
from slipway.plan.parse import merged_status, parse
from slipway.plan.plan import EventRecord, Plan
from slipway.plan.references import RESYNC_INTERVAL, condition
from slipway.plan.refused import blocked, refused
from slipway.plan.storecheck import Found, try_bucket
from slipway.plan.view import ClusterView

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
