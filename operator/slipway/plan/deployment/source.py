"""The source model of a deployment, and the data of its steps and its gate."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.api.artifacts import ArtifactRef, DataSource, State
from slipway.api.base import digest_of
from slipway.api.errors import SpecError
from slipway.api.kinds import TRAINING_JOB
from slipway.api.modeldeployment import Evaluation, ModelDeploymentSpec, ModelDeploymentStatus
from slipway.api.trainingjob import TrainingJob
from slipway.plan.observation import ClusterView
from slipway.plan.owner import Owner
from slipway.plan.parse import parse_referenced
from slipway.plan.references import NotYet, TerminalError, condition

MODELS = (State.MODULE, State.ONNX)


@dataclass(frozen=True, slots=True)
class Source:
    """The source model.

    named: the origin, as in the status. train: the training data of its TrainingJob, if it has one.
    """

    model: ArtifactRef
    named: str
    train: DataSource | None = None

    @property
    def state(self) -> State:
        return self.model.state or State.MODULE


def find_source(owner: Owner, spec: ModelDeploymentSpec, status: ModelDeploymentStatus, view: ClusterView) -> Source:
    """Return the model that the spec names: from its TrainingJob, or from the status if the job is gone.

    A re-created job trains again: until it has an artifact, the recorded model is used. Raises NotYet (ModelNotReady),
    TerminalError (TrainingJobFailed) and SpecError.
    """
    if (stored := spec.model.stored) is not None:
        return Source(ArtifactRef(uri=stored.uri, digest=stored.digest, state=State(stored.state)), "stored")
    name = spec.model.training_job or ""
    named = f"trainingJob/{name}"
    obj = view.get(TRAINING_JOB, owner.namespace, name)
    known = Source(status.model, named, status.train_data) if status.model and status.model_from == named else None
    try:
        job = parse_referenced(TrainingJob, obj, "spec.model.trainingJob", "TrainingJobInvalid") if obj else None
    except SpecError:
        if known is not None:
            return known
        raise
    if job is not None and job.spec.store != spec.store:
        problem = f"is {spec.store}, and TrainingJob {name} stores its model in {job.spec.store}"
        raise SpecError("spec.store", problem, f"set it to {job.spec.store}")
    if job is not None and job.status.phase == "Failed":
        verdict = condition(job.status.conditions, "Ready")
        raise TerminalError(
            "TrainingJobFailed", f"TrainingJob {name} failed: {verdict.message if verdict else 'no reason given'}"
        )
    if job is not None and job.status.phase == "Succeeded":
        model = job.status.artifact
        if model is None or model.state not in MODELS:
            left = f"a {model.state}" if model else "nothing"
            raise TerminalError("TrainingJobFailed", f"TrainingJob {name} succeeded and left {left}, not a model")
        train = next((data for data in job.spec.data if data.name == "train"), None)
        return Source(model, named, _plain(train) if train else None)
    if known is not None:
        return known
    if job is None:
        raise NotYet("ModelNotReady", f'spec.model: there is no TrainingJob "{name}" in this namespace yet')
    phase = job.status.phase or "Pending"
    raise NotYet("ModelNotReady", f"TrainingJob {name} is {phase} and has no model yet")


def _plain(data: DataSource) -> DataSource:
    return DataSource(dataset=data.dataset, split=data.split, stored=data.stored)


def step_data(spec: ModelDeploymentSpec, source: Source) -> DataSource | None:
    """Return the data for calibration and fine-tuning; None if neither the spec nor the source has any.

    Raises SpecError if the evaluation data is the same, or was used for training.
    """
    data = spec.compression.data or source.train
    seen_before = {"spec.compression.data": spec.compression.data, f"the train data of {source.named}": source.train}
    if spec.evaluation and spec.compression.steps:
        held_out = data_digest(spec.evaluation.data)
        for owner, one in seen_before.items():
            if one is not None and data_digest(one) == held_out:
                raise overlap(f"is {owner}")
    return data


def overlap(problem: str) -> SpecError:
    """Return the error for evaluation data that training or a step reads, or could read."""
    message = f"{problem}: evaluation data must not overlap with training or calibration data"
    return SpecError("spec.evaluation.data", message, "name held-out data, in a folder of its own")


def evaluation_digest(evaluation: Evaluation) -> str:
    """Return the digest of the evaluation data and of its separate store, without which plugins could read it."""
    digest = data_digest(evaluation.data)
    return digest if evaluation.store is None else digest_of({"data": digest, "store": evaluation.store})


def data_digest(data: DataSource) -> str:
    """Return the digest of a data source: of its built-in split, or of its content."""
    wire = {"stored": data.stored.digest} if data.stored else {"dataset": data.dataset, "split": data.split}
    return digest_of({"data": wire})
