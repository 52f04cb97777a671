"""ArtifactStore: usable once its claim exists and can be shared."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple

from slipway.api.artifactstore import ArtifactStore, ArtifactStoreStatus
from slipway.api.errors import SpecError
from slipway.api.kinds import PVC, Object
from slipway.plan import conditions
from slipway.plan.conditions import Verdict, with_verdicts
from slipway.plan.parent import Parent
from slipway.plan.parse import parsed
from slipway.plan.plan import Happening, Plan, Settings
from slipway.plan.references import LOOK_AGAIN_AFTER, condition
from slipway.plan.seen import Seen

SHARED_MODE = "ReadWriteMany"


class _Finding(NamedTuple):
    phase: Literal["Pending", "Ready", "Failed"]
    verdicts: dict[str, Verdict]


def plan_store(obj: Object, seen: Seen, settings: Settings, now: datetime) -> Plan:  # noqa: ARG001 - as all planners
    """Say whether pods can use the store. It owns nothing."""
    parent = Parent.of(obj)
    if parent.deleting:
        return Plan()
    present = ArtifactStoreStatus.model_validate(obj.get("status", {}))
    try:
        found = _look(parsed(ArtifactStore, obj), parent, seen)
    except SpecError as error:
        found = _Finding("Failed", conditions.stalled(error.reason, str(error)))
    status = ArtifactStoreStatus(
        observed_generation=parent.generation,
        phase=found.phase,
        conditions=with_verdicts(present.conditions, found.verdicts, parent.generation, now),
    )
    wire = status.to_wire()
    return Plan(
        status=None if wire == obj.get("status") else wire,
        events=_events(present, found),
        wake_at=None if found.phase == "Ready" else now + LOOK_AGAIN_AFTER,
    )


def _look(store: ArtifactStore, parent: Parent, seen: Seen) -> _Finding:
    name = store.spec.persistent_volume_claim.claim_name
    claim = seen.get(PVC, parent.namespace, name)
    if claim is None:
        message = f"there is no PersistentVolumeClaim {name} in this namespace; create it"
        return _Finding("Pending", conditions.under_way("ClaimNotFound", message))
    modes = claim.get("spec", {}).get("accessModes", [])
    if SHARED_MODE not in modes:
        raise SpecError(
            "spec.persistentVolumeClaim.claimName",
            f"claim {name} has the access modes {', '.join(modes) or 'none'}, and pods of several nodes share a store",
            f"name a claim whose accessModes hold {SHARED_MODE}",
            reason="ClaimNotShared",
        )
    return _Finding("Ready", conditions.ready("ClaimFound", f"claim {name} can be shared"))


def _events(present: ArtifactStoreStatus, found: _Finding) -> tuple[Happening, ...]:
    verdict = found.verdicts["Stalled"]
    before = condition(present.conditions, "Stalled")
    if not verdict.status or (before and before.status == "True" and before.reason == verdict.reason):
        return ()
    return (Happening("Warning", verdict.reason, verdict.message),)
