"""TrainingJob: torchrun on a pool of nodes, restarted until it leaves an artifact or its budget is spent."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from slipway.api.artifacts import ArtifactRef
from slipway.api.base import DnsLabel, Duration, Image, Metrics, Model, Moment, ObjectName, Rule, UniqueBy, immutable
from slipway.api.datasource import NamedDataSource
from slipway.api.entrypoint import Entrypoint
from slipway.api.podtemplate import PodTemplate, Resources
from slipway.api.status import Conditions, Failure, TaskRecord


class Restarts(Model):
    """How often, and how soon, a failed attempt is followed by another."""

    max: int = Field(default=3, ge=0, le=1000)
    """Failed attempts that are followed by another."""
    backoff: Duration = "10s"
    """Wait before the first restart; it doubles with each, up to an hour."""
    ignore_preemption: bool = True
    """An attempt that ended by preemption or eviction is not counted, and restarts at once."""


class TrainingJobSpec(Model):
    """What to train, with what, and where."""

    image: Image | None = None
    """An image with torchrun. Absent: the operator's runtime image. A recipe needs the runtime image."""
    entrypoint: Entrypoint
    """What runs under torchrun."""
    nodes: int = Field(default=1, ge=1, le=1000)
    """Pods, each with one torchrun agent. Another number holds from the next attempt on."""
    processes_per_node: int | None = Field(default=None, ge=1, le=64)
    """Workers a pod. Absent: one for each device that the pool gives a pod, or 1."""
    pools: tuple[ObjectName, ...] = Field(default=(), max_length=1)
    """The GPUPool to run on. None: any node, without devices."""
    resources: Resources = Field(default_factory=Resources)
    """What each pod asks for."""
    data: Annotated[tuple[NamedDataSource, ...], Field(max_length=8), UniqueBy("name")] = ()
    """Data sets by name; built-in ones are prepared into the store first."""
    store: DnsLabel = "default"
    """The ArtifactStore of this namespace that takes outputs and reports."""
    restarts: Restarts = Field(default_factory=Restarts)
    """What follows a failed attempt."""
    suspend: bool = False
    """True ends the running attempt (uncounted) and makes no other until it is false again."""
    active_deadline: Duration | None = None
    """Give up so long after the first attempt started, suspended time included."""
    ttl_after_finished: Duration | None = None
    """Remove the children so long after the end; the TrainingJob and its artifact stay."""
    pod_template: PodTemplate = Field(default_factory=PodTemplate)
    """What to add to the pods."""

    rules = (
        immutable("image"),
        immutable("entrypoint", required=True),
        immutable("processes_per_node"),
        immutable("pools", required=True),
        immutable("resources", required=True),
        immutable("data", required=True),
        immutable("store", required=True),
        immutable("pod_template", required=True),
        Rule(
            "!(has(self.image) && has(self.entrypoint.recipe))",
            "a recipe runs in the runtime image: remove image, or use script or module",
            lambda s: not (s.image and s.entrypoint.recipe),
            field=".image",
        ),
        Rule(
            "!has(self.entrypoint.recipe) || self.data.exists(d, d.name == 'train')",
            "a recipe trains on the data source named train",
            lambda s: not s.entrypoint.recipe or any(d.name == "train" for d in s.data),
            field=".data",
        ),
    )


class AttemptOutcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    PREEMPTED = "Preempted"
    SUSPENDED = "Suspended"
    CANCELLED = "Cancelled"
    """Closed before it was carried out, or ended by the deadline."""


class Attempt(Model):
    """One run of torchrun over all pods, as an Indexed Job."""

    number: int = Field(ge=1)
    """1 for the first."""
    job: Annotated[str, Field(max_length=63)]
    """Name of the Job."""
    job_uid: Annotated[str, Field(max_length=64)] | None = Field(default=None, alias="jobUID")
    """UID of the Job, once it was created."""
    pool: Annotated[str, Field(max_length=253)] | None = None
    """The GPUPool it runs on."""
    nodes: int = Field(ge=1)
    """Pods."""
    processes_per_node: int = Field(ge=1)
    """Workers a pod; world size is nodes times this."""
    rereads: int = Field(default=0, ge=0)
    """How often its report was looked for in the store, its pods being gone."""
    started_at: Moment
    """When it was decided."""
    running_at: Moment | None = None
    """When all its pods first ran."""
    ended_at: Moment | None = None
    """When its end was recorded."""
    outcome: AttemptOutcome | None = None
    """How it ended; absent while it is open."""
    failure: Failure | None = None
    """Why, by the first failing rank; while the attempt is open, what is known so far of its end."""


class TrainingJobStatus(Model):
    """How far, how fast, what is wrong."""

    observed_generation: int = -1
    """The generation of the spec that this status was derived from; -1 before the first."""
    phase: Literal["Pending", "Running", "Restarting", "Suspended", "Succeeded", "Failed"] | None = None
    """One word for people; programs read the conditions."""
    conditions: Conditions = ()
    """Ready, Reconciling, Stalled, Running, Complete, Failed."""
    started_at: Moment | None = None
    """When the first attempt was decided."""
    finished_at: Moment | None = None
    """When the end was recorded."""
    restarts: int = Field(default=0, ge=0)
    """Failed attempts that counted."""
    workers: Annotated[str, Field(max_length=32)] | None = None
    """Pods of the running attempt, as 2/2; absent until all of them run."""
    tasks: tuple[TaskRecord, ...] = Field(default=(), max_length=16)
    """Preparation of data, and sealing where the image is the user's."""
    attempts: tuple[Attempt, ...] = Field(default=(), max_length=32)
    """The newest attempts, oldest first; counters go on counting when older ones are dropped."""
    artifact: ArtifactRef | None = None
    """What was trained."""
    metrics: Metrics | None = None
    """What the training measured at its end."""


class TrainingJob(Model):
    """Trains a model with torchrun and leaves an artifact named by its digest."""

    spec: TrainingJobSpec
    """What is wanted."""
    status: TrainingJobStatus = Field(default_factory=TrainingJobStatus)
    """What is."""
