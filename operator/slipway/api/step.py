"""Step: the work of one pod between data and a served model, owned by the resource that needs it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipway.api.base import Digest, DnsLabel, Image, Model, Open, immutable
from slipway.api.status import Conditions, TaskRun

NONCE_LENGTH = 63
NONCE_PATTERN = r"^[A-Za-z0-9]([-A-Za-z0-9_.:]*[A-Za-z0-9])?$"
Nonce = Annotated[str, Field(min_length=1, max_length=NONCE_LENGTH, pattern=NONCE_PATTERN)]


class StepSpec(Model):
    """Work of the Step, and everything that decides its result. Slipway writes it."""

    role: DnsLabel
    """Role of the Step for its owner, such as `prepare-train`, `step-0-prune-structured` or `package`."""
    task: Open
    """Task as its pod reads it: its kind, its parameters and its inputs, each with its digest."""
    digest: Digest
    """Digest of everything that decides the result: the task, the digests of its inputs, and the image. Steps of one
    namespace and store with the same digest share one result."""
    image: Image
    """Image that the pod runs."""
    store: DnsLabel
    """Name of the ArtifactStore that holds the inputs and receives the result."""
    held_out: DnsLabel | None = None
    """Name of the ArtifactStore that holds the evaluation data; absent if it is the same store."""
    folder: Annotated[str, Field(min_length=1, max_length=512)]
    """Folder of the store that the pod writes to."""
    runs: int = Field(default=1, ge=1, le=1_000_000)
    """Number of times that the Step is to run. Default: 1. Slipway raises it if the store has lost the artifact of the
    last run."""
    retry: Nonce | None = None
    """Value of the annotation slipway.dev/retry of the owner. Another value runs a failed Step again."""

    rules = (
        immutable("role", required=True),
        immutable("digest", required=True),
        immutable("image", required=True),
        immutable("store", required=True),
        immutable("held_out"),
        immutable("folder", required=True),
    )


class StepStatus(Model):
    """State of the Step, as the operator last observed it."""

    observed_generation: int = -1
    """Generation of the spec that this status describes; -1 until the operator has processed the resource."""
    phase: Literal["Pending", "Running", "Succeeded", "Failed"] | None = None
    """Summary of the state for people. A Step that runs for less than 10 seconds is not shown as Running. Programs
    should read the conditions instead."""
    conditions: Conditions = ()
    """Ready, Reconciling and Stalled. Ready is True once the Step has succeeded."""
    runs: int = Field(default=0, ge=0)
    """Number of the run of spec.runs that the field run describes."""
    retry: Nonce | None = None
    """Value of spec.retry that the operator has processed."""
    run: TaskRun | None = None
    """The newest try: its Job, its end and its result. Absent until the first write of the status."""
    shared_from: Annotated[str, Field(max_length=253)] | None = None
    """Name of the Step of another owner whose result this Step uses; absent if it ran itself."""


class Step(Model):
    """Work of one pod between data and a served model: prepare a data set, convert, compress, evaluate, compare or
    package a model, or seal the output of a training. Slipway creates and deletes Steps; users only read them."""

    spec: StepSpec
    """Work of the Step, and everything that decides its result. Slipway writes it."""
    status: StepStatus = Field(default_factory=StepStatus)
    """State of the Step, as the operator last observed it."""
