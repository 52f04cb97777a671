"""A World for one TrainingJob, whose pods a test lets run and end one by one."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

from slipway.api.kinds import JOB, NETWORK_POLICY, SERVICE, Key, Object, key_of
from slipway.api.tasks import OUT_URI_ENV
from slipway.plan.jobs.outcomes import conditions_of
from slipway.plan.training import plan_training
from support.builders import NAMESPACE, artifact, failed, pod, store, succeeded, training_job, wire_time
from support.world import World, env_of, task_of


class TrainingWorld(World):
    """`settle` after each thing that happens is the reconcile loop; Jobs of tasks end by `behaviour` in `step`."""

    def __init__(self, *objects: Object, name: str = "digits", **spec: Any) -> None:
        obj = training_job(name, **spec)
        super().__init__(plan_training, obj, store(), *objects)
        self.key = key_of(obj)
        self.operator_runs = True

    # --- What happens -------------------------------------------------------------------------------------------

    def plan(self) -> TrainingWorld:
        """The operator's turn, where it runs."""
        if self.operator_runs:
            self.settle(self.key)
        return self

    def passes(self, **time: float) -> TrainingWorld:
        """Time, as minutes=5."""
        self.now += timedelta(**time)
        return self.plan()

    def edits(self, **spec: Any) -> TrainingWorld:
        """The user changes fields of the spec; None removes one."""

        def change(present: Object) -> None:
            present.update(spec)
            for name in [name for name, value in spec.items() if value is None]:
                del present[name]

        self.edit(self.key, change)
        return self.plan()

    def task_ends(self, report: Object) -> TrainingWorld:
        """The one Job of a task that runs ends with this report."""
        (job,) = [job for job in self.running_jobs() if job["metadata"]["labels"]["slipway.dev/role"] != "train"]
        self._end(job, report)
        return self.plan()

    def pods_run(self) -> TrainingWorld:
        """All pods of the newest attempt run."""
        for index in range(self.job()["spec"]["completions"]):
            self.put(pod(self.job_of(index), index))
        return self.plan()

    def pod_is(self, index: int, **state: Any) -> TrainingWorld:
        """One pod of the newest attempt, as `builders.pod` makes it of the arguments; nothing is planned."""
        self.put(pod(self.job(), index, **{"at": self.now, **state}))
        return self

    def job_says(self, kind: str, reason: str = "") -> TrainingWorld:
        """The Job controller adds a condition to the newest attempt's Job."""
        job = self.job()
        condition = {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": wire_time(self.now)}
        conditions = [*conditions_of(job).values(), condition]
        self.set_status(key_of(job), {**job.get("status", {}), "conditions": conditions})
        return self.plan()

    def loses(self, index: int, reason: str = "EvictionByEvictionAPI") -> TrainingWorld:
        """Kubernetes takes the newest pod of an index away, and what controls it tells so when the pod is gone."""
        job = self.job_of(index)
        target = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": reason,
            "lastTransitionTime": wire_time(self.now),
        }
        taken = pod(job, index)
        taken = copy.deepcopy(self.objects.get(key_of(taken), taken))
        taken["status"]["conditions"] = [target]
        self.put(taken)
        self.plan()
        self.remove(key_of(taken))
        if job["spec"]["completionMode"] == "Indexed":
            return self.index_fails(index)
        name = f"{NAMESPACE}/{taken['metadata']['name']}"
        said = f"Pod {name} has condition DisruptionTarget matching FailJob rule at index 0"
        return self.ends(job, "Failed", "PodFailurePolicy", said)

    def index_fails(self, index: int) -> TrainingWorld:
        """The Job controller counts an index of the newest attempt's Job as failed; the others go on."""
        return self._counts("failedIndexes", index)

    def index_succeeds(self, index: int) -> TrainingWorld:
        return self._counts("completedIndexes", index)

    def _counts(self, field: str, index: int) -> TrainingWorld:
        job = self.job()
        known = [one for one in job.get("status", {}).get(field, "").split(",") if one]
        self.set_status(key_of(job), {**job.get("status", {}), field: ",".join(sorted({*known, str(index)}))})
        return self.plan()

    def ends(self, job: Object, kind: str, reason: str = "", message: str = "") -> TrainingWorld:
        """Any Job says how it ended."""
        said = {"reason": reason, "message": message, "lastTransitionTime": wire_time(self.now)}
        self.set_status(
            key_of(job), {**job.get("status", {}), "conditions": [{"type": kind, "status": "True", **said}]}
        )
        return self.plan()

    def succeeds(self, report: Object | None = None) -> TrainingWorld:
        """All pods of the newest attempt end well, and so does its Job."""
        own = env_of(self.job()).get(OUT_URI_ENV, "store:///made").removeprefix("store:///")
        left = report or succeeded(artifact("trained", folder=own), {"loss": 0.1})
        replaced = [one["index"] for one in self.attempts[-1].get("replacements", ())]
        for index in range(self.job()["spec"]["completions"]):
            message = left if index == 0 else None
            self.put(pod(self.job_of(index), index, exit_code=0, message=message, at=self.now))
        if not replaced:
            return self.job_says("Complete")
        own = [index for index in range(self.job()["spec"]["completions"]) if index not in replaced]
        done = {"completedIndexes": ",".join(map(str, own)), "failedIndexes": ",".join(map(str, replaced))}
        self.set_status(key_of(self.job()), {**self.job().get("status", {}), **done})
        for index in replaced:
            self.ends(self.job_of(index), "Complete")
        return self.job_says("Failed", "FailedIndexes")

    def fails(self, message: str = "boom", *, rank: int = 0, reason: str = "BackoffLimitExceeded") -> TrainingWorld:
        """A rank raises, the other pods are ended, and so is the Job."""
        job = self.job()
        for index in range(job["spec"]["completions"]):
            last = failed(message, rank=rank, at=self.now) if index == rank else None
            self.pod_is(index, exit_code=1 if last else 143, message=last)
        return self.job_says("Failed", reason)

    def vanishes(self) -> TrainingWorld:
        """A user deletes the newest attempt's Job, pods and all."""
        self.remove(key_of(self.job()))
        return self.plan()

    # --- What a test asks ---------------------------------------------------------------------------------------

    @property
    def attempts(self) -> list[Object]:
        attempts: list[Object] = self.status(self.key)["attempts"]
        return attempts

    @property
    def phase(self) -> str:
        return str(self.status(self.key).get("phase"))

    def job(self) -> Object:
        """The newest attempt's Job."""
        return self.objects[Key(JOB, NAMESPACE, self.attempts[-1]["job"])]

    def job_of(self, index: int) -> Object:
        """The Job of the newest pod of an index of the newest attempt."""
        names = [one["job"] for one in self.attempts[-1].get("replacements", ()) if one["index"] == index]
        made = [job for name in names if (job := self.objects.get(Key(JOB, NAMESPACE, name))) is not None]
        return made[0] if made else self.job()

    def running_jobs(self) -> list[Object]:
        return [job for job in self._sorted(JOB) if not job.get("status", {}).get("conditions")]

    def training_jobs(self) -> list[str]:
        """Names of the attempts' Jobs that exist."""
        return self.names(JOB, "train")

    @property
    def peers(self) -> str:
        """Name of the Service and the NetworkPolicy of all attempts on several nodes."""
        return self.attempts[-1]["job"].rpartition("-")[0]

    def networks(self) -> list[str]:
        """Names of the Services that exist; each must have its NetworkPolicy."""
        assert self.names(SERVICE, "train") == self.names(NETWORK_POLICY, "train")
        return self.names(SERVICE, "train")

    def names(self, kind: object, role: str) -> list[str]:
        return [
            obj["metadata"]["name"]
            for key, obj in sorted(self.objects.items(), key=lambda item: item[0][1:])
            if key.kind == kind and obj["metadata"].get("labels", {}).get("slipway.dev/role") == role
        ]

    def says(self, kind: str) -> str:
        """A condition as `True PodsRun: message`."""
        status, reason, message = self.condition(self.key, kind)
        return f"{status} {reason}: {message}"

    def truths(self) -> dict[str, bool]:
        return {one["type"]: one["status"] == "True" for one in self.status(self.key)["conditions"]}


def row(world: TrainingWorld) -> tuple[str, set[str]]:
    """The phase, and the types of the conditions that are True."""
    return world.phase, {kind for kind, true in world.truths().items() if true}


def tasks_of(world: TrainingWorld) -> list[str]:
    """The tasks of the Jobs that run."""
    return [task_of(job)["task"] for job in world.running_jobs()]
