"""Predictions and accuracy of an ONNX classifier."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.numpy import save

from slipway.api.artifacts import ArtifactRef, State
from slipway.api.errors import ArtifactError
from slipway.api.reports import SATURATION
from slipway.api.tasks import DataRef, EvaluateTask
from slipway.runtime import kernels
from slipway.runtime.evaluate import refuse_batch_dependence
from slipway.runtime.predictions import read_predictions
from slipway.sdk.manifest import DATA_FILE, ONNX_FILE, Content, DatasetInfo
from slipway.sdk.plugin import Arrays
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
    size = len(identity_graph())
    assert report.metrics == {"accuracy": 147 / 150, "samples": 150.0, "model_bytes": size}
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
    size = len(identity_graph())
    found = do(tmp_path, "evaluate", task).metrics
    assert found == {"accuracy": 1.0, "samples": 150.0, SATURATION: 0.15, "model_bytes": size}


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
    with pytest.raises(ArtifactError, match=r"answers with NaN for 1 of \d+ samples, as sample 70"):
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


# --- Batches ----------------------------------------------------------------------------------------------------


def right_in_batches(smallest: int, largest: int = 2**40) -> bytes:
    """The identity graph in batches of that many samples; in any other batch every sample is of class 0."""
    model = onnx.load_model_from_string(identity_graph())
    graph, helper = model.graph, onnx.helper
    for node in graph.node:
        node.output[:] = ["right" if name == "output" else name for name in node.output]
    constants = {
        "zero": np.array(0, np.int64),
        "low": np.array(smallest, np.int64),
        "high": np.array(largest, np.int64),
    }
    constants |= {"nothing": np.array(0, np.float32), "first": np.eye(3, dtype=np.float32)[:1]}
    graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.node.extend(
        [
            helper.make_node("Shape", ["input"], ["shape"]),
            helper.make_node("Gather", ["shape", "zero"], ["n"]),
            helper.make_node("GreaterOrEqual", ["n", "low"], ["enough"]),
            helper.make_node("LessOrEqual", ["n", "high"], ["few"]),
            helper.make_node("And", ["enough", "few"], ["fits"]),
            helper.make_node("Mul", ["right", "nothing"], ["zeros"]),
            helper.make_node("Add", ["zeros", "first"], ["wrong"]),
            helper.make_node("Where", ["fits", "right", "wrong"], ["output"]),
        ]
    )
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    "graph",
    [right_in_batches(28), right_in_batches(2), right_in_batches(1, 1)],
    ids=["28 and more", "2 and more", "alone"],
)
def test_a_model_that_is_right_in_some_batches_only_is_refused(graph: bytes, tmp_path: Path):
    task = EvaluateTask(model=model_in(tmp_path, graph), data=data_in(tmp_path, np.eye(3)[TARGETS]))
    with pytest.raises(ArtifactError, match="the model's answers depend on the batch"):
        do(tmp_path, "evaluate", task)


def test_a_model_that_looks_at_its_neighbours_is_refused(tmp_path: Path):
    """Scores less the batch's own mean: right among samples of all classes, nothing at all alone."""
    model = onnx.load_model_from_string(identity_graph())
    for node in model.graph.node:
        node.output[:] = ["right" if name == "output" else name for name in node.output]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0], np.int64), "axes"))
    model.graph.node.append(onnx.helper.make_node("ReduceMean", ["right", "axes"], ["mean"], keepdims=1))
    model.graph.node.append(onnx.helper.make_node("Sub", ["right", "mean"], ["output"]))
    task = EvaluateTask(model=model_in(tmp_path, model.SerializeToString()), data=data_in(tmp_path, np.eye(3)[TARGETS]))
    with pytest.raises(ArtifactError, match="the model's answers depend on the batch"):
        do(tmp_path, "evaluate", task)


def test_near_ties_that_fall_differently_in_another_batch_are_tolerated():
    """As dynamic quantization gives: some classes change with the neighbours, fewer than the tolerance."""
    data = Arrays(np.eye(3, dtype=np.float32)[np.tile(TARGETS, 4)], np.tile(TARGETS, 4), 3)
    session = Stub(changed=2)
    answers = data.targets.copy()
    refuse_batch_dependence(session, data, answers)  # type: ignore[arg-type]


class Stub:
    """A session that answers the identity, but for the first samples, which it gets wrong where they are alone."""

    def __init__(self, changed: int) -> None:
        self.left = changed

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="input")]

    def run(self, _: None, inputs: dict[str, Any]) -> list[Any]:
        scores = inputs["input"].copy()
        if len(scores) == 1 and self.left:
            self.left -= 1
            scores = np.roll(scores, 1, axis=1)
        return [scores]
