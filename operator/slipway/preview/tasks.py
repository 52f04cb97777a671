"""The tasks of a resource as a preview tells of them: its Steps, and the check of a bucket."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from slipway.api.kinds import STEP, Object
from slipway.api.reading import read_status
from slipway.api.status import TaskRun, TaskState
from slipway.api.step import StepStatus
from slipway.plan.jobs.outcomes import conditions_of
from slipway.plan.owner import Owner
from slipway.plan.steps.request import job_prefix
from slipway.plan.storecheck import CHECK
from slipway.plan.tasks import job_name
from slipway.plan.view import controller_uid


class PlannedTask(NamedTuple):
    """digest: of what decides the result; of a check its name. job: of its newest try. made: digest of the artifact.

    shared: the Step of another owner whose result it takes over.
    """

    role: str
    digest: str
    job: str
    made: str | None
    succeeded: bool
    shared: str | None = None


def tasks_of(resource: Object, objects: Iterable[Object]) -> list[PlannedTask]:
    """Return the tasks of a resource, in the order in which they were asked for. objects: its Steps are among them."""
    if check := (resource.get("status") or {}).get("check"):
        run = TaskRun.model_validate(check)
        return [PlannedTask(CHECK, CHECK, run.job, None, run.state is TaskState.SUCCEEDED)]
    uid = resource["metadata"].get("uid")
    return [_of(one) for one in objects if one["kind"] == STEP.kind and controller_uid(one) == uid]


def _of(step: Object) -> PlannedTask:
    status = read_status(StepStatus, step.get("status") or {})
    run = status.run
    return PlannedTask(
        step["spec"]["role"],
        step["spec"]["digest"],
        run.job if run else job_name(job_prefix(Owner.of(step)), 1),
        run.artifact.digest if run and run.artifact else None,
        "Ready" in conditions_of(step),
        status.shared_from,
    )
