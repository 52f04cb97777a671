"""A World for one TrainingJob, whose pods a test lets run and end one by one."""

from __future__ import annotations

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
        job = self.job()
        for index in range(job["spec"]["completions"]):
            self.put(pod(job, index))
        return self.plan()

    def pod_is(self, index: int, **state: Any) -> TrainingWorld:
        """One pod of the newest attempt, as `builders.pod` makes it of the arguments; nothing is planned."""
        self.put(pod(self.job(), index, **{"at": self.now, **state}))
        return self

    def job_says(self, kind: str, reason: str = "") -> TrainingWorld:
        """The Job controller adds a condition to the newest attempt's Job."""
        job = self.job()
        condition = {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": wire_time(self.now)}
        self.set_status(key_of(job), {"conditions": [*conditions_of(job).values(), condition]})
        return self.plan()

    def succeeds(self, report: Object | None = None) -> TrainingWorld:
        """All pods of the newest attempt end well, and so does its Job."""
        own = env_of(self.job()).get(OUT_URI_ENV, "store:///made").removeprefix("store:///")
        left = report or succeeded(artifact("trained", folder=own), {"loss": 0.1})
        for index in range(self.job()["spec"]["completions"]):
            message = left if index == 0 else None
            self.pod_is(index, exit_code=0, message=message)
        return self.job_says("Complete")

    def fails(self, message: str = "boom", *, rank: int = 0, reason: str = "BackoffLimitExceeded") -> TrainingWorld:
        """A rank raises, the other pods are ended, and so is the Job."""
        job = self.job()
        for index in range(job["spec"]["completions"]):
            last = failed(message, rank=rank, at=self.now) if index == rank else None
            self.pod_is(index, exit_code=1 if last else 143, message=last)
        return self.job_says("Failed", reason)

    def vanishes(self) -> TrainingWorld:
        """Somebody deletes the newest attempt's Job, pods and all."""
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
