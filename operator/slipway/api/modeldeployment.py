"""ModelDeployment: compress a model, evaluate the result against the original, and serve it with Triton."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipway.api.artifacts import ArtifactRef, DataSource, StoreUri
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
from slipway.api.podtemplate import PodSettings, StepPods
from slipway.api.reports import PairedCounts
from slipway.api.scheduling import Resources
from slipway.api.status import Conditions, ImageId

MAX_REPLICAS = 1000
MAX_REVISIONS = 8
"""Largest number of revisions in a status."""
MAX_STEPS = 64
"""Number of Steps that a revision remembers: the newest ones."""


class StoredModel(Reference):
    """Model in the store."""

    uri: StoreUri
    """Location of the model in the store, such as `store:///path/in/the/store`."""
    digest: Digest
    """Digest of the model. Content with another digest is refused."""
    state: Literal["module", "onnx"]
    """Format of the model: module (torch) or onnx."""


class ModelSource(Model):
    """Model to deploy. Set exactly one of trainingJob and stored."""

    training_job: DnsLabel | None = None
    """Name of a TrainingJob in this namespace. The ModelDeployment waits until it has succeeded, and keeps its model
    after it is deleted."""
    stored: StoredModel | None = None
    """Model in the store."""

    rules = (exactly_one("training_job", "stored"),)


class CompressionStep(Model):
    """One run of a plugin, with its parameters."""

    plugin: ObjectName
    """Name of the CompressionPlugin to run."""
    params: Open = Field(default_factory=dict)
    """Parameters of the plugin, as spec.parameters of its CompressionPlugin describes them: at most 224 KiB of JSON,
    and 448 KiB for all steps. Default: none, so the plugin's own defaults apply."""


class Compression(StepPods):
    """Steps that make the model smaller. A conversion is inserted if one step does not take the format that the step
    before it returns."""

    steps: tuple[CompressionStep, ...] = Field(default=(), max_length=16)
    """Plugins to run, in this order. Default: none, so the model is only converted to ONNX and served."""
    conversion: ObjectName | None = None
    """Name of the CompressionPlugin that converts models, the baseline included, to ONNX. Default: the operator's own
    conversion in its runtime image. Set it to use another one; it is never chosen by itself."""
    data: DataSource | None = None
    """Data for calibration and fine-tuning. Default: the train data of the TrainingJob."""
    resources: Resources = Field(default_factory=Resources)
    """CPU and memory of the pod of each step. Default: 1 CPU and 2Gi of memory. A change makes no new revision. Raise
    the memory after a step ended as OOMKilled; the step then runs again."""
    seed: int = Field(default=0, ge=0, le=2_147_483_647)
    """Seed of everything that is random in the steps. Default: 0. Another seed makes a new revision."""


class Gate(Model):
    """Condition for serving the compressed model: the upper confidence bound of its loss of accuracy, compared with the
    uncompressed model, must be at most maxDrop."""

    metric: Literal["accuracy"] = "accuracy"
    """Metric that is compared, sample by sample, on the evaluation data. Default: accuracy, the only one."""
    max_drop: float = Field(default=0.01, ge=0, le=1)
    """Largest allowed loss of the metric, as a fraction: 0.01 is one percentage point. Default: 0.01. A change is
    applied to the results that exist; nothing is evaluated again."""
    confidence: float = Field(default=0.95, ge=0.5, le=0.9999)
    """Confidence level of the one-sided upper bound on the loss (score bound on a paired difference, Tango 1998).
    Default: 0.95. Raise it to accept fewer models that lose more than maxDrop; the evaluation then needs more
    samples."""


class Evaluation(StepPods):
    """Comparison of the compressed model with the uncompressed one, and the pods that compute it."""

    data: DataSource
    """Held-out data to evaluate on. If there are compression steps, data that the model was trained with or that a step
    uses is refused."""
    store: DnsLabel | None = None
    """Name of the ArtifactStore, with spec.heldOut, that holds the evaluation data and the predictions. Default:
    spec.store. Set it if spec.store is a bucket, because the pods of plugins have that bucket's key."""
    gate: Gate = Field(default_factory=Gate)
    """Condition that the compressed model must meet to be served."""


class Serving(Model):
    """Triton pods that serve the model."""

    max_batch_size: int = Field(default=64, ge=1, le=4096)
    """Largest number of samples that Triton combines into one batch, and that one request may have. Default: 64. A
    change makes a new revision."""
    replicas: int = Field(default=1, ge=0, le=MAX_REPLICAS)
    """Number of Triton pods. Default: 1; 0 stops serving. A change scales the pods and makes no new revision. A
    HorizontalPodAutoscaler writes it by the scale subresource."""
    resources: Resources = Field(default_factory=Resources)
    """CPU and memory of each Triton pod. Default: 1 CPU and 2Gi of memory. A change makes a new revision."""
    pod_template: PodSettings = Field(default_factory=PodSettings)
    """Labels, annotations and scheduling of the Triton pods, which take no environment variables and no volumes. A
    change makes a new revision."""


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
    """Model to deploy, and its compression, evaluation and serving."""

    model: ModelSource
    """Model to deploy: the result of a TrainingJob, or a model in the store."""
    store: DnsLabel = "default"
    """Name of the ArtifactStore in this namespace that holds the model and receives the results. Default: `default`. It
    must be that of the TrainingJob."""
    compression: Compression = Field(default_factory=Compression)
    """Steps that make the model smaller. Default: none, so the model is only converted to ONNX and served."""
    evaluation: Evaluation | None = None
    """Comparison of the compressed model with the uncompressed one. Required if there are compression steps; without it
    the model is served without a check."""
    serving: Serving = Field(default_factory=Serving)
    """Triton pods that serve the model. Default: one pod."""

    rules = (
        Rule(
            "self.compression.steps.size() == 0 || has(self.evaluation)",
            "evaluation is required if compression has steps; add it with held-out data",
            lambda s: not s.compression.steps or s.evaluation is not None,
            field=".evaluation",
        ),
        Rule(
            f"!has(self.evaluation) || !has(self.compression.data) || !({_SAME_SPLIT} || {_SAME_CONTENT})",
            "evaluation.data must not be the data of compression.data; name held-out data",
            lambda s: not (s.evaluation and s.compression.data and s.evaluation.data.same_as(s.compression.data)),
            field=".evaluation",
        ),
    )


class GateResult(Model):
    """Decision of the gate, and the figures that it is based on."""

    passed: bool
    """True if the revision may serve."""
    accuracy_baseline: float = Field(ge=0, le=1)
    """Accuracy of the uncompressed model on the evaluation data, from 0 to 1."""
    accuracy_candidate: float = Field(ge=0, le=1)
    """Accuracy of the compressed model on the evaluation data, from 0 to 1."""
    max_drop: float = Field(ge=0, le=1)
    """Allowed loss of accuracy that the decision is based on, from spec.evaluation.gate.maxDrop."""
    drop_bound: float = Field(ge=-1, le=1)
    """Upper confidence bound of the loss of accuracy. The gate passes if it is at most maxDrop."""
    confidence: float = Field(ge=0, le=1)
    """Confidence level of dropBound."""
    counts: PairedCounts
    """Numbers of samples that the decision is based on."""
    same_model: bool = False
    """True if the compressed model is the uncompressed one, so there is no loss."""
    data: Digest
    """Digest of the evaluation data source. Other data makes a new evaluation."""
    image_id: ImageId | None = Field(default=None, alias="imageID")
    """Image that evaluated and compared, as the kubelet reports it."""
    saturation: Annotated[float, Field(ge=0, le=1)] | None = None
    """Difference between the scores of the compressed model and those with exact 8-bit sums, as a fraction of their
    size. Set if the evaluation ran on a processor whose int8 kernels saturate (x86 without VNNI). From 0.01 on,
    quantize with 7-bit weights."""
    held_out_readable: bool = True
    """True if a pod with a plugin's code could read the evaluation data, so that a good result may be a memorised one.
    In a cluster it is false with a store on a claim, from which pods mount only their inputs, and with a
    spec.evaluation.store that has keys of its own."""


class Revision(Model):
    """One frozen version of what is served: a Triton model repository, and a Deployment of the same name."""

    name: Annotated[str, Field(max_length=63)]
    """Name of the revision's ControllerRevision and Deployment."""
    digest: Digest
    """Digest of the model and of the fields of the spec that decide what is served (compression, and serving without
    replicas)."""
    baseline: ArtifactRef | None = None
    """The uncompressed model as ONNX; absent until it is converted."""
    model: ArtifactRef | None = None
    """The compressed model as ONNX; absent until the last step has succeeded."""
    repository: ArtifactRef | None = None
    """The Triton model repository; absent until it is packaged. A revision with a repository is not compressed
    again."""
    gate: GateResult | None = None
    """Decision of the gate; absent until the evaluation has ended, and without spec.evaluation."""
    steps: tuple[Annotated[str, Field(max_length=16)], ...] = Field(default=(), max_length=MAX_STEPS)
    """Suffixes of the names of the Steps that made the revision. The Steps are kept as long as the revision."""
    created_at: Moment
    """Time at which the spec first asked for this revision."""
    serving_since: Moment | None = None
    """Time at which the revision last received the traffic; absent if it never did."""
    retired_at: Moment | None = None
    """Time at which the revision last lost the traffic; absent while it has it."""


class Sizes(Model):
    """Sizes of the model before and after compression."""

    float_bytes: Count | None = None
    """Bytes of the uncompressed model as ONNX."""
    compressed_bytes: Count | None = None
    """Bytes of the compressed model as ONNX."""


class ModelDeploymentStatus(Model):
    """State of the deployment, as the operator last observed it."""

    observed_generation: int = -1
    """Generation of the spec that this status describes; -1 until the operator has processed the resource."""
    phase: Literal["Pending", "Compressing", "Evaluating", "RollingOut", "Ready", "Degraded", "Failed"] | None = None
    """Summary of the state for people. Degraded means that a revision serves but the one that the spec asks for cannot.
    Programs should read the conditions instead."""
    conditions: Conditions = ()
    """Ready, Reconciling and Stalled, which kstatus (Flux) and Argo CD read, and Available, which is True while a ready
    replica serves."""
    model: ArtifactRef | None = None
    """The model that is being deployed. It is kept after its TrainingJob is deleted."""
    model_from: Annotated[str, Field(max_length=80)] | None = None
    """Source of the model: `trainingJob/NAME` or `stored`."""
    train_data: DataSource | None = None
    """Data source named train of the TrainingJob, which the steps use if spec.compression.data is not set."""
    sizes: Sizes | None = None
    """Sizes of the candidate's model before and after compression; absent until they are measured."""
    accuracy: Annotated[str, Field(max_length=32)] | None = None
    """Accuracy of the serving revision on the evaluation data, such as 0.9704; absent if it was not evaluated."""
    revisions: tuple[Revision, ...] = Field(default=(), max_length=MAX_REVISIONS)
    """The candidate, the serving revision and the newest retired ones, newest last. Retired ones are kept to go back
    to."""
    candidate: Annotated[str, Field(max_length=63)] | None = None
    """Name of the revision that the spec asks for. It serves once it is packaged, has passed the gate and has all its
    replicas ready."""
    serving: Annotated[str, Field(max_length=63)] | None = None
    """Name of the revision that receives the traffic; absent until one serves."""
    ready_replicas: int = Field(default=0, ge=0)
    """Number of ready pods of the serving revision."""
    selector: Annotated[str, Field(max_length=256)] | None = None
    """Label selector of the serving revision's pods, for HorizontalPodAutoscalers."""
    url: Annotated[str, Field(max_length=512)] | None = None
    """HTTP URL of the model inside the cluster; gRPC is at port 8001 of the same host. Absent until a revision
    serves."""


class ModelDeployment(Model):
    """Compresses a trained model, evaluates the result on held-out data, and serves it with Triton if it passes the
    gate."""

    spec: ModelDeploymentSpec
    """Desired model, and its compression, evaluation and serving."""
    status: ModelDeploymentStatus = Field(default_factory=ModelDeploymentStatus)
    """State of the deployment, as the operator last observed it."""
