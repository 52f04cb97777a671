"""What the statuses of all kinds share: conditions, task records, failures."""

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
"""The kubelet's name of an image's content, as `registry.example/runtime@sha256:...`."""


class Condition(Model):
    """One aspect of an object's state, as in KEP-1623 (metav1.Condition)."""

    type: Annotated[str, Field(max_length=64)]
    """Ready, Reconciling and Stalled are read by kstatus (Flux) and Argo CD; the rest by `kubectl wait`."""
    status: Literal["True", "False", "Unknown"]
    """Whether the condition holds."""
    reason: Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z][A-Za-z0-9]*$")]
    """One CamelCase word for programs; the reference lists them."""
    message: Annotated[str, Field(max_length=2048)] = ""
    """What happened and what to do about it."""
    observed_generation: int | None = Field(default=None, ge=0)
    """The generation of the spec that this condition was derived from."""
    last_transition_time: Moment
    """When the status last flipped; a new message alone does not move it."""


NOT_OBSERVED = "no operator has looked at this resource yet; check that it runs and watches this namespace"
"""What is to be told of a resource until the first status is written."""


def not_yet_observed() -> dict[str, object]:
    """The status that a resource is made with.

    kstatus calls an object without a status done, and `kubectl get` shows nothing of one; the condition is as in the
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
    """Why a pod's work ended badly: of many ranks, the first that failed."""

    reason: Annotated[str, Field(max_length=64)]
    """Error, Signal, OOMKilled, Evicted, Preempted, NodeLost, NotStarted, InputMissing, StartError, InvalidImageName,
    DeadlineExceeded, Lost, Unknown, or the kubelet's own."""
    index: Rank | None = None
    """Completion index of the pod."""
    rank: Rank | None = None
    """Global rank of the worker, where torchrun told it."""
    exception: ShortText | None = None
    """Type of the exception."""
    message: Annotated[str, Field(max_length=1024)] | None = None
    """Message of the exception, cut where it is long; the whole is in the logs."""
    exit_code: ExitCode | None = None
    """Exit code of the process; above 128 the signal plus 128."""
    missing: Digest | None = None
    """Digest of the artifact that was not in the store, where that was why."""


class JobRecord(Model):
    """What is known of one Job, from the intent to its end."""

    job: Annotated[str, Field(max_length=63)]
    """Name of the Job."""
    job_uid: Annotated[str, Field(max_length=64)] | None = Field(default=None, alias="jobUID")
    """UID of the Job; absent until it is created."""
    recoveries: int | None = Field(default=None, ge=0)
    """Number of Jobs that looked for its report in the store after its pods were gone. Absent if none did."""
    started_at: Moment | None = None
    """Time at which the Job was decided."""
    ended_at: Moment | None = None
    """Time at which its end was recorded."""
    image_id: ImageId | None = Field(default=None, alias="imageID")
    """Image that its first pod ran, as the kubelet reports it: the content behind the tag. Absent until a pod ran."""
    failure: Failure | None = None
    """Why it failed; of many ranks, the failure of the first."""


class TaskState(StrEnum):
    """How far a task is."""

    INTENDED = "Intended"
    """Written down; its Job may or may not exist yet."""
    RUNNING = "Running"
    """Its Job exists."""
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class TaskRun(JobRecord):
    """The tries of one task, which is one pod's work, and what came of the newest."""

    tries: int = Field(default=1, ge=1)
    """The try under way or last ended; a pod that was lost or preempted makes the next."""
    disruptions: int = Field(default=0, ge=0, le=1_000_000)
    """Tries in a row that ended through no fault of the task; the wait before the next try grows with them."""
    remade: int = Field(default=0, ge=0, le=1_000)
    """How often it was run again because the store had lost its artifact; at most 5 times within a day."""
    memory: Annotated[str, Field(max_length=64)] | None = None
    """What its pod asks for, as in `2Gi`; after OOMKilled, another amount makes the next try."""
    state: TaskState = TaskState.INTENDED
    """How far it is."""
    artifact: ArtifactRef | None = None
    """What it made."""
    metrics: Metrics | None = None
    """What it measured."""
    counts: PairedCounts | None = None
    """What a comparison counted."""
