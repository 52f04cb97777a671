"""ModelDeployment: compress a model, prove that it is no worse than allowed, serve it with Triton."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipway.api.artifacts import ArtifactRef, StoreUri
from slipway.api.base import (
    Count,
    Digest,
    DnsLabel,
    Model,
    Moment,
    ObjectName,
    Open,
    Reference,
    Rule,
    exactly_one,
)
from slipway.api.datasource import DataSource
from slipway.api.podtemplate import PodSettings, Resources, StepPods
from slipway.api.reports import PairedCounts
from slipway.api.status import Conditions, ImageId

MAX_REPLICAS = 1000
MAX_REVISIONS = 8
"""Revisions that a status holds."""
MAX_STEPS = 64
"""Steps that a revision remembers: the newest ones."""


class StoredModel(Reference):
    """A model that already lies in the store."""

    uri: StoreUri
    """Where it lies."""
    digest: Digest
    """Its digest; other content is refused."""
    state: Literal["module", "onnx"]
    """What it is made of."""


class ModelSource(Model):
    """Exactly one of a TrainingJob or a stored model."""

    training_job: DnsLabel | None = None
    """A TrainingJob of this namespace; waited for where it has not finished."""
    stored: StoredModel | None = None
    """A model in the store."""

    rules = (exactly_one("training_job", "stored"),)


class CompressionStep(Model):
    """One plugin, with its parameters."""

    plugin: ObjectName
    """Name of a CompressionPlugin."""
    params: Open = Field(default_factory=dict)
    """Its parameters, as its CompressionPlugin describes them: at most 224 KiB of JSON, and 448 KiB for all steps."""


class Compression(StepPods):
    """What is done to the model, in order. Conversions are inserted where one step's result is not the next's input."""

    steps: tuple[CompressionStep, ...] = Field(default=(), max_length=16)
    """The steps."""
    conversion: ObjectName | None = None
    """Name of the CompressionPlugin that converts models, the baseline's too, to the format that serves. Absent: the
    operator's own, which runs in its runtime image. Set it to use another one; none is ever chosen by itself."""
    data: DataSource | None = None
    """Data to calibrate and fine-tune with. Absent: the train data of the TrainingJob."""
    resources: Resources = Field(default_factory=Resources)
    """What the pod of each step asks for; changing it makes no new revision. Raise the memory for a step that ended as
    OOMKilled: it then runs again."""
    seed: int = Field(default=0, ge=0, le=2_147_483_647)
    """Of everything random in the steps."""


class Gate(Model):
    """The candidate passes where its accuracy is shown to be at most maxDrop below the uncompressed model's."""

    metric: Literal["accuracy"] = "accuracy"
    """What is compared, sample by sample, on the evaluation data."""
    max_drop: float = Field(default=0.01, ge=0, le=1)
    """The largest loss of accuracy allowed: 0.01 is one percentage point."""
    confidence: float = Field(default=0.95, ge=0.5, le=0.9999)
    """Of the one-sided bound on the loss (score bound on a paired difference, Tango 1998)."""


class Evaluation(StepPods):
    """How the compressed model is proven."""

    data: DataSource
    """Held-out data, never what the model was trained with or a step calibrated or fine-tuned with."""
    store: DnsLabel | None = None
    """The ArtifactStore, with spec.heldOut, that holds the data and what is computed from it sample by sample. Default:
    spec.store. Set it if spec.store is a bucket: the pods of plugins have that bucket's key."""
    gate: Gate = Field(default_factory=Gate)
    """What the candidate must keep."""


class Serving(Model):
    """How Triton serves the model."""

    max_batch_size: int = Field(default=64, ge=1, le=4096)
    """Requests are batched up to so many samples."""
    replicas: int = Field(default=1, ge=0, le=MAX_REPLICAS)
    """Triton pods."""
    resources: Resources = Field(default_factory=Resources)
    """What each pod asks for."""
    pod_template: PodSettings = Field(default_factory=PodSettings)
    """Where the pods run and what they are called. What answers requests takes no variables and no volumes."""


# CEL compares no two objects of different places, so DataSource.same_as is spelt out.
_EVALUATED, _CALIBRATED = "self.evaluation.data", "self.compression.data"
_SAME_SPLIT = (
    f"(has({_EVALUATED}.dataset) && has({_CALIBRATED}.dataset) && {_EVALUATED}.dataset == {_CALIBRATED}.dataset"
    f" && {_EVALUATED}.split == {_CALIBRATED}.split)"
)
_SAME_CONTENT = (
    f"(has({_EVALUATED}.stored) && has({_CALIBRATED}.stored)"
    f" && {_EVALUATED}.stored.digest == {_CALIBRATED}.stored.digest)"
)


class ModelDeploymentSpec(Model):
    """Which model, made how much smaller, proven how, served how."""

    model: ModelSource
    """The model."""
    store: DnsLabel = "default"
    """The ArtifactStore of this namespace."""
    compression: Compression = Field(default_factory=Compression)
    """How it is made smaller."""
    evaluation: Evaluation | None = None
    """How the result is proven. Required where there are compression steps."""
    serving: Serving = Field(default_factory=Serving)
    """How it is served."""

    rules = (
        Rule(
            "self.compression.steps.size() == 0 || has(self.evaluation)",
            "evaluation is required where compression has steps: a smaller model is served only when it is proven",
            lambda s: not s.compression.steps or s.evaluation is not None,
            field=".evaluation",
        ),
        Rule(
            f"!has(self.evaluation) || !has(self.compression.data) || !({_SAME_SPLIT} || {_SAME_CONTENT})",
            "evaluation.data must be held out: it is what the steps are calibrated with",
            lambda s: not (s.evaluation and s.compression.data and s.evaluation.data.same_as(s.compression.data)),
            field=".evaluation",
        ),
    )


class GateResult(Model):
    """What the gate decided, and on which figures."""

    passed: bool
    """Whether the candidate may serve."""
    accuracy_baseline: float = Field(ge=0, le=1)
    """Accuracy of the uncompressed model."""
    accuracy_candidate: float = Field(ge=0, le=1)
    """Accuracy of the compressed model."""
    max_drop: float = Field(ge=0, le=1)
    """What was allowed."""
    drop_bound: float = Field(ge=-1, le=1)
    """Upper confidence bound of the loss of accuracy."""
    confidence: float = Field(ge=0, le=1)
    """Of that bound."""
    counts: PairedCounts
    """What it was computed from."""
    same_model: bool = False
    """Baseline and candidate are one artifact, so there is no loss to bound."""
    data: Digest
    """Of the evaluation data source that was counted on."""
    image_id: ImageId | None = Field(default=None, alias="imageID")
    """The image that evaluated and compared, as the kubelet tells it."""
    saturation: Annotated[float, Field(ge=0, le=1)] | None = None
    """Difference between the candidate's scores and those of exact sums, as a share of their size: 0 is none. Set where
    the candidate was evaluated on a processor whose int8 kernels saturate (x86 without VNNI). From 0.01 on, quantize
    with 7-bit weights."""
    held_out_readable: bool = True
    """Whether a pod with a plugin's code could read the evaluation data: then a good result may be a memorised one.
    False on a claim, where pods mount only their inputs, and with spec.evaluation.store."""


class Revision(Model):
    """One frozen way of serving: a model repository and a rendered Deployment of the same name."""

    name: Annotated[str, Field(max_length=63)]
    """Name of its ControllerRevision and its Deployment."""
    digest: Digest
    """Of the model and of the user's fields that make it (compression, serving without replicas)."""
    baseline: ArtifactRef | None = None
    """The uncompressed model as ONNX."""
    model: ArtifactRef | None = None
    """The compressed model as ONNX."""
    repository: ArtifactRef | None = None
    """Its Triton model repository; a revision that has one is never made again."""
    gate: GateResult | None = None
    """What the gate decided on it."""
    steps: tuple[Annotated[str, Field(max_length=16)], ...] = Field(default=(), max_length=MAX_STEPS)
    """Last parts of the names of the Steps that made it. They are kept as long as the revision is."""
    created_at: Moment
    """When it was first wanted."""
    serving_since: Moment | None = None
    """When it last took the traffic."""
    retired_at: Moment | None = None
    """When it last lost the traffic."""


class Sizes(Model):
    """Bytes of the model along the way."""

    float_bytes: Count | None = None
    """The uncompressed model as ONNX."""
    compressed_bytes: Count | None = None
    """The served model as ONNX."""


class ModelDeploymentStatus(Model):
    """How far, what is served, what is wrong."""

    observed_generation: int = -1
    """The generation of the spec that this status was derived from; -1 before the first."""
    phase: Literal["Pending", "Compressing", "Evaluating", "RollingOut", "Ready", "Degraded", "Failed"] | None = None
    """One word for people; programs read the conditions."""
    conditions: Conditions = ()
    """Ready, Reconciling, Stalled, Available."""
    model: ArtifactRef | None = None
    """The model under work, kept although its TrainingJob may go."""
    model_from: Annotated[str, Field(max_length=80)] | None = None
    """What the model was taken from: `trainingJob/NAME`, or `stored`."""
    train_data: DataSource | None = None
    """The data source named train of that TrainingJob: what steps use where spec.compression.data is absent."""
    sizes: Sizes | None = None
    """Of the revision under work."""
    accuracy: Annotated[str, Field(max_length=32)] | None = None
    """Accuracy of the served revision on the evaluation data, as 0.9704."""
    revisions: tuple[Revision, ...] = Field(default=(), max_length=MAX_REVISIONS)
    """The revision under work and those that served, newest last."""
    candidate: Annotated[str, Field(max_length=63)] | None = None
    """Name of the revision that the spec wants."""
    serving: Annotated[str, Field(max_length=63)] | None = None
    """Name of the revision that has the traffic."""
    ready_replicas: int = Field(default=0, ge=0)
    """Ready pods of the serving revision."""
    selector: Annotated[str, Field(max_length=256)] | None = None
    """Label selector of the serving revision's pods: a HorizontalPodAutoscaler measures those."""
    url: Annotated[str, Field(max_length=512)] | None = None
    """Where clients inside the cluster find it (HTTP; gRPC on port 8001)."""


class ModelDeployment(Model):
    """Compresses a trained model, proves it on held-out data and serves it with Triton."""

    spec: ModelDeploymentSpec
    """What is wanted."""
    status: ModelDeploymentStatus = Field(default_factory=ModelDeploymentStatus)
    """What is."""
