"""Status fields that all kinds share: conditions, records of Jobs and tasks, failures."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from slipway.api.artifacts import ArtifactRef
from slipway.api.base import Digest, ExitCode, Metrics, Model, Moment, Rank, UniqueBy
from slipway.api.reports import PairedCounts

Text = Annotated[str, Field(max_length=2048)]
ShortText = Annotated[str, Field(max_length=256)]


ImageId = Annotated[str, Field(max_length=512)]
"""Image by its content, as the kubelet reports it, such as `registry.example/runtime@sha256:...`."""


class Condition(Model):
    """One aspect of an object's state (metav1.Condition, KEP-1623)."""

    type: Annotated[str, Field(max_length=64)]
    """Type of the condition. kstatus (Flux) and Argo CD read Ready, Reconciling and Stalled; `kubectl wait` takes
    any."""
    status: Literal["True", "False", "Unknown"]
    """True if the condition holds, False if not, Unknown if the operator cannot tell."""
    reason: Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z][A-Za-z0-9]*$")]
    """Reason for the status as one CamelCase word, for programs. The reference of conditions lists all reasons."""
    message: Annotated[str, Field(max_length=2048)] = ""
    """Explanation for people, and what to do."""
    observed_generation: int | None = Field(default=None, ge=0)
    """Generation of the spec that this condition describes."""
    last_transition_time: Moment
    """Time at which the status last changed. A new message alone does not change it."""


NOT_OBSERVED = "no operator has processed this resource yet; check that one runs and watches this namespace"
"""Message of a resource until its first status is written."""


def not_yet_observed() -> dict[str, object]:
    """Return the status that a resource is created with.

    kstatus takes an object without a status for done, and `kubectl get` shows nothing; the condition is as in the
    Gateway API, with a time that no transition can have.
    """
    ready = {
        "type": "Ready",
        "status": "Unknown",
        "reason": "NotObserved",
        "message": NOT_OBSERVED,
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    }
    return {"observedGeneration": -1, "conditions": [ready]}


MAX_CONDITIONS = 16
Conditions = Annotated[tuple[Condition, ...], Field(max_length=MAX_CONDITIONS), UniqueBy("type")]


class Failure(Model):
    """Cause of a failure. If several ranks failed, it describes the first one."""

    reason: Annotated[str, Field(max_length=64)]
    """Reason as one word: Error, Signal, OOMKilled, Evicted, Preempted, NodeLost, NotStarted, InputMissing, StartError,
    InvalidImageName, DeadlineExceeded, Lost, Unknown, or a reason of the kubelet."""
    index: Rank | None = None
    """Completion index of the pod."""
    rank: Rank | None = None
    """Global rank of the worker, if torchrun reported it."""
    exception: ShortText | None = None
    """Type of the exception."""
    message: Annotated[str, Field(max_length=1024)] | None = None
    """Message of the exception, shortened if it is long; the pod's log has all of it."""
    exit_code: ExitCode | None = None
    """Exit code of the process; for a signal, 128 plus its number."""
    missing: Digest | None = None
    """Digest of the artifact that was not in the store, if that was the cause."""


class JobRecord(Model):
    """Record of one Job, from the decision to create it to its end."""

    job: Annotated[str, Field(max_length=63)]
    """Name of the Job."""
    job_uid: Annotated[str, Field(max_length=64)] | None = Field(default=None, alias="jobUID")
    """UID of the Job; absent until it is created."""
    recoveries: int | None = Field(default=None, ge=0)
    """Number of Jobs that looked for its report in the store after its pods were gone; absent if there was none."""
    started_at: Moment | None = None
    """Time at which the Job was recorded, before it is created."""
    ended_at: Moment | None = None
    """Time at which its end was recorded; absent until then."""
    image_id: ImageId | None = Field(default=None, alias="imageID")
    """Image that the first pod ran, as the kubelet reports it, so the content behind a tag is known. Absent until a pod
    ran."""
    failure: Failure | None = None
    """Cause of the failure; absent if there was none."""


class TaskState(StrEnum):
    """Progress of a task."""

    INTENDED = "Intended"
    """The task is recorded; its Job may not exist yet."""
    RUNNING = "Running"
    """The Job of the task exists."""
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class TaskRun(JobRecord):
    """Record of a task, which is the work of one pod: the number of its tries, and the result of the newest."""

    tries: int = Field(default=1, ge=1)
    """Number of the newest try. Another try follows if the pod was preempted or lost."""
    disruptions: int = Field(default=0, ge=0, le=1_000_000)
    """Number of consecutive tries that were preempted or lost. The delay before the next try grows with it, up to 16
    minutes."""
    remade: int = Field(default=0, ge=0, le=1_000)
    """Number of times that the task ran again because its artifact was no longer in the store; at most 5 within a
    day."""
    memory: Annotated[str, Field(max_length=64)] | None = None
    """Memory that the pod of the newest try requested, such as `2Gi`. After OOMKilled, another amount starts another
    try."""
    state: TaskState = TaskState.INTENDED
    """Progress of the newest try: Intended (recorded, its Job may not exist yet), Running, Succeeded or Failed."""
    artifact: ArtifactRef | None = None
    """Artifact that the task made; absent until it has succeeded, and for tasks that make none."""
    metrics: Metrics | None = None
    """Metrics that the task reported, by name."""
    counts: PairedCounts | None = None
    """Counts that a comparison reported."""
