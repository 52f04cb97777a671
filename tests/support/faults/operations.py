"""Operations on a Job whose pods run: they work, fail, are preempted, are lost with their node, or run on."""

from __future__ import annotations

import json
from collections.abc import Sequence

from slipway.api.artifacts import State
from slipway.api.base import digest_of
from slipway.api.kinds import RECONCILED, Key, Object, key_of
from slipway.plan.jobs.outcomes import conditions_of
from slipway.plan.jobs.pods import index_of
from slipway.plan.owner import REPLACEMENT_LABEL
from support.builders import succeeded, wire_time
from support.faults.world import Operation, World, role_of
from support.world import COUNTS, does_its_work, env_of, task_of

_FAILED = ("FailureTarget", "Failed")


async def works(world: World, job: Object, pods: Sequence[Object]) -> bool:
    """Every pod ends well, and the first reports what it made."""
    return await reporting(report_of(job))(world, job, pods)


def where(param: str, value: object, then: Operation) -> Operation:
    """A compression step with that parameter does `then`; every other Job works."""

    async def operation(world: World, job: Object, pods: Sequence[Object]) -> bool:
        chosen = task_of(job).get("params", {}).get(param) == value
        return await (then if chosen else works)(world, job, pods)

    return operation


async def runs_on(_world: World, _job: Object, _pods: Sequence[Object]) -> bool:
    return False


def reporting(report: Object) -> Operation:
    async def operation(world: World, job: Object, pods: Sequence[Object]) -> bool:
        for index, pod in enumerate(pods):
            await world.pod_ends(pod, 0, _message({**report, "at": wire_time(world.now())}) if index == 0 else "")
        await world.job_ends(job, "SuccessCriteriaMet", "Complete")
        return True

    return operation


def counting(lost: int) -> Operation:
    """A comparison that finds `lost` samples lost."""
    return reporting(succeeded(counts={**COUNTS, "lost": lost}))


async def finds_a_model(world: World, job: Object, pods: Sequence[Object]) -> bool:
    """A recovery that finds the whole report of a training in the store."""
    ref = {"uri": task_of(job)["uri"] + "/artifact", "digest": digest_of("found"), "state": str(State.MODULE)}
    return await reporting(succeeded({**ref, "sizeBytes": 100}, {"accuracy": 0.97}))(world, job, pods)


def fails(message: str = "boom", exception: str = "ValueError") -> Operation:
    """The last pod raises; the Job controller deletes those that still run."""

    async def operation(world: World, job: Object, pods: Sequence[Object]) -> bool:
        *others, last = pods
        error = {"exception": exception, "message": message, "exitCode": 1, "rank": len(others)}
        report = {"outcome": "failed", "at": wire_time(world.now()), "error": error}
        await world.pod_ends(last, 1, _message(report))
        for pod in others:
            await world.admin.delete(key_of(pod))
        await world.job_ends(job, *_FAILED, reason="BackoffLimitExceeded", message="too many failures")
        return True

    return operation


def _target(world: World) -> Object:
    return {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": "preempting to accommodate a higher priority pod",
        "lastTransitionTime": wire_time(world.now()),
    }


async def preempted(world: World, job: Object, pods: Sequence[Object]) -> bool:
    """The scheduler takes the first pod for another; the Job says so when no pod is left.

    Of a Job whose indices fail one by one, the other pods run on.
    """
    by_index = "backoffLimitPerIndex" in job["spec"]
    if job.get("status", {}).get("failedIndexes"):
        return False
    if pods and "DisruptionTarget" not in str(pods[0]["status"]):
        await world.admin.set_status(key_of(pods[0]), {"conditions": [_target(world)]})
        return True
    if by_index:
        await world.admin.delete(key_of(pods[0]))
        await world.index_fails(job, 0)
        return True
    if pods:
        for pod in pods:
            await world.admin.delete(key_of(pod))
        return True
    said = "Pod matching onPodConditions rule at index 0"
    await world.job_ends(job, *_FAILED, reason="PodFailurePolicy", message=said)
    return True


async def one_waits(world: World, job: Object, _pods: Sequence[Object]) -> bool:
    """All pods start but the last, which finds no room."""
    await world.start(job, waits=int(job["spec"]["completions"]) - 1)
    return True


async def loses_the_pod_that_waits(world: World, job: Object, pods: Sequence[Object]) -> bool:
    """The last pod is taken away before it ran. The first one ends well once its replacement has."""
    last = int(job["spec"]["completions"]) - 1
    own = {index_of(pod): pod for pod in pods}
    if last in own and "DisruptionTarget" not in str(own[last]["status"]):
        await world.admin.set_status(key_of(own[last]), {"phase": "Pending", "conditions": [_target(world)]})
        return True
    if last in own:
        await world.admin.delete(key_of(own[last]))
        await world.index_fails(job, last)
        return True
    replacements = [one for one in await world.jobs("train") if REPLACEMENT_LABEL in one["metadata"]["labels"]]
    if not any("Complete" in conditions_of(one) for one in replacements):
        return False
    report = {**report_of(job), "at": wire_time(world.now())}
    for index, pod in own.items():
        await world.pod_ends(pod, 0, _message(report) if index == 0 else "")
    done = ",".join(str(index) for index in range(last))
    await world.job_ends(
        job, *_FAILED, reason="FailedIndexes", message="Job has failed indexes", completedIndexes=done, succeeded=last
    )
    return True


async def lost_with_its_node(world: World, job: Object, pods: Sequence[Object]) -> bool:
    """The pods are gone without a word, then the Job has failed."""
    if pods:
        for pod in pods:
            await world.admin.delete(key_of(pod))
        return True
    await world.job_ends(job, *_FAILED, reason="BackoffLimitExceeded", message="too many failures")
    return True


async def vanishes(world: World, job: Object, _pods: Sequence[Object]) -> bool:
    """A user deletes the Job and its pods once its UID is recorded: before, it would leave no trace."""
    owner = job["metadata"]["ownerReferences"][0]
    kind = next(kind for kind in RECONCILED if kind.kind == owner["kind"])
    owner = await world.admin.get(Key(kind, world.namespace, owner["name"]))
    if owner is None or job["metadata"]["uid"] not in json.dumps(owner.get("status", {})):
        return False
    await world.admin.delete(key_of(job))
    return True


def report_of(job: Object) -> Object:
    """Return the report of a pod that succeeds; a model is the same however often it is trained."""
    if role_of(job) != "train":
        return does_its_work(task_of(job), job)
    env = env_of(job)
    where = task_of(job)
    made = {field: where.get(field) for field in ("entrypoint", "data", "nodes")}
    ref = {"uri": env.get("SLIPWAY_OUT_URI", "store:///none") + "/artifact", "digest": digest_of(made)}
    return succeeded({**ref, "state": str(State.MODULE), "sizeBytes": 100}, {"accuracy": 0.97})


def _message(report: Object) -> str:
    return json.dumps(report)
