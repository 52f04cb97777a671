"""The tasks `evaluate` and `compare`: run an ONNX classifier on a data set, and count where two classifiers differ.

The batches of an evaluation are random in size and composition: a model that is right in only one kind of batch is not
right. The gate in the operator decides what the counts mean.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from slipway.api.artifacts import State
from slipway.api.errors import ArtifactError
from slipway.api.reports import SATURATION, PairedCounts, Report, Slice
from slipway.api.tasks import MODEL_BYTES, CompareTask, EvaluateTask
from slipway.runtime.datasets import read_arrays
from slipway.runtime.graphs import int8_saturates, open_session, run_session, saturation, tensors
from slipway.runtime.pod import Pod
from slipway.runtime.store import Store
from slipway.sdk.artifact import Artifact
from slipway.sdk.manifest import ONNX_FILE, PREDICTIONS_FILE, Content, Provenance
from slipway.sdk.plugin import Arrays

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Predictions:
    """Classes that a model predicts for a data set. predicted, targets: int64 [N]. data: digest of the data set."""

    predicted: NDArray[np.int64]
    targets: NDArray[np.int64]
    data: str

    @property
    def accuracy(self) -> float:
        """The fraction of samples whose class is correct."""
        return float((self.predicted == self.targets).mean())


def write_predictions(store: Store, name: str, predictions: Predictions, provenance: Provenance) -> Artifact:
    """Write the predictions as an artifact of that name; the data's digest is part of its content."""
    tensors = {"predicted": predictions.predicted, "targets": predictions.targets}
    body = save(tensors, metadata={"data": predictions.data})
    return store.write(name, Content(state=State.PREDICTIONS), {PREDICTIONS_FILE: body}, provenance)


def read_predictions(artifact: Artifact) -> Predictions:
    """Read the predictions. Raises ArtifactError for a file without two equally long rows of classes."""
    path = artifact.file(PREDICTIONS_FILE)
    try:
        with safe_open(str(path), framework="numpy") as file:
            data = (file.metadata() or {})["data"]
            predicted, targets = file.get_tensor("predicted"), file.get_tensor("targets")
    except (SafetensorError, KeyError) as error:
        raise ArtifactError(f"{path} has no predictions: {error}") from error
    if predicted.shape != targets.shape or targets.ndim != 1 or not len(targets):
        raise ArtifactError(f"{path} has {predicted.shape} predictions for {targets.shape} targets")
    return Predictions(predicted.astype(np.int64), targets.astype(np.int64), data)


MAX_BATCH = 64
"""Samples in the largest random batch."""
REPEATED = 512
"""Number of random samples that are classified again: alone, and in other batches."""
TOLERANCE = 0.05
"""Fraction of these that may get another class. Dynamic quantization scales activations over the whole batch, so near
ties depend on the other samples: up to 3 % of the samples in measurements (docs/decisions/0013)."""
DEVIATIONS = 3.0
"""Limit, in standard deviations of fair coins, of correct answers that are lost minus those that are gained. Ties
change in both directions equally often; a model that is wrong by design in some batches only loses."""
_RANDOM = random.SystemRandom()
"""Unpredictable, so that no model can be made for the batches of its evaluation."""


def evaluate(task: EvaluateTask, pod: Pod) -> Report:
    """Classify the data set and write the predictions. Raises ArtifactError for a model that does not classify it."""
    model = pod.copy(task.model, State.ONNX)
    data = pod.copy(task.data.artifact, State.DATASET, held_out=True)
    arrays = read_arrays(data)
    graph = model.file(ONNX_FILE)
    session = open_session(graph)
    predicted = predict(session, arrays)
    refuse_batch_dependence(session, arrays, predicted)
    predictions = Predictions(predicted, arrays.targets, data.digest)
    metrics = {"accuracy": predictions.accuracy, "samples": float(len(predicted))}
    if int8_saturates():
        metrics[SATURATION] = round(saturation(graph, arrays.inputs), 6)
    measured = {**metrics, MODEL_BYTES: float(model.size_bytes)}
    provenance = Provenance(task=task.task, parents=(model.digest, data.digest), metrics=metrics)
    return pod.succeeded(write_predictions(pod.results, pod.own_artifact, predictions, provenance), measured)


def predict(session: onnxruntime.InferenceSession, data: Arrays) -> NDArray[np.int64]:
    """Return the class of each sample, [N]: the index of the largest score in the first output.

    Raises ArtifactError for a graph with several inputs or one that is not float32, whose first output is not one score
    for each class and sample, or that returns NaN.
    """
    taken = tensors(session.get_inputs())
    if len(taken) != 1:
        raise ArtifactError(f"the model has {len(taken)} inputs, and a data set has one")
    if (kind := taken[0].datatype) != "FP32":
        raise ArtifactError(
            f"{taken[0].name!r} of the model is {kind}, and a data set has FP32; cast it inside the graph"
        )
    answers = np.empty(len(data.inputs), np.int64)
    order = np.array(_RANDOM.sample(range(len(data.inputs)), len(data.inputs)))
    start = 0
    while start < len(order):
        chosen = order[start : start + _random_size()]
        answers[chosen] = _classes(session, taken[0].name, data, chosen)
        start += len(chosen)
    return answers


def refuse_batch_dependence(session: onnxruntime.InferenceSession, data: Arrays, answers: NDArray[np.int64]) -> None:
    """Classify some samples again, alone and in other batches, and compare with the first answers.

    Triton puts a request into any batch. Raises ArtifactError if more samples get another class than TOLERANCE allows,
    or more correct answers are lost than DEVIATIONS allows.
    """
    name = session.get_inputs()[0].name
    chosen = np.array(_RANDOM.sample(range(len(answers)), min(REPEATED, len(answers))))
    alone = np.concatenate([_classes(session, name, data, chosen[i : i + 1]) for i in range(len(chosen))])
    size = min(len(chosen), _RANDOM.randint(2, MAX_BATCH))
    among = np.concatenate([_classes(session, name, data, chosen[i : i + size]) for i in range(0, len(chosen), size)])
    for other, others in ((alone, "alone"), (among, f"in batches of {size}")):
        before, right = answers[chosen], data.targets[chosen]
        differ = np.flatnonzero(other != before)
        lost, gained = (int((one[differ] == right[differ]).sum()) for one in (before, other))
        allowed = 1 + DEVIATIONS * math.sqrt(lost + gained)
        if len(differ) > max(1, TOLERANCE * len(chosen)) or lost - gained > allowed:
            first = differ[0]
            raise ArtifactError(
                f"the model's answers depend on the batch: {len(differ)} of {len(chosen)} samples get another class"
                f" {others} than in batches of 1 to {MAX_BATCH} ({lost} lose the right one, {gained} gain it), such as"
                f" sample {chosen[first]}: {other[first]} instead of {before[first]}; remove operators that use the"
                " batch's size or other samples"
            )


def _random_size() -> int:
    """Return a batch size of 1 to MAX_BATCH; each range between powers of two is equally likely."""
    return int((MAX_BATCH + 1) ** _RANDOM.random())


def _classes(
    session: onnxruntime.InferenceSession, name: str, data: Arrays, chosen: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the classes of the chosen samples, in one batch."""
    scores = run_session(session, {name: data.inputs[chosen]})[0]
    if scores.ndim != 2 or len(scores) != len(chosen):
        raise ArtifactError(f"the model returns {scores.shape} for {len(chosen)} samples, not one row of scores each")
    if scores.shape[1] != data.classes:
        raise ArtifactError(
            f"the model returns {scores.shape[1]} scores for each sample, and the data has {data.classes} classes"
        )
    lost = chosen[np.isnan(scores).any(axis=1)]
    if len(lost):  # argmax would take NaN for the largest
        raise ArtifactError(f"the model returns NaN for {len(lost)} of {len(chosen)} samples, such as sample {lost[0]}")
    classes: NDArray[np.int64] = scores.argmax(axis=1).astype(np.int64)
    return classes


MAX_SLICES = 16


def compare(task: CompareTask, pod: Pod) -> Report:
    """Count where two models differ. Raises ArtifactError if their predictions are of different samples."""
    baseline = read_predictions(pod.copy(task.baseline, State.PREDICTIONS, held_out=True))
    candidate = read_predictions(pod.copy(task.candidate, State.PREDICTIONS, held_out=True))
    return pod.succeeded(counts=count(baseline, candidate))


def count(baseline: Predictions, candidate: Predictions) -> PairedCounts:
    """Return the paired counts over all samples and by true class; the classes that lost most come first."""
    if baseline.data != candidate.data or baseline.targets.tolist() != candidate.targets.tolist():
        raise ArtifactError(
            f"the predictions are of different samples: {len(baseline.targets)} of {baseline.data}"
            f" and {len(candidate.targets)} of {candidate.data}; evaluate both on the same data"
        )
    right = baseline.predicted == baseline.targets
    lost = right & (candidate.predicted != candidate.targets)
    gained = ~right & (candidate.predicted == candidate.targets)
    return PairedCounts(
        n=len(right),
        baseline_right=int(right.sum()),
        lost=int(lost.sum()),
        gained=int(gained.sum()),
        slices=_slices(baseline.targets, lost, gained),
    )


def _slices(targets: NDArray[np.int64], lost: NDArray[np.bool_], gained: NDArray[np.bool_]) -> tuple[Slice, ...]:
    slices = [
        Slice(
            name=f"class-{target}",
            n=int((targets == target).sum()),
            lost=int(lost[targets == target].sum()),
            gained=int(gained[targets == target].sum()),
        )
        for target in sorted(set(targets.tolist()))
    ]
    return tuple(sorted(slices, key=lambda s: (s.gained - s.lost) / s.n)[:MAX_SLICES])
