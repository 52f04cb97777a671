"""TrainingJob: torchrun on a pool of nodes, restarted until it leaves an artifact or its budget is spent."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from slipway.api.artifacts import ArtifactRef
from slipway.api.base import DnsLabel, Duration, Image, Metrics, Model, Moment, ObjectName, Rule, UniqueBy, immutable
from slipway.api.datasource import NamedDataSource
from slipway.api.entrypoint import Entrypoint
from slipway.api.podtemplate import PodTemplate, Resources, StepPods
from slipway.api.status import Conditions, JobRecord, ShortText


class NeverRestart(Model):
    """Failures after which another attempt is pointless: the TrainingJob fails at once."""

    exit_codes: tuple[Annotated[int, Field(ge=1, le=255)], ...] = Field(default=(), max_length=32)
    """Exit codes, 1 to 255, of the worker that failed first: those that your script reserves. Signal N is 128 + N."""
    exceptions: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)], ...] = Field(
        default=(), max_length=32
    )
    """Class names, without their module, of the exception that the worker that failed first raised, as in ValueError.
    ImportError, ModuleNotFoundError and SyntaxError are never retried and need not be named."""


class Restarts(Model):
    """When, and how often, an attempt that ended without success is followed by another."""

    max: int = Field(default=3, ge=0, le=1000)
    """Failures that are followed by another attempt. Failures that no attempt can cure are not retried at all."""
    backoff: Duration = "10s"
    """Wait before the first restart; it doubles with each failure, up to an hour."""
    ignore_preemption: bool = True
    """True: an attempt that ended by preemption, eviction, drain or the loss of a Node does not count as a failure.
    An eviction that the pod itself caused (disk, memory) always counts."""
    max_disruptions: int = Field(default=500, ge=0, le=100_000)
    """Attempts in a row that may end by preemption, eviction, drain or the loss of a Node. The wait after each doubles
    from 10s to 5m. Raise it on Nodes that are taken away very often."""
    reset_after: Duration = "10m"
    """An attempt whose pods all ran for this long sets the count of disruptions, and so the wait, back to the start."""
    pending_timeout: Duration = "7d"
    """Time limit for all pods of an attempt to run, over the attempts that are made again because they did not. Lower
    it where a job that waits for resources should give up sooner."""
    never: NeverRestart = Field(default_factory=NeverRestart)
    """Failures that deserve no other attempt."""


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
    egress: Literal["open", "restricted"] = "open"
    """Where the training pods may connect to. `restricted`: each other, the DNS, and spec.networks of the store; set it
    for code that you do not trust with the data. `open`, the default: anywhere, as scripts that download or report to a
    tracker need. It takes a network plugin that enforces NetworkPolicies."""
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
    steps: StepPods = Field(default_factory=StepPods)
    """Pods of Slipway's own beside the training: those that prepare built-in data sets, and seal what an image of yours
    left. Absent fields of its podTemplate are those of spec.podTemplate."""

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
    NODE_LOST = "NodeLost"
    """A Node that one of its pods ran on does not answer any more."""
    NOT_STARTED = "NotStarted"
    """Its pods never all ran."""
    INPUT_MISSING = "InputMissing"
    """An artifact that it was given is not in the store."""


class Attempt(JobRecord):
    """One run of torchrun over all pods, as an Indexed Job."""

    number: int = Field(ge=1)
    """1 for the first."""
    pool: Annotated[str, Field(max_length=253)] | None = None
    """The GPUPool it runs on."""
    nodes: int = Field(ge=1)
    """Pods."""
    processes_per_node: int = Field(ge=1)
    """Workers a pod; world size is nodes times this."""
    started_at: Moment
    """When it was decided."""
    running_at: Moment | None = None
    """When all its pods first ran."""
    pending_reason: ShortText | None = None
    """Why its pods do not all run, as it was last told; absent once they do."""
    pending_observed_at: Moment | None = None
    """When pendingReason was written; it is updated after 1 minute at the earliest, later on after up to 10."""
    outcome: AttemptOutcome | None = None
    """How it ended; absent while it is open."""


class PreparedData(Model):
    """A built-in data set that was written into the store for this TrainingJob."""

    name: Annotated[str, Field(max_length=63)]
    """Name of the data source."""
    artifact: ArtifactRef
    """Where it lies, and its digest."""


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
    disruptions: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Attempts in a row that ended by a disruption or a lost Node; see spec.restarts.resetAfter."""
    pending_since: Moment | None = None
    """Since when the pods have not all run; absent while they do, and while no attempt is wanted."""
    workers: Annotated[str, Field(max_length=32)] | None = None
    """Pods of the running attempt, as 2/2; absent until all of them run."""
    data: Annotated[tuple[PreparedData, ...], Field(max_length=8), UniqueBy("name")] = ()
    """Data sets that were prepared into the store."""
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
