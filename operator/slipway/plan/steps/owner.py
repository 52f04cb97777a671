"""What the pod of a Step has from the spec of its owner: settings that no Step could carry for somebody else."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from pydantic import ValidationError

from slipway.api.base import timedelta_of
from slipway.api.errors import SpecError
from slipway.api.kinds import OWNERS, TRAINING_JOB, Object
from slipway.api.modeldeployment import ModelDeployment
from slipway.api.podtemplate import PodSettings, Resources, StepPods
from slipway.api.trainingjob import TrainingJob
from slipway.plan.parent import Parent
from slipway.plan.pods import Placement
from slipway.plan.references import NotYet, known_pool, placement_of
from slipway.plan.seen import Seen, controller_uid

_KINDS = {kind.kind: kind for kind in OWNERS}


class StepOwner(NamedTuple):
    """The owner of a Step, and what it says of the Step's pod.

    resources: None for the usual ones. may_start: False while it is suspended. missing: what keeps a new Job from being
    made, while one that is made goes on.
    """

    parent: Parent
    resources: Resources | None = None
    template: PodSettings | None = None
    placement: Placement | None = None
    deadline: timedelta | None = None
    may_start: bool = True
    missing: NotYet | SpecError | None = None


def owner_of(obj: Object, step: Parent, seen: Seen) -> StepOwner:
    """Raises NotYet (OwnerNotFound) if the owner is gone, and with it the Step in a moment."""
    kind, name = step.owner or ("", "")
    owner = seen.get(_KINDS[kind], step.namespace, name) if kind in _KINDS else None
    if owner is None or owner["metadata"]["uid"] != controller_uid(obj):
        raise NotYet("OwnerNotFound", f"{kind or 'the owner'} {name} is gone; this step goes with it")
    parent, pods, placement, suspended = Parent.of(owner), StepPods(), None, False
    missing: NotYet | SpecError | None = None
    try:
        pods, suspended = _pods(owner, by_others=obj["spec"].get("task", {}).get("task") == "compress")
        placement = placement_of(known_pool(seen, pods.pool)) if pods.pool else None
    except ValidationError:
        missing = NotYet("OwnerInvalid", f"the spec of {kind} {name} cannot be read; correct it")
    except (NotYet, SpecError) as error:
        missing = error
    deadline = timedelta_of(pods.deadline) if pods.deadline else None
    return StepOwner(parent, pods.resources, pods.pod_template, placement, deadline, not suspended, missing)


def has_owner(obj: Object, seen: Seen) -> bool:
    """Whether the owner of a Step lives and is not being deleted."""
    kind, name = Parent.of(obj).owner or ("", "")
    owner = seen.get(_KINDS[kind], obj["metadata"]["namespace"], name) if kind in _KINDS else None
    return owner is not None and owner["metadata"]["uid"] == controller_uid(obj) and not Parent.of(owner).deleting


def _pods(owner: Object, *, by_others: bool) -> tuple[StepPods, bool]:
    """What the owner's spec says of the pods of its Steps, and whether none may start. Raises ValidationError."""
    if owner["kind"] == TRAINING_JOB.kind:
        training = TrainingJob.model_validate({"spec": owner["spec"]}).spec
        own = training.steps.pod_template
        told = {name: value for name in PodSettings.model_fields if (value := getattr(own, name)) is not None}
        template = training.pod_template.settings.model_copy(update=told)
        return training.steps.model_copy(update={"pod_template": template}), training.suspend
    deployment = ModelDeployment.model_validate({"spec": owner["spec"]}).spec
    if by_others:
        return deployment.compression, False
    return deployment.evaluation or StepPods(), False
