"""Run an ONNX classifier over a data set and keep what it said.

The batches are drawn, in size and in company: a model that is right in one kind of batch alone is not right.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slipway.api.artifacts import State
from slipway.api.errors import ArtifactError
from slipway.api.reports import SATURATION, Report
from slipway.api.tasks import MODEL_BYTES, EvaluateTask
from slipway.runtime import kernels
from slipway.runtime.datasets import read_arrays
from slipway.runtime.pod import Pod
from slipway.runtime.predictions import Predictions, write_predictions
from slipway.runtime.session import open_session, run_session, tensors
from slipway.sdk.manifest import ONNX_FILE, Provenance
from slipway.sdk.plugin import Arrays

if TYPE_CHECKING:
    import onnxruntime

MAX_BATCH = 64
"""Samples of the largest batch that is drawn."""
REPEATED = 512
"""Samples, drawn at random, that are answered again: alone, and among others."""
TOLERANCE = 0.05
"""The share of these that may get another class. Dynamic quantization scales activations over the whole batch: near
ties then depend on the neighbours, up to 3 % of the samples as measured (docs/decisions/0013)."""
DEVIATIONS = 3.0
"""Ties fall to the right class as often as from it. More right answers may get lost than are won by so many standard
deviations of fair coins; a model that is wrong by design in some batches only loses."""
_RANDOM = random.SystemRandom()
"""Nobody who makes a model can know in which batches it is going to be evaluated."""


def run(task: EvaluateTask, pod: Pod) -> Report:
    """Raises ArtifactError for a model that is no classifier of the data."""
    model = pod.copy(task.model, State.ONNX)
    data = pod.copy(task.data.artifact, State.DATASET, held_out=True)
    arrays = read_arrays(data)
    graph = model.file(ONNX_FILE)
    session = open_session(graph)
    predicted = predict(session, arrays)
    refuse_batch_dependence(session, arrays, predicted)
    predictions = Predictions(predicted, arrays.targets, data.digest)
    metrics = {"accuracy": predictions.accuracy, "samples": float(len(predicted))}
    if kernels.int8_saturates():
        metrics[SATURATION] = round(kernels.saturation(graph, arrays.inputs), 6)
    measured = {**metrics, MODEL_BYTES: float(model.size_bytes)}
    provenance = Provenance(task=task.task, parents=(model.digest, data.digest), metrics=metrics)
    return pod.succeeded(write_predictions(pod.results, pod.own_artifact, predictions, provenance), measured)


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
    answers = np.empty(len(data.inputs), np.int64)
    order = np.array(_RANDOM.sample(range(len(data.inputs)), len(data.inputs)))
    start = 0
    while start < len(order):
        chosen = order[start : start + _drawn_size()]
        answers[chosen] = _classes(session, taken[0].name, data, chosen)
        start += len(chosen)
    return answers


def refuse_batch_dependence(session: onnxruntime.InferenceSession, data: Arrays, answers: NDArray[np.int64]) -> None:
    """Answer some samples once more, each alone and among other neighbours, and compare with the first answers.

    A served request is answered in whatever batch Triton makes of it. Raises ArtifactError for a model that gives more
    of them another class than TOLERANCE allows, or loses more right answers than DEVIATIONS allows.
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
                f" {others} than in batches of 1 to {MAX_BATCH} ({lost} lose the right one, {gained} gain it), as"
                f" sample {chosen[first]}: {other[first]} instead of {before[first]}; let no operator of the graph look"
                " at the batch's size or at other samples"
            )


def _drawn_size() -> int:
    """1 to MAX_BATCH, each power of two as likely as the next."""
    return int((MAX_BATCH + 1) ** _RANDOM.random())


def _classes(
    session: onnxruntime.InferenceSession, name: str, data: Arrays, chosen: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The classes of the chosen samples, in one batch."""
    scores = run_session(session, {name: data.inputs[chosen]})[0]
    if scores.ndim != 2 or len(scores) != len(chosen):
        raise ArtifactError(f"the model gives {scores.shape} for {len(chosen)} samples, not one row of scores each")
    if scores.shape[1] != data.classes:
        raise ArtifactError(
            f"the model gives {scores.shape[1]} scores a sample, and the data has {data.classes} classes"
        )
    lost = chosen[np.isnan(scores).any(axis=1)]
    if len(lost):  # argmax would take NaN for the largest
        raise ArtifactError(f"the model answers with NaN for {len(lost)} of {len(chosen)} samples, as sample {lost[0]}")
    classes: NDArray[np.int64] = scores.argmax(axis=1).astype(np.int64)
    return classes
