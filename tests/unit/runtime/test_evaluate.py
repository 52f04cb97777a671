"""Predictions and accuracy of an ONNX classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import save

from slipway.api.artifacts import ArtifactRef, State
from slipway.api.errors import ArtifactError
from slipway.api.reports import SATURATION
from slipway.api.tasks import DataRef, EvaluateTask
from slipway.runtime import kernels
from slipway.runtime.predictions import read_predictions
from slipway.sdk.manifest import DATA_FILE, ONNX_FILE, Content, DatasetInfo
from support.graphs import content_of, identity_graph, mlp_graph
from support.stores import do, made, pod_in, put

TARGETS = np.arange(150) % 3


def data_in(store: Path, scores: np.ndarray) -> DataRef:
    content = Content(state=State.DATASET, dataset=DatasetInfo(samples=len(scores), classes=3, scale=1.0))
    files = {DATA_FILE: save({"inputs": scores.astype(np.float32), "targets": TARGETS[: len(scores)]})}
    return DataRef(name="test", artifact=put(store, "data", content, files))


def model_in(store: Path, graph: bytes) -> ArtifactRef:
    return put(store, "model", content_of((3,), 3), {ONNX_FILE: graph})


def test_accuracy_is_the_share_of_right_classes_over_all_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kernels, "int8_saturates", lambda: False)
    predicted = TARGETS.copy()
    predicted[[0, 64, 149]] = (predicted[[0, 64, 149]] + 1) % 3  # one wrong in each batch of 64
    task = EvaluateTask(model=model_in(tmp_path, identity_graph()), data=data_in(tmp_path, np.eye(3)[predicted]))
    report = do(tmp_path, "evaluate", task)
    assert report.metrics == {"accuracy": 147 / 150, "samples": 150.0}
    kept = read_predictions(pod_in(tmp_path, "evaluate").read(made(report)))
    assert kept.predicted.tolist() == predicted.tolist()
    assert kept.targets.tolist() == TARGETS.tolist()
    assert kept.data == task.data.artifact.digest


def test_a_processor_whose_kernels_saturate_reports_how_far_the_scores_are_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(kernels, "int8_saturates", lambda: True)
    monkeypatch.setattr(kernels, "saturation", lambda _graph, samples: len(samples) / 1000)
    task = EvaluateTask(model=model_in(tmp_path, identity_graph()), data=data_in(tmp_path, np.eye(3)[TARGETS]))
    assert do(tmp_path, "evaluate", task).metrics == {"accuracy": 1.0, "samples": 150.0, SATURATION: 0.15}


def test_data_of_another_shape_is_refused(tmp_path: Path):
    task = EvaluateTask(model=model_in(tmp_path, identity_graph()), data=data_in(tmp_path, np.ones((6, 4))))
    with pytest.raises(ArtifactError, match="the model refuses inputs of"):
        do(tmp_path, "evaluate", task)


def test_a_graph_with_scores_for_other_classes_is_refused(tmp_path: Path):
    one = mlp_graph([(np.ones((3, 2), np.float32), np.zeros(2, np.float32))], (3,))
    task = EvaluateTask(model=model_in(tmp_path, one), data=data_in(tmp_path, np.ones((6, 3))))
    with pytest.raises(ArtifactError, match="gives 2 scores a sample, and the data has 3 classes"):
        do(tmp_path, "evaluate", task)


def test_an_answer_of_nan_is_no_class(tmp_path: Path):
    scores = np.eye(3)[TARGETS]
    scores[70] = np.nan
    task = EvaluateTask(model=model_in(tmp_path, identity_graph()), data=data_in(tmp_path, scores))
    with pytest.raises(ArtifactError, match="answers with NaN for 1 of the samples 64 to 127"):
        do(tmp_path, "evaluate", task)


def test_a_graph_that_takes_no_float32_is_refused_with_the_cure(tmp_path: Path):
    model = onnx.load_model_from_string(identity_graph())
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["input"], ["floats"], to=onnx.TensorProto.FLOAT))
    model.graph.node[1].input[0] = "floats"
    task = EvaluateTask(model=model_in(tmp_path, model.SerializeToString()), data=data_in(tmp_path, np.eye(3)[TARGETS]))
    complaint = r"'input' of the model is INT64, and a data set gives FP32: cast it inside the graph"
    with pytest.raises(ArtifactError, match=complaint):
        do(tmp_path, "evaluate", task)
