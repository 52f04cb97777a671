"""Evaluation of ONNX classifiers, whose outputs must not depend on the batch, and paired counts of predictions."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.numpy import save

from slipway.api.artifacts import ArtifactRef, State
from slipway.api.errors import ArtifactError
from slipway.api.reports import SATURATION, PairedCounts
from slipway.api.tasks import CompareTask, DataRef, EvaluateTask
from slipway.runtime import evaluation
from slipway.runtime.evaluation import Predictions, count, read_predictions, write_predictions
from slipway.runtime.pod import ARTIFACT
from slipway.sdk.artifact import Artifact
from slipway.sdk.manifest import DATA_FILE, ONNX_FILE, Content, DatasetInfo, Provenance
from support.graphs import content_of, identity_graph, mlp_graph
from support.stores import do, made, pod_in, put, ref

TARGETS = np.arange(150) % 3


def data_in(store: Path, scores: np.ndarray, targets: np.ndarray = TARGETS, classes: int = 3) -> DataRef:
    content = Content(state=State.DATASET, dataset=DatasetInfo(samples=len(scores), classes=classes, scale=1.0))
    files = {DATA_FILE: save({"inputs": scores.astype(np.float32), "targets": targets[: len(scores)]})}
    return DataRef(name="test", artifact=put(store, "data", content, files))


def model_in(store: Path, graph: bytes) -> ArtifactRef:
    return put(store, "model", content_of((3,), 3), {ONNX_FILE: graph})


def test_accuracy_is_the_share_of_right_classes_over_all_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(evaluation, "int8_saturates", lambda: False)
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
    monkeypatch.setattr(evaluation, "int8_saturates", lambda: True)
    monkeypatch.setattr(evaluation, "saturation", lambda _graph, samples: len(samples) / 1000)
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
    with pytest.raises(ArtifactError, match="returns 2 scores for each sample, and the data has 3 classes"):
        do(tmp_path, "evaluate", task)


def test_an_answer_of_nan_is_no_class(tmp_path: Path):
    scores = np.eye(3)[TARGETS]
    scores[70] = np.nan
    task = EvaluateTask(model=model_in(tmp_path, identity_graph()), data=data_in(tmp_path, scores))
    with pytest.raises(ArtifactError, match=r"returns NaN for 1 of \d+ samples, such as sample 70"):
        do(tmp_path, "evaluate", task)


def test_a_graph_that_takes_no_float32_is_refused_with_the_cure(tmp_path: Path):
    model = onnx.load_model_from_string(identity_graph())
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["input"], ["floats"], to=onnx.TensorProto.FLOAT))
    model.graph.node[1].input[0] = "floats"
    task = EvaluateTask(model=model_in(tmp_path, model.SerializeToString()), data=data_in(tmp_path, np.eye(3)[TARGETS]))
    complaint = r"'input' of the model is INT64, and a data set has FP32; cast it inside the graph"
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


def test_a_model_that_is_right_in_full_batches_alone_is_refused_or_measured_as_it_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A batch of 64 is seldom drawn. Without one nothing differs, and the gate refuses the accuracy itself."""
    graph = right_in_batches(64, 64)
    task = EvaluateTask(model=model_in(tmp_path, graph), data=data_in(tmp_path, np.eye(3)[TARGETS]))
    monkeypatch.setattr(evaluation, "_RANDOM", random.Random(0))
    assert (do(tmp_path, "evaluate", task).metrics or {})["accuracy"] == pytest.approx(1 / 3)
    monkeypatch.setattr(evaluation, "_random_size", lambda: 64)
    with pytest.raises(ArtifactError, match="the model's answers depend on the batch"):
        do(tmp_path, "evaluate", task)


def wrong_alone(above: float) -> bytes:
    """The identity graph, but that a sample with a score above that gets the next class in a batch of one."""
    model = onnx.load_model_from_string(identity_graph())
    graph, helper = model.graph, onnx.helper
    for node in graph.node:
        node.output[:] = ["right" if name == "output" else name for name in node.output]
    constants = {
        "turn": np.roll(np.eye(3, dtype=np.float32), 1, axis=1),
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "axes": np.array([1], np.int64),
        "above": np.array(above, np.float32),
    }
    graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.node.extend(
        [
            helper.make_node("Shape", ["input"], ["shape"]),
            helper.make_node("Gather", ["shape", "zero"], ["n"]),
            helper.make_node("Equal", ["n", "one"], ["alone"]),
            helper.make_node("ReduceMax", ["right", "axes"], ["largest"], keepdims=1),
            helper.make_node("Greater", ["largest", "above"], ["chosen"]),
            helper.make_node("And", ["alone", "chosen"], ["turned"]),
            helper.make_node("MatMul", ["right", "turn"], ["wrong"]),
            helper.make_node("Where", ["turned", "wrong", "right"], ["output"]),
        ]
    )
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def test_a_model_that_is_wrong_by_design_on_few_samples_alone_is_refused(tmp_path: Path):
    """Four in a hundred are fewer than near ties may be, and all of them lose the right class."""
    targets = np.tile(TARGETS, 4)[:512]
    scores = np.eye(3)[targets] * np.linspace(1, 2, len(targets))[:, None]
    task = EvaluateTask(model=model_in(tmp_path, wrong_alone(1.96)), data=data_in(tmp_path, scores, targets))
    with pytest.raises(ArtifactError, match=r"another class alone .*\(\d+ lose the right one, 0 gain it\)"):
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


def test_near_ties_that_fall_differently_in_another_batch_are_tolerated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A dynamically quantized graph scales activations over the batch, and this one was never trained."""
    monkeypatch.setattr(evaluation, "_RANDOM", random.Random(0))
    drawn = np.random.default_rng(0)
    weights = [drawn.standard_normal(shape).astype(np.float32) / 8 for shape in ((64, 64), (64, 64), (64, 100))]
    graph = mlp_graph([(weight, np.zeros(weight.shape[1], np.float32)) for weight in weights], (64,))
    (tmp_path / "float.onnx").write_bytes(graph)
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "int8.onnx", weight_type=QuantType.QInt8)
    model = put(tmp_path, "model", content_of((64,), 100), {ONNX_FILE: tmp_path / "int8.onnx"})
    data = data_in(tmp_path, drawn.standard_normal((512, 64)), drawn.integers(0, 100, 512), classes=100)
    assert do(tmp_path, "evaluate", EvaluateTask(model=model, data=data)).outcome == "succeeded"


DATA = "sha256:" + "0" * 64


def predictions(predicted: Sequence[int], targets: Sequence[int], data: str = DATA) -> Predictions:
    return Predictions(np.array(predicted, np.int64), np.array(targets, np.int64), data)


def kept(store: Path, name: str, given: Predictions) -> Artifact:
    """Return the predictions as a task of that folder writes them."""
    return write_predictions(pod_in(store, name).store, ARTIFACT, given, Provenance())


def test_samples_that_only_one_has_right_are_counted_apart():
    baseline = predictions([0, 0, 1, 1, 2], [0, 0, 1, 2, 0])
    candidate = predictions([0, 1, 1, 2, 1], [0, 0, 1, 2, 0])
    counts = count(baseline, candidate)
    assert (counts.n, counts.baseline_right, counts.lost, counts.gained) == (5, 3, 1, 1)


def test_equal_predictions_lose_and_gain_nothing():
    same = predictions([0, 1, 2], [0, 1, 1])
    assert count(same, same) == PairedCounts(n=3, baseline_right=2, lost=0, gained=0, slices=count(same, same).slices)


def test_the_class_that_lost_the_largest_share_comes_first():
    targets = [0, 0, 0, 0, 1, 1, 2]
    counts = count(predictions(targets, targets), predictions([0, 0, 9, 9, 1, 9, 2], targets))
    assert [(s.name, s.n, s.lost) for s in counts.slices] == [("class-0", 4, 2), ("class-1", 2, 1), ("class-2", 1, 0)]


def test_of_many_classes_the_sixteen_worst_are_reported():
    targets = list(range(30))
    counts = count(predictions(targets, targets), predictions([*targets[:-1], 0], targets))
    assert len(counts.slices) == 16
    assert counts.slices[0].name == "class-29"


@pytest.mark.parametrize(
    "candidate",
    [predictions([0, 1], [0, 0]), predictions([0], [0]), predictions([0, 1], [0, 1], "sha256:" + "1" * 64)],
    ids=["other targets", "fewer samples", "another data set"],
)
def test_predictions_of_different_samples_are_refused(candidate: Predictions):
    with pytest.raises(ArtifactError, match="evaluate both on the same data"):
        count(predictions([0, 1], [0, 1]), candidate)


def test_the_task_reports_counts_and_leaves_nothing(tmp_path: Path):
    refs = [
        ref(kept(tmp_path, name, predictions(said, [0, 1])), name)
        for name, said in (("baseline", [0, 1]), ("candidate", [0, 0]))
    ]
    report = do(tmp_path, "compare", CompareTask(baseline=refs[0], candidate=refs[1]))
    assert report.counts is not None
    assert (report.counts.lost, report.counts.gained) == (1, 0)
    assert report.artifact is None


def test_predictions_are_read_as_they_were_written(tmp_path: Path):
    found = read_predictions(kept(tmp_path, "p", predictions([3, 1], [3, 2])))
    assert (found.predicted.tolist(), found.targets.tolist(), found.data) == ([3, 1], [3, 2], DATA)
    assert found.accuracy == 0.5
