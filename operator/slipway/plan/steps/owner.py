"""Settings of the pod of a Step that come from the spec of its owner."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from pydantic import ValidationError

from slipway.api.base import timedelta_of
from slipway.api.errors import SpecError
from slipway.api.kinds import OWNERS, TRAINING_JOB, Object
from slipway.api.modeldeployment import ModelDeployment
from slipway.api.podtemplate import PodSettings, StepPods
from slipway.api.scheduling import Resources
from slipway.api.trainingjob import TrainingJob
from slipway.plan.observation import ClusterView, controller_uid
from slipway.plan.owner import Owner
from slipway.plan.pods import Placement
from slipway.plan.references import NotYet, known_pool, placement_of

_KINDS = {kind.kind: kind for kind in OWNERS}


class OwnerSettings(NamedTuple):
    """Settings of the pod of a Step that come from its owner.

    resources: None for the defaults. may_start: False while the owner is suspended. missing: why no new Job can be
    created; an existing Job continues.
    """

    owner: Owner
    resources: Resources | None = None
    template: PodSettings | None = None
    placement: Placement | None = None
    deadline: timedelta | None = None
    may_start: bool = True
    missing: NotYet | SpecError | None = None


def controller_of(step: Object, view: ClusterView) -> Object | None:
    """Return the controller of a Step; None once it is gone."""
    kind, name = Owner.of(step).controller or ("", "")
    obj = view.get(_KINDS[kind], step["metadata"]["namespace"], name) if kind in _KINDS else None
    return obj if obj is not None and obj["metadata"]["uid"] == controller_uid(step) else None


def owner_settings(step: Object, view: ClusterView) -> OwnerSettings:
    """Read the owner of a Step. Raises NotYet (OwnerNotFound) if it is gone; the garbage collector deletes the Step."""
    obj = controller_of(step, view)
    if obj is None:
        kind, name = Owner.of(step).controller or ("its owner", "")
        raise NotYet("OwnerNotFound", f"{kind} {name} is gone; the garbage collector deletes this Step")
    owner, pods, placement, suspended = Owner.of(obj), StepPods(), None, False
    runs_plugin = step["spec"].get("task", {}).get("task") == "compress"
    missing: NotYet | SpecError | None = None
    try:
        pods, suspended = _pods(obj, runs_plugin=runs_plugin)
        part = "steps" if owner.kind == TRAINING_JOB else "compression" if runs_plugin else "evaluation"
        placement = placement_of(known_pool(view, pods.pool, f"spec.{part}.pool")) if pods.pool else None
    except ValidationError:
        missing = NotYet("OwnerInvalid", f"the spec of {owner.kind} {owner.name} cannot be read; correct it")
    except (NotYet, SpecError) as error:
        missing = error
    deadline = timedelta_of(pods.deadline) if pods.deadline else None
    return OwnerSettings(owner, pods.resources, pods.pod_template, placement, deadline, not suspended, missing)


def _pods(owner: Object, *, runs_plugin: bool) -> tuple[StepPods, bool]:
    """Return the owner's settings of the pods of its Steps, and True if it is suspended. Raises ValidationError."""
    if owner["kind"] == TRAINING_JOB.kind:
        training = TrainingJob.model_validate({"spec": owner["spec"]}).spec
        own = training.steps.pod_template
        overrides = {name: value for name in PodSettings.model_fields if (value := getattr(own, name)) is not None}
        template = training.pod_template.settings.model_copy(update=overrides)
        return training.steps.model_copy(update={"pod_template": template}), training.suspend
    deployment = ModelDeployment.model_validate({"spec": owner["spec"]}).spec
    if runs_plugin:
        return deployment.compression, False
    return deployment.evaluation or StepPods(), False
