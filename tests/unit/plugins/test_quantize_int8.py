"""Decisions of quantize-int8 on a graph."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import save

from slipway.api.artifacts import State
from slipway.api.tasks import CompressTask, DataRef
from slipway.runtime import graphs
from slipway.runtime.compress import compress
from slipway.runtime.graphs import open_session, run_session
from slipway.sdk.artifact import Artifact, read_artifact
from slipway.sdk.manifest import DATA_FILE, ONNX_FILE, Content, DatasetInfo
from slipway_plugins.quantize_int8 import (
    QuantizeInt8,
    activation_type,
    evenly_spaced,
    inputs_of,
    quantize_graph,
    refusal_reason,
    simplify,
    weight_bytes,
)
from support.graphs import content_of, identity_graph, mlp_graph
from support.stores import pod_in, put

NO_WEIGHTS = "the graph has no weights of Conv, ConvTranspose, Gemm, MatMul"


def graph(*nodes: onnx.NodeProto, inputs: tuple[str, ...] = ("x",), weights: tuple[str, ...] = ()) -> onnx.GraphProto:
    def values(names: tuple[str, ...]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in names]

    tensors = [onnx.numpy_helper.from_array(np.eye(2, dtype=np.float32), name) for name in weights]
    return helper.make_graph(list(nodes), "g", values(inputs), values(("y",)), tensors)


def test_a_graph_with_weights_is_taken():
    assert refusal_reason(onnx.load_model_from_string(identity_graph()).graph) is None


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (
            graph(helper.make_node("Relu", ["x"], ["y"])),
            NO_WEIGHTS,
        ),
        (
            graph(helper.make_node("MatMul", ["x", "z"], ["y"]), inputs=("x", "z")),
            NO_WEIGHTS,
        ),
        (
            graph(
                helper.make_node("MatMul", ["x", "w"], ["h"]),
                helper.make_node("Add", ["h", "z"], ["y"]),
                inputs=("x", "z"),
                weights=("w",),
            ),
            "the graph has 2 inputs (x, z), and calibration data has one",
        ),
        (
            graph(
                helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
                helper.make_node("MatMul", ["x", "w"], ["y"]),
                weights=("w",),
            ),
            "the graph is quantized already",
        ),
    ],
    ids=["no weights", "no constant weights", "two inputs", "quantized"],
)
def test_a_graph_that_cannot_be_quantized_is_refused_with_the_reason(bad: onnx.GraphProto, reason: str):
    assert refusal_reason(bad) == reason


def test_calibration_feeds_the_input_also_where_weights_are_listed_before_it(tmp_path):
    model = onnx.load_model_from_string(identity_graph())
    weights = [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer]
    given = [*weights, *model.graph.input]
    del model.graph.input[:]
    model.graph.input.extend(given)
    onnx.save(model, tmp_path / "model.onnx")
    assert inputs_of(model.graph) == ["input"]
    small = quantize_graph(tmp_path / "model.onnx", "input", np.eye(3, dtype=np.float32), "int8", False, tmp_path)
    assert weight_bytes(small.graph)[0] > 0


@pytest.mark.parametrize(
    ("machine", "kind"), [("x86_64", "uint8"), ("AMD64", "uint8"), ("aarch64", "int8"), ("arm64", "int8")]
)
def test_activations_are_unsigned_on_x86_alone(machine: str, kind: str):
    assert activation_type(machine) == kind


def test_a_tensor_that_is_read_twice_leaves_no_convolution_in_float(tmp_path: Path):
    """A block of a residual network; signed activations left it beside pairs of Q and DQ."""
    folder = tmp_path / "graphs"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(residual_graph())
    samples = np.random.default_rng(0).random((8, 8, 6, 6)).astype(np.float32)
    small = quantize_graph(folder / "model.onnx", "input", samples, activation_type(platform.machine()), True, tmp_path)
    simplify(small)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(small.SerializeToString(), options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(str(tmp_path / "optimized.onnx")).graph.node]
    assert operators.count("QLinearConv") == 3
    assert not {"Conv", "FusedConv", "NhwcFusedConv"}.intersection(operators)


@pytest.mark.parametrize(
    ("activation", "low", "high"),
    [("Relu", 0, None), ("Clip", 0, 6), ("Clip", 0, 0.5), ("Clip", -0.25, 0.5), ("Clip", None, 0.5)],
)
def test_an_activation_that_makes_the_output_is_kept(tmp_path: Path, activation: str, low: float, high: float):
    """onnxruntime drops it, its quantizer goes with `simplify`, and nothing would clip."""
    source = tmp_path / "model.onnx"
    source.write_bytes(activated_graph(activation, low, high))
    samples = np.random.default_rng(0).standard_normal((64, 3)).astype(np.float32)
    small = quantize_graph(source, "input", samples, "uint8", True, tmp_path)
    simplify(small)
    onnx.checker.check_model(small)
    assert small.graph.output[0].name == "output"
    assert "output" not in [name for node in small.graph.node for name in node.input]
    assert [node.op_type for node in small.graph.node if "output" in node.output] == [activation]
    fast, whole = (open_session(graph) for graph in (small.SerializeToString(), source.read_bytes()))
    given = {"input": samples}
    answer, expected = run_session(fast, given)[0], run_session(whole, given)[0]
    assert answer.min() >= (-np.inf if low is None else low)
    assert answer.max() <= (np.inf if high is None else high)
    assert np.abs(answer - expected).max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("asked", "saturates", "bits"),
    [({}, True, 7), ({}, False, 8), ({"reduce_range": False}, True, 8), ({"reduce_range": True}, False, 7)],
)
def test_the_range_is_reduced_where_sums_saturate_and_what_was_chosen_is_recorded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: dict[str, Any], saturates: bool, bits: int
):
    monkeypatch.setattr(graphs, "int8_saturates", lambda: saturates)
    left = step(tmp_path, asked)
    weights = [t for t in onnx.load(str(left.file(ONNX_FILE))).graph.initializer if len(t.dims) > 1]
    largest = max(int(np.abs(onnx.numpy_helper.to_array(each).astype(int)).max()) for each in weights)
    assert 2 ** (bits - 2) < largest <= 2 ** (bits - 1)
    metrics = left.manifest.provenance.metrics
    assert (metrics["int8_saturates"], metrics["reduce_range"]) == (float(saturates), float(bits == 7))
    assert metrics["signed_activations"] == float(activation_type(platform.machine()) == "int8")
    assert 0 <= metrics["kernel_error"] <= 1


def test_the_same_kind_of_processor_gives_the_same_artifact_and_another_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    digests = []
    for number, saturates in enumerate((True, True, False)):
        monkeypatch.setattr(graphs, "int8_saturates", lambda found=saturates: found)
        digests.append(step(tmp_path / str(number), {}).digest)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("saturates", "cause"),
    [
        (True, "8-bit sums saturate on this processor; set params.reduce_range to auto or true"),
        (False, "not saturation; compare the Nodes, and report it to onnxruntime"),
    ],
)
def test_kernels_that_disagree_are_reported_with_the_cause(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], saturates: bool, cause: str
):
    monkeypatch.setattr(graphs, "int8_saturates", lambda: saturates)
    monkeypatch.setattr(graphs, "kernel_error", lambda *_: 0.354)
    left = step(tmp_path, {"reduce_range": False})
    said = "warning: outputs differ by 35.4% from those of exact arithmetic on 32 calibration samples: "
    assert said + cause in capsys.readouterr().out
    assert left.manifest.provenance.metrics["kernel_error"] == 0.354


def step(store: Path, params: dict[str, Any]) -> Artifact:
    """The plugin's result for a small classifier."""
    random = np.random.default_rng(0)
    classes = np.arange(96) % 3
    inputs = (np.eye(3)[classes] + random.random((96, 3))).astype(np.float32)
    content = Content(state=State.DATASET, dataset=DatasetInfo(samples=96, classes=3, scale=1.0))
    data = put(store, "data", content, {DATA_FILE: save({"inputs": inputs, "targets": classes.astype(np.int64)})})
    layers = [
        (random.standard_normal(size).astype(np.float32), np.zeros(size[1], np.float32)) for size in ((3, 16), (16, 3))
    ]
    model = put(store, "model", content_of((3,), 3), {ONNX_FILE: mlp_graph(layers, (3,))})
    plugin = QuantizeInt8()
    asked = {"entry_point": plugin.name, "version": plugin.version, "params": params, "model": model}
    task = CompressTask.model_validate({**asked, "data": DataRef(name="train", artifact=data)})
    compress(plugin, task, pod_in(store, "step"))
    return read_artifact(store / "step/artifact")


def residual_graph() -> bytes:
    """Two convolutions beside a path that skips them, and one more: [N, 8, 6, 6] to [N, 8]."""
    random = np.random.default_rng(0)
    weights = [
        onnx.numpy_helper.from_array((random.standard_normal((8, 8, 3, 3)) / 8).astype(np.float32), f"w{number}")
        for number in range(3)
    ]
    nodes = [
        helper.make_node("Conv", ["input", "w0"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w1"], ["c"], pads=[1] * 4),
        helper.make_node("Add", ["c", "b"], ["d"]),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("Conv", ["e", "w2"], ["f"], pads=[1] * 4),
        helper.make_node("Add", ["f", "e"], ["g"]),
        helper.make_node("GlobalAveragePool", ["g"], ["h"]),
        helper.make_node("Flatten", ["h"], ["output"]),
    ]
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 8, 6, 6])
    left = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 8])
    made = helper.make_graph(nodes, "g", [given], [left], weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


def activated_graph(activation: str, low: float | None, high: float | None) -> bytes:
    """A linear layer whose scores pass an activation: [N, 3] to [N, 3]."""
    model = onnx.load_model_from_string(
        mlp_graph(
            [(np.random.default_rng(1).standard_normal((3, 3)).astype(np.float32), np.zeros(3, np.float32))], (3,)
        )
    )
    model.graph.node[-1].output[0] = "scores"
    bounds = {"low": low, "high": high} if activation == "Clip" else {}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.float32(value), name) for name, value in bounds.items() if value is not None
    )
    names = ["" if value is None else name for name, value in bounds.items()]
    model.graph.node.append(helper.make_node(activation, ["scores", *names], ["output"]))
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.mark.parametrize(("count", "chosen"), [(1, [0]), (3, [0, 4, 9]), (10, list(range(10))), (99, list(range(10)))])
def test_calibration_samples_are_spread_over_data_that_may_be_sorted(count: int, chosen: list[int]):
    assert evenly_spaced(np.arange(10, dtype=np.float32), count).tolist() == chosen
