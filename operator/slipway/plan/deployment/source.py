"""The model that a deployment is of, and the data that its steps and its gate use."""

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
    """The model under work.

    named: what it was taken from, as the status keeps it. train: the training data, where a TrainingJob told it.
    """

    model: ArtifactRef
    named: str
    train: DataSource | None = None

    @property
    def state(self) -> State:
        return self.model.state or State.MODULE


def find_source(owner: Owner, spec: ModelDeploymentSpec, status: ModelDeploymentStatus, view: ClusterView) -> Source:
    """The model that the spec names: of its TrainingJob, or as the status has kept it when that job is gone.

    A job made again trains anew: until it has an artifact, the one that is known stays wanted. Raises NotYet
    (ModelNotReady), TerminalError (TrainingJobFailed) and SpecError.
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
        problem = f"is {spec.store}, and TrainingJob {name} keeps its model in {job.spec.store}"
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
            raise TerminalError("TrainingJobFailed", f"TrainingJob {name} is done and left {left}, not a model")
        train = next((data for data in job.spec.data if data.name == "train"), None)
        return Source(model, named, _plain(train) if train else None)
    if known is not None:
        return known
    if job is None:
        raise NotYet("ModelNotReady", f'spec.model: there is no TrainingJob "{name}" in this namespace yet')
    phase = job.status.phase or "Pending"
    raise NotYet("ModelNotReady", f"TrainingJob {name} is {phase}: it has left no model yet")


def _plain(data: DataSource) -> DataSource:
    return DataSource(dataset=data.dataset, split=data.split, stored=data.stored)


def step_data(spec: ModelDeploymentSpec, source: Source) -> DataSource | None:
    """What steps are calibrated and fine-tuned with; None where nobody names any.

    Raises SpecError if it is what the result is evaluated on, or if the model was trained with that.
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
    """The error of evaluation data that something before the evaluation reads, or could read."""
    message = f"{problem}: evaluation data must not overlap with training or calibration data"
    return SpecError("spec.evaluation.data", message, "name held-out data, in a folder of its own")


def evaluation_digest(evaluation: Evaluation) -> str:
    """Of the evaluation data, and of the store that is kept for it: without one, others could have read the data."""
    digest = data_digest(evaluation.data)
    return digest if evaluation.store is None else digest_of({"data": digest, "store": evaluation.store})


def data_digest(data: DataSource) -> str:
    """Of a data source as it is written: which built-in split, or which content."""
    wire = {"stored": data.stored.digest} if data.stored else {"dataset": data.dataset, "split": data.split}
    return digest_of({"data": wire})
