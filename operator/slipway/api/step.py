"""Step: one pod's work on the way from data to a served model, owned by the resource that asked for it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipway.api.base import Digest, DnsLabel, Image, Model, Open, immutable
from slipway.api.status import Conditions, TaskRun

NONCE_LENGTH = 63
NONCE_PATTERN = r"^[A-Za-z0-9]([-A-Za-z0-9_.:]*[A-Za-z0-9])?$"
Nonce = Annotated[str, Field(min_length=1, max_length=NONCE_LENGTH, pattern=NONCE_PATTERN)]


class StepSpec(Model):
    """The work, and everything that decides its result. Written by Slipway alone."""

    role: DnsLabel
    """Place of the step in the work of its owner, as in `prepare-train`, `step-0-prune-structured` or `package`."""
    task: Open
    """The task as its pod reads it: its kind, its parameters and its inputs, each with its digest."""
    digest: Digest
    """Digest of everything that decides the result: the task, the digests of its inputs, and the image. Steps of one
    namespace and store that carry the same digest share one result."""
    image: Image
    """Image that the pod runs."""
    store: DnsLabel
    """Name of the ArtifactStore that holds the inputs and takes the result."""
    held_out: DnsLabel | None = None
    """Name of the ArtifactStore that holds the evaluation data, if that is another one."""
    folder: Annotated[str, Field(min_length=1, max_length=512)]
    """Folder of the store that the pod writes to."""
    runs: int = Field(default=1, ge=1, le=1_000_000)
    """Number of times that the step is wanted. Slipway raises it if the store has lost the artifact of the last run."""
    retry: Nonce | None = None
    """Value of the annotation slipway.dev/retry of the owner. Another value runs a failed step again."""

    rules = (
        immutable("role", required=True),
        immutable("digest", required=True),
        immutable("image", required=True),
        immutable("store", required=True),
        immutable("held_out"),
        immutable("folder", required=True),
    )


class StepStatus(Model):
    """How far the step is, and what it made."""

    observed_generation: int = -1
    """Generation of the spec that this status was derived from; -1 before the first."""
    phase: Literal["Pending", "Running", "Succeeded", "Failed"] | None = None
    """One word for people; programs read the conditions. A step that runs for less than 10 seconds is not shown as
    Running."""
    conditions: Conditions = ()
    """Ready, Reconciling, Stalled."""
    runs: int = Field(default=0, ge=0)
    """Run of spec.runs that the record below is of."""
    retry: Nonce | None = None
    """Value of spec.retry that the step has answered."""
    run: TaskRun | None = None
    """The newest try: its Job, its end, and what it made. Absent until it is worth a write."""
    shared_from: Annotated[str, Field(max_length=253)] | None = None
    """Step of another owner that carried out the same work, if the result was taken over from it."""


class Step(Model):
    """One pod's work on the way from data to a served model: a data set prepared, a model converted, compressed,
    evaluated, compared or packed. Slipway makes and deletes Steps; users read them."""

    spec: StepSpec
    """The work, and everything that decides its result."""
    status: StepStatus = Field(default_factory=StepStatus)
    """How far the step is, and what it made."""
