"""TrainingJob: torchrun on a pool of nodes, restarted until it leaves an artifact or a limit is reached."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from slipway.api.artifacts import ArtifactRef, NamedDataSource
from slipway.api.base import DnsLabel, Duration, Image, Metrics, Model, Moment, ObjectName, Rule, UniqueBy, immutable
from slipway.api.entrypoint import Entrypoint
from slipway.api.podtemplate import PodTemplate, StepPods
from slipway.api.scheduling import Resources
from slipway.api.status import Conditions, Failure, JobRecord, ShortText


class NeverRestart(Model):
    """Failures after which the job fails without another attempt."""

    exit_codes: tuple[Annotated[int, Field(ge=1, le=255)], ...] = Field(default=(), max_length=32)
    """Exit codes, from 1 to 255, of the worker that failed first; signal N is 128 + N. Default: none. List the codes
    that your script reserves for errors that another attempt cannot fix."""
    exceptions: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)], ...] = Field(
        default=(), max_length=32
    )
    """Class names, without the module, of the exception that the first failed worker raised, such as ValueError.
    Default: none. ImportError, ModuleNotFoundError and SyntaxError are never retried and need not be listed."""


class Restarts(Model):
    """Rules by which a failed or interrupted attempt is followed by another one."""

    max: int = Field(default=3, ge=0, le=1000)
    """Number of failed attempts that are followed by another one; the job fails with the next failure. Default: 3.
    Failures that another attempt cannot fix are never retried."""
    backoff: Duration = "10s"
    """Delay before the first restart. It doubles with each failure, up to 1 hour. Default: 10s."""
    ignore_preemption: bool = True
    """If true, an attempt that ends by preemption, eviction, drain or the loss of a Node does not count as a failure.
    Default: true. An eviction that the pod itself caused by its disk or memory usage always counts."""
    max_disruptions: int = Field(default=500, ge=0, le=100_000)
    """Number of consecutive attempts that may end by preemption, eviction, drain or the loss of a Node and are followed
    by another one; a lost pod that is replaced counts as one of them. The delay before each next attempt or replacement
    doubles from 10 seconds to 5 minutes. Default: 500. Raise it for Nodes that are reclaimed very often."""
    reset_after: Duration = "10m"
    """Minimum time for which all pods of an attempt must have run, so that its disruption counts as the first one again
    and the delay starts at 10 seconds. Default: 10m."""
    pending_timeout: Duration = "7d"
    """Time limit for all pods of an attempt to run, measured over consecutive attempts that did not start. At the limit
    the job fails with reason PendingTimeout. Default: 7d. Lower it for a job that should not wait that long for
    resources."""
    never: NeverRestart = Field(default_factory=NeverRestart)
    """Failures after which the job fails without another attempt."""


class TrainingJobSpec(Model):
    """Code to train with, its data, and the pods that it runs in."""

    image: Image | None = None
    """Container image of the training pods; it must contain torchrun. Default: the operator's runtime image. Set it to
    train with your own dependencies. A recipe needs the runtime image, and an image of your own needs a store on a
    PersistentVolumeClaim."""
    entrypoint: Entrypoint
    """Code that torchrun starts in every worker process: a script, a module or a recipe."""
    nodes: int = Field(default=1, ge=1, le=1000)
    """Number of pods, each with one torchrun agent. Default: 1. A change applies from the next attempt on."""
    processes_per_node: int | None = Field(default=None, ge=1, le=64)
    """Number of worker processes in each pod. Default: the number of devices that the GPUPool gives a pod, or 1 without
    devices."""
    pools: tuple[ObjectName, ...] = Field(default=(), max_length=1)
    """Name of the GPUPool that the pods run on; at most one. Default: none, so the pods run on any Node and get no
    devices."""
    resources: Resources = Field(default_factory=Resources)
    """CPU and memory of each training pod. Default: 1 CPU and 2Gi of memory."""
    data: Annotated[tuple[NamedDataSource, ...], Field(max_length=8), UniqueBy("name")] = ()
    """Data sets that the training code reads by name. Built-in data sets are written into the store before the first
    attempt."""
    store: DnsLabel = "default"
    """Name of the ArtifactStore in this namespace that holds the data sets and receives the trained model and the
    reports. Default: `default`."""
    egress: Literal["open", "restricted"] = "open"
    """Destinations that the training pods may connect to. `open` allows any; `restricted` allows the other pods of the
    job, DNS and the networks of the store. Default: `open`, as downloads and experiment trackers need it. Use
    `restricted` for code that you do not trust with the data; the network plugin must enforce NetworkPolicies."""
    restarts: Restarts = Field(default_factory=Restarts)
    """Rules by which a failed or interrupted attempt is followed by another one."""
    suspend: bool = False
    """If true, the running attempt is ended and no other one is started. The ended attempt does not count as a failure.
    Default: false. Set it to free the Nodes for a while; a new attempt starts when it is false again."""
    active_deadline: Duration | None = None
    """Time limit for the whole job, measured from the start of the first attempt; suspended time counts. At the limit
    the running attempt is ended and the job fails with reason DeadlineExceeded. Default: no limit."""
    ttl_after_finished: Duration | None = None
    """Time after the end of the job at which its Jobs, pods, Service, NetworkPolicies and Steps are deleted. The
    TrainingJob and its artifact stay. Default: nothing is deleted."""
    pod_template: PodTemplate = Field(default_factory=PodTemplate)
    """Labels, scheduling, environment variables and volumes that are added to the training pods."""
    steps: StepPods = Field(default_factory=StepPods)
    """Resources and scheduling of the pods that prepare built-in data sets and seal the output of an image of your own.
    A field of steps.podTemplate that is not set has the value of spec.podTemplate."""

    rules = (
        immutable("image"),
        immutable("entrypoint", required=True),
        immutable("processes_per_node"),
        immutable("pools", required=True),
        immutable("resources", required=True),
        immutable("data", required=True),
        immutable("store", required=True),
        immutable("egress", required=True),
        immutable("pod_template", required=True),
        Rule(
            "!(has(self.image) && has(self.entrypoint.recipe))",
            "image must not be set for a recipe, which needs the runtime image; remove it, or use a script or a module",
            lambda s: not (s.image and s.entrypoint.recipe),
            field=".image",
        ),
        Rule(
            "!has(self.entrypoint.recipe) || self.data.exists(d, d.name == 'train')",
            "data must contain a source named train, which a recipe trains on",
            lambda s: not s.entrypoint.recipe or any(d.name == "train" for d in s.data),
            field=".data",
        ),
    )


class AttemptOutcome(StrEnum):
    """End of an attempt."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    PREEMPTED = "Preempted"
    SUSPENDED = "Suspended"
    CANCELLED = "Cancelled"
    """The attempt was closed before its Job was created, or ended by the deadline."""
    NODE_LOST = "NodeLost"
    """A Node that one of its pods ran on does not answer any more."""
    NOT_STARTED = "NotStarted"
    """The pods never ran all at the same time."""
    INPUT_MISSING = "InputMissing"
    """An artifact that it reads is not in the store."""


MAX_REPLACEMENTS = 8
"""Pods of one attempt that are replaced; the loss of one more ends it, and the next attempt starts all pods again."""

MAX_GENERATIONS = 99
"""Replacements of one index within an attempt."""


class Replacement(Model):
    """A pod that takes the place of one that was lost before all pods of its attempt had run."""

    index: int = Field(ge=1)
    """Completion index of the pod. The pod of index 0, which hosts the rendezvous, is not replaced."""
    number: int = Field(ge=1, le=MAX_GENERATIONS)
    """Generation of the pod of this index: 1 for its first replacement. Only the newest one counts as a pod of the
    attempt."""
    job: Annotated[str, Field(max_length=63)]
    """Name of its Job, which has one pod."""
    job_uid: Annotated[str, Field(max_length=64)] | None = Field(default=None, alias="jobUID")
    """UID of its Job; absent until it is created."""
    starts_at: Moment
    """Time from which its Job is created: the loss plus the wait that follows a disruption."""
    failure: Failure
    """Cause of the loss of the pod that it replaces."""


class Attempt(JobRecord):
    """One run of torchrun on all pods, as an Indexed Job."""

    number: int = Field(ge=1)
    """Number of the attempt; the first one is 1."""
    pool: Annotated[str, Field(max_length=253)] | None = None
    """Name of the GPUPool that the pods run on; absent without a pool."""
    nodes: int = Field(ge=1)
    """Number of pods."""
    processes_per_node: int = Field(ge=1)
    """Number of worker processes in each pod; the world size is nodes times this number."""
    started_at: Moment
    """Time at which the attempt was recorded, before its Job is created."""
    running_at: Moment | None = None
    """Time at which all pods were first seen running; absent until then."""
    pending_reason: ShortText | None = None
    """Reason for which not all pods run. Set after 1 minute, and removed when all of them run or the attempt ends."""
    pending_observed_at: Moment | None = None
    """Time at which pendingReason was written. It is updated after 1 minute at the earliest, and after up to 10 minutes
    the longer the pods wait."""
    replacements: Annotated[tuple[Replacement, ...], Field(max_length=MAX_REPLACEMENTS)] | None = None
    """Pods that replace lost ones: the newest of each index. A pod is replaced if it was preempted, drained or lost
    with its Node before all pods ran; the others keep waiting for it. Later losses end the attempt."""
    outcome: AttemptOutcome | None = None
    """End of the attempt, absent while it is open: Succeeded, Failed, Preempted, NodeLost, NotStarted (its pods never
    ran all at once), InputMissing (an artifact is not in the store), Suspended, or Cancelled (by the deadline, or
    before its Job was created)."""


class PreparedData(Model):
    """A built-in data set that was written into the store for this TrainingJob."""

    name: Annotated[str, Field(max_length=63)]
    """Name of the data source in spec.data."""
    artifact: ArtifactRef
    """Location and digest of the data set."""


class TrainingJobStatus(Model):
    """State of the job, as the operator last observed it."""

    observed_generation: int = -1
    """Generation of the spec that this status describes; -1 until the operator has processed the resource."""
    phase: Literal["Pending", "Running", "Restarting", "Suspended", "Succeeded", "Failed"] | None = None
    """Summary of the state for people. Programs should read the conditions instead."""
    conditions: Conditions = ()
    """Ready, Reconciling and Stalled, which kstatus (Flux) and Argo CD read, and Running, Complete and Failed, for
    `kubectl wait`."""
    started_at: Moment | None = None
    """Time at which the first attempt was recorded."""
    finished_at: Moment | None = None
    """Time at which the end of the job was recorded; absent until then."""
    restarts: int = Field(default=0, ge=0)
    """Number of attempts that counted as failures; spec.restarts.max limits it."""
    disruptions: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Number of consecutive disruptions and lost Nodes that ended an attempt or took a pod that was replaced;
    spec.restarts.maxDisruptions limits it, and spec.restarts.resetAfter resets it."""
    pending_since: Moment | None = None
    """Time since which not all pods run. Absent while they do, and while no attempt is wanted."""
    workers: Annotated[str, Field(max_length=32)] | None = None
    """Running pods of all pods of the attempt, such as 2/2; absent until all of them run."""
    data: Annotated[tuple[PreparedData, ...], Field(max_length=8), UniqueBy("name")] = ()
    """Built-in data sets that were written into the store."""
    attempts: tuple[Attempt, ...] = Field(default=(), max_length=32)
    """The newest attempts, at most 32, oldest first. Numbers and counters include the attempts that are no longer
    listed."""
    artifact: ArtifactRef | None = None
    """The trained model; absent until the training has succeeded."""
    metrics: Metrics | None = None
    """Metrics that the training reported at its end, such as accuracy, by name."""


class TrainingJob(Model):
    """Trains a model with torchrun on one or more pods, restarts it after failures, and stores the result as an
    artifact."""

    spec: TrainingJobSpec
    """Desired training: code, data, pods and restart rules."""
    status: TrainingJobStatus = Field(default_factory=TrainingJobStatus)
    """State of the job, as the operator last observed it."""
