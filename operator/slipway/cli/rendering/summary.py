"""A resource's status in one line, without times, so that the line changes only with the status."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from slipway.api.errors import SpecError
from slipway.api.kinds import MODEL_DEPLOYMENT, STEP, TRAINING_JOB, Object
from slipway.api.modeldeployment import ModelDeployment
from slipway.api.status import NOT_OBSERVED, Condition, TaskRun
from slipway.api.trainingjob import TrainingJob
from slipway.cli.rendering.errors import CommandError
from slipway.cli.rendering.tables import size
from slipway.cli.rendering.terminal import one_line
from slipway.plan.observation import controller_uid
from slipway.plan.parse import parse, value_at
from slipway.plan.steps.tracking import STEPS_HINT, run_of

Resource = TrainingJob | ModelDeployment
_MODELS: dict[str, type[Resource]] = {TRAINING_JOB.kind: TrainingJob, MODEL_DEPLOYMENT.kind: ModelDeployment}


class StepRow(NamedTuple):
    """A row of the table of Steps. run: None until the status has one."""

    role: str
    phase: str
    run: TaskRun | None


def owners_in(objects: Iterable[Object]) -> list[Object]:
    """Return the objects that are not Steps: their owners."""
    return [obj for obj in objects if obj["kind"] != STEP.kind]


def steps_of(owner: Object, objects: Iterable[Object]) -> list[StepRow]:
    """Return the Steps of a resource, the oldest first."""
    uid = owner["metadata"].get("uid")
    steps = [obj for obj in objects if obj["kind"] == STEP.kind and uid is not None and controller_uid(obj) == uid]
    steps.sort(key=lambda step: (step["metadata"].get("creationTimestamp", ""), step["metadata"]["name"]))
    return [
        StepRow(str(step["spec"]["role"]), str(value_at(step, "status", "phase") or _BEGUN), run_of(step))
        for step in steps
    ]


def typed(obj: Object) -> Resource:
    """Return the object as its model. Raises CommandError for one that this version cannot read."""
    try:
        return parse(_MODELS[obj["kind"]], obj)
    except SpecError as error:
        raise CommandError(
            f"{reference(obj)}: this version of slipway cannot read {error.field}; upgrade it"
        ) from error


def reference(obj: Object) -> str:
    """Return the name that commands accept: `trainingjob/digits`."""
    return f"{obj['kind'].lower()}/{obj['metadata']['name']}"


def get_readiness(obj: Object) -> bool | None:
    """Return True if the resource is Ready for its current spec, False if it is Stalled, None if neither."""
    status = obj.get("status", {})
    if status.get("observedGeneration", -1) < obj["metadata"].get("generation", 0):
        return None
    truths = {condition["type"]: condition["status"] for condition in status.get("conditions", ())}
    if truths.get("Stalled") == "True":
        return False
    return True if truths.get("Ready") == "True" else None


def serves(obj: Object) -> bool:
    """Return whether a ModelDeployment answers requests now, by this spec or an earlier one."""
    conditions = obj.get("status", {}).get("conditions", ())
    return obj["kind"] == MODEL_DEPLOYMENT.kind and any(
        one["type"] == "Available" and one["status"] == "True" for one in conditions
    )


def summary(obj: Object, steps: Sequence[StepRow] = ()) -> tuple[str, str, str]:
    """Return the phase, the progress, and the error or the reason for waiting."""
    resource = typed(obj)
    progress = (
        training_progress(resource, steps)
        if isinstance(resource, TrainingJob)
        else deployment_progress(resource, steps)
    )
    phase, wrong = resource.status.phase or "-", problem_text(resource.status.conditions)
    if resource.status.observed_generation < 0:
        wrong = wrong or f"NotObserved: {NOT_OBSERVED}"
    wrong = wrong.removeprefix(f"{phase}: ")  # a reason may repeat the phase
    if _open(steps) and wrong.startswith(STEPS_HINT):  # the steps are shown here
        wrong = ""
    return phase, ", ".join(progress) or "-", wrong


def problem_text(conditions: tuple[Condition, ...]) -> str:
    """Return `Reason: message` of what keeps the resource from being Ready; empty for a Ready one."""
    by_type = {condition.type: condition for condition in conditions}
    ready = by_type.get("Ready")
    if ready is None or ready.status == "True":
        return ""
    shown = next((c for name in ("Stalled", "Reconciling") if (c := by_type.get(name)) and c.status == "True"), ready)
    return f"{shown.reason}: {one_line(shown.message)}".removesuffix(": ")


def training_progress(job: TrainingJob, steps: Sequence[StepRow] = ()) -> list[str]:
    status = job.status
    attempt = status.attempts[-1] if status.attempts else None
    parts = [f"{step.role} {step.phase.lower()}" for step in _open(steps)]
    if status.artifact:
        parts += [_metric(name, value) for name, value in sorted((status.metrics or {}).items()) if name in _SHOWN]
        parts += [size(status.artifact.size_bytes)] if status.artifact.size_bytes is not None else []
    elif attempt and attempt.outcome is None:
        parts.append(f"attempt {attempt.number}")
        parts += [f"pods {status.workers}"] if status.workers else []
    if status.disruptions:
        parts.append(f"disruptions {status.disruptions}")
    if status.restarts:
        parts.append(f"restarts {status.restarts}/{job.spec.restarts.max}")
    return parts


def deployment_progress(deployment: ModelDeployment, steps: Sequence[StepRow] = ()) -> list[str]:
    status = deployment.status
    running = _open(steps)
    parts = [f"{step.role} {step.phase.lower()}" for step in running]
    if running:
        done = sum(step.phase == "Succeeded" for step in steps)
        parts.insert(0, f"steps {done}/{len(steps)}")
    if status.serving:
        parts.append(f"replicas {status.ready_replicas}/{deployment.spec.serving.replicas}")
        parts += [f"accuracy {status.accuracy}"] if status.accuracy else []
    if (sizes := status.sizes) and sizes.float_bytes and sizes.compressed_bytes:
        parts.append(f"{sizes.float_bytes / sizes.compressed_bytes:.1f}x smaller")
    return parts


_SHOWN = frozenset({"accuracy", "loss"})
_BEGUN = "Starting"
"""Phase of a Step without a status: the operator writes it only after some seconds."""


def _open(steps: Iterable[StepRow]) -> list[StepRow]:
    return [step for step in steps if step.phase in (_BEGUN, "Pending", "Running")]


def _metric(name: str, value: float) -> str:
    return f"{name} {value:.4f}"


def as_list(objects: list[Object]) -> dict[str, Any]:
    """Return what `kubectl get -o json` prints for several objects."""
    return {"apiVersion": "v1", "kind": "List", "items": objects}
