"""Stand-ins for the kubelet and the controllers of Kubernetes, acting by an Admin alone: on the twin, or on an API
server without a controller-manager.

`move` lets every Job and Deployment go one step further, by what a scenario says of its pods; it looks at the cluster
and remembers nothing of it, so it goes on rightly whatever the operator did or did not do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime

from slipway.api.kinds import CHILDREN, DEPLOYMENT, JOB, POD, RECONCILED, Kind, Object, key_of
from slipway.plan.jobs.outcomes import is_over
from slipway.plan.observation import controller_uid
from slipway.plan.owner import ATTEMPT_LABEL, REPLACEMENT_LABEL, ROLE_LABEL
from slipway.plan.pods import CONTAINER
from support.builders import controlled, pod_name, wire_time
from support.faults.admin import Admin

Operation = Callable[["World", Object, Sequence[Object]], Awaitable[bool]]
"""(world, Job, its pods) -> True if anything moved. It decides how a Job whose pods run ends."""

_INDEX = "batch.kubernetes.io/job-completion-index"


class World:
    """The namespace of one scenario.

    now: the time that pods and controllers write. usual: the operation of Jobs that `operations` does not name.
    """

    def __init__(self, admin: Admin, namespace: str, now: Callable[[], datetime], usual: Operation) -> None:
        self.admin, self.namespace, self.now, self.usual = admin, namespace, now, usual
        self.operations: Mapping[str, Operation] = {}
        """By role, or by role and number (`train/2`: the second attempt; `compare/1`: a task's first try)."""
        self.at: tuple[str, int] = ("", 0)
        """How far a script is: its name, and how many of its steps are done."""
        self.collects = True
        """If true, delete orphans as the garbage collector does; the twin has its own collector."""

    async def move(self) -> bool:
        """True where anything moved."""
        moved = await self.collect() if self.collects else False
        under_way = [job for job in await self.admin.list(JOB, self.namespace) if not is_over(job)]
        pods = await self.admin.list(POD, self.namespace) if under_way else ()
        for job in under_way:
            if "deletionTimestamp" not in job["metadata"]:
                uid = job["metadata"]["uid"]
                moved = await self._advance(job, [pod for pod in pods if controller_uid(pod) == uid]) or moved
        for deployment in await self.admin.list(DEPLOYMENT, self.namespace):
            moved = await self._rolled_out(deployment) or moved
        return moved

    async def pods_of(self, job: Object) -> list[Object]:
        uid = job["metadata"]["uid"]
        return [pod for pod in await self.admin.list(POD, self.namespace) if controller_uid(pod) == uid]

    async def jobs(self, role: str, number: int | None = None) -> list[Object]:
        """The Jobs of a role (`train`, `prepare-train`, `compare`, ...), of one attempt or try where it is given."""
        return [
            job
            for job in await self.admin.list(JOB, self.namespace)
            if role_of(job) == role and number in (None, number_of(job))
        ]

    async def collect(self) -> bool:
        """The garbage collector: deletes objects whose owners are all gone."""
        kinds: tuple[Kind, ...] = (*RECONCILED, *CHILDREN, POD)
        objects = [obj for kind in kinds for obj in await self.admin.list(kind, self.namespace)]
        uids = {obj["metadata"]["uid"] for obj in objects}
        orphans = [
            obj
            for obj in objects
            if (owners := obj["metadata"].get("ownerReferences")) and not any(one["uid"] in uids for one in owners)
        ]
        for obj in orphans:
            await self.admin.delete(key_of(obj))
        return bool(orphans)

    # --- Jobs ---------------------------------------------------------------------------------------------------

    async def _advance(self, job: Object, pods: Sequence[Object]) -> bool:
        name = "replacement" if REPLACEMENT_LABEL in job["metadata"]["labels"] else role_of(job)
        if not pods and not job.get("status", {}).get("startTime"):
            if (start := self.operations.get(f"{name}/{number_of(job)}/start")) is not None:
                return await start(self, job, pods)
            await self.start(job)
            return True
        operation = self.operations.get(f"{name}/{number_of(job)}") or self.operations.get(name) or self.usual
        return await operation(self, job, pods)

    async def start(self, job: Object, waits: int | None = None) -> None:
        """All its pods run. waits: the index of one that does not yet."""
        count = job["spec"]["completions"]
        for index in range(count):
            pod = pod_of(job, index)
            await self.admin.create({**pod, "status": {"phase": "Pending"}} if index == waits else pod)
        await self.admin.set_status(key_of(job), {"startTime": wire_time(self.now()), "active": count, "ready": count})

    async def index_fails(self, job: Object, index: int) -> None:
        """The Job controller counts an index as failed, and the other pods run on."""
        status = {field: value for field, value in job["status"].items() if field in ("startTime", "completedIndexes")}
        others = job["spec"]["completions"] - 1
        told = {"active": others, "ready": others, "failed": 1, "failedIndexes": str(index)}
        await self.admin.set_status(key_of(job), {**status, **told})

    async def pod_ends(self, pod: Object, exit_code: int, message: str = "", **status: object) -> None:
        """status: more of the pod's, as its conditions."""
        ended = {"exitCode": exit_code, "reason": "Error" if exit_code else "Completed", "message": message}
        state = {"terminated": {**ended, "startedAt": wire_time(self.now()), "finishedAt": wire_time(self.now())}}
        phase = "Failed" if exit_code else "Succeeded"
        await self.admin.set_status(
            key_of(pod), {"phase": phase, "containerStatuses": [_container(pod, state)], **status}
        )

    async def job_ends(self, job: Object, *types: str, reason: str = "", message: str = "", **more: object) -> None:
        """As the Job controller says it, once no pod is left that runs. more: fields of the status."""
        now = wire_time(self.now())
        conditions = [
            {
                "type": kind,
                "status": "True",
                "reason": reason,
                "message": message,
                "lastTransitionTime": now,
                "lastProbeTime": now,
            }
            for kind in types
        ]
        status: Object = {"active": 0, "ready": 0, "uncountedTerminatedPods": {}, "conditions": conditions, **more}
        if "Complete" in types:
            status |= {"completionTime": now, "succeeded": job["spec"]["completions"]}
        await self.admin.set_status(key_of(job), status)

    # --- Deployments --------------------------------------------------------------------------------------------

    async def _rolled_out(self, deployment: Object) -> bool:
        wanted = int(deployment["spec"]["replicas"])
        status = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": wanted,
            "updatedReplicas": wanted,
            "readyReplicas": wanted,
            "availableReplicas": wanted,
        }
        present = deployment.get("status", {})
        if all(present.get(field, 0) == value for field, value in status.items()):
            return False
        await self.admin.set_status(key_of(deployment), status)
        return True


def role_of(job: Object) -> str:
    return str(job["metadata"]["labels"][ROLE_LABEL])


def number_of(job: Object) -> int:
    """The attempt, or the try: both end the Job's name, with a letter before them if it is a recovery."""
    labels = job["spec"]["template"]["metadata"]["labels"]
    return int(labels.get(ATTEMPT_LABEL) or job["metadata"]["name"].rsplit("-", 1)[1].lstrip("q"))


def pod_of(job: Object, index: int) -> Object:
    """A running pod of a Job, as the Job controller makes it and the kubelet runs it."""
    meta, template = job["metadata"], job["spec"]["template"]
    indexed = {_INDEX: str(index)} if job["spec"].get("completionMode") == "Indexed" else {}
    labels = {
        **template["metadata"]["labels"],
        **indexed,
        "batch.kubernetes.io/job-name": meta["name"],
        "batch.kubernetes.io/controller-uid": meta["uid"],
    }
    named = {"name": pod_name(job, index), "namespace": meta["namespace"], "labels": labels}
    pod: Object = {"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": template["spec"]}
    running = {"phase": "Running", "containerStatuses": [_container(pod, {"running": {}}, ready=True)]}
    return controlled({**pod, "status": running}, job)


def _container(pod: Object, state: Object, *, ready: bool = False) -> Object:
    image = next(one["image"] for one in pod["spec"]["containers"] if one["name"] == CONTAINER)
    return {"name": CONTAINER, "image": image, "imageID": "", "ready": ready, "restartCount": 0, "state": state}
