"""What the pod of a Step has from the spec of its owner: settings that no Step could carry for somebody else."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import ValidationError

from slipway.api.kinds import MODEL_DEPLOYMENT, OWNERS, TRAINING_JOB, Object
from slipway.api.modeldeployment import ModelDeployment
from slipway.api.podtemplate import PodSettings, Resources
from slipway.api.trainingjob import TrainingJob
from slipway.plan.parent import Parent
from slipway.plan.references import NotYet
from slipway.plan.seen import Seen, controller_uid
from slipway.plan.tasks import SMALL

_KINDS = {kind.kind: kind for kind in OWNERS}


class StepOwner(NamedTuple):
    """The owner of a Step, and what it says of the pods of its Steps. may_start: False while it is suspended."""

    parent: Parent
    resources: Resources
    template: PodSettings | None = None
    may_start: bool = True


def owner_of(obj: Object, step: Parent, seen: Seen) -> StepOwner:
    """Raises NotYet (OwnerNotFound) if the owner is gone, and with it the Step in a moment; or cannot be read."""
    kind, name = step.owner or ("", "")
    owner = seen.get(_KINDS[kind], step.namespace, name) if kind in _KINDS else None
    if owner is None or owner["metadata"]["uid"] != controller_uid(obj):
        raise NotYet("OwnerNotFound", f"{kind or 'the owner'} {name} is gone; this step goes with it")
    try:
        return _settings(owner, by_others=obj["spec"].get("task", {}).get("task") == "compress")
    except ValidationError as error:
        raise NotYet("OwnerInvalid", f"the spec of {kind} {name} cannot be read; correct it") from error


def has_owner(obj: Object, seen: Seen) -> bool:
    """Whether the owner of a Step lives and is not being deleted."""
    kind, name = Parent.of(obj).owner or ("", "")
    owner = seen.get(_KINDS[kind], obj["metadata"]["namespace"], name) if kind in _KINDS else None
    return owner is not None and owner["metadata"]["uid"] == controller_uid(obj) and not Parent.of(owner).deleting


def _settings(owner: Object, *, by_others: bool) -> StepOwner:
    parent = Parent.of(owner)
    if parent.kind == TRAINING_JOB:
        training = TrainingJob.model_validate({"spec": owner["spec"]}).spec
        return StepOwner(parent, SMALL, training.pod_template.settings, may_start=not training.suspend)
    if parent.kind == MODEL_DEPLOYMENT and by_others:
        deployment = ModelDeployment.model_validate({"spec": owner["spec"]}).spec
        return StepOwner(parent, deployment.compression.resources)
    return StepOwner(parent, SMALL)
