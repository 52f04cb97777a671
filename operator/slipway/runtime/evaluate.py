"""Run an ONNX classifier over a data set and keep what it said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slipway.api.artifacts import State
from slipway.api.errors import ArtifactError
from slipway.api.reports import SATURATION, Report
from slipway.api.tasks import EvaluateTask
from slipway.runtime import kernels
from slipway.runtime.datasets import read_arrays
from slipway.runtime.pod import Pod
from slipway.runtime.predictions import Predictions, write_predictions
from slipway.runtime.session import open_session, run_session, tensors
from slipway.sdk.manifest import ONNX_FILE, Provenance
from slipway.sdk.plugin import Arrays

if TYPE_CHECKING:
    import onnxruntime

BATCH = 64


def run(task: EvaluateTask, pod: Pod) -> Report:
    """Raises ArtifactError for a model that is no classifier of the data."""
    model = pod.read(task.model, State.ONNX)
    data = pod.read(task.data.artifact, State.DATASET)
    arrays = read_arrays(data)
    graph = model.file(ONNX_FILE)
    predicted = predict(open_session(graph), arrays)
    predictions = Predictions(predicted, arrays.targets, data.digest)
    metrics = {"accuracy": predictions.accuracy, "samples": float(len(predicted))}
    if kernels.int8_saturates():
        metrics[SATURATION] = round(kernels.saturation(graph, arrays.inputs), 6)
    provenance = Provenance(task=task.task, parents=(model.digest, data.digest), metrics=metrics)
    return pod.succeeded(write_predictions(pod.store, pod.own_artifact, predictions, provenance), metrics)


def predict(session: onnxruntime.InferenceSession, data: Arrays) -> NDArray[np.int64]:
    """The class of each sample, [N]: where the first output is largest.

    Raises ArtifactError for a graph with several inputs or one that is not float32, whose first output is not one score
    a class and sample, or that answers with NaN.
    """
    taken = tensors(session.get_inputs())
    if len(taken) != 1:
        raise ArtifactError(f"the model takes {len(taken)} inputs, and a data set gives one")
    if (kind := taken[0].datatype) != "FP32":
        raise ArtifactError(
            f"{taken[0].name!r} of the model is {kind}, and a data set gives FP32: cast it inside the graph"
        )
    parts: list[NDArray[np.int64]] = []
    for start in range(0, len(data.inputs), BATCH):
        batch = data.inputs[start : start + BATCH]
        scores = run_session(session, {taken[0].name: batch})[0]
        if scores.ndim != 2 or len(scores) != len(batch):
            raise ArtifactError(f"the model gives {scores.shape} for {len(batch)} samples, not one row of scores each")
        if scores.shape[1] != data.classes:
            raise ArtifactError(
                f"the model gives {scores.shape[1]} scores a sample, and the data has {data.classes} classes"
            )
        if lost := int(np.isnan(scores).any(axis=1).sum()):  # argmax would take NaN for the largest
            last = start + len(batch) - 1
            raise ArtifactError(f"the model answers with NaN for {lost} of the samples {start} to {last}")
        parts.append(scores.argmax(axis=1).astype(np.int64))
    return np.concatenate(parts)
