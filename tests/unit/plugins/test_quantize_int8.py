"""What quantize-int8 decides by looking at a graph."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from slipway_plugins.quantize_int8 import activation_type, inputs_of, quantized, refusal, spread, weight_bytes
from support.graphs import identity_graph

NO_WEIGHTS = "the graph holds no weights of Conv, ConvTranspose, Gemm, MatMul"


def graph(*nodes: onnx.NodeProto, inputs: tuple[str, ...] = ("x",), weights: tuple[str, ...] = ()) -> onnx.GraphProto:
    def values(names: tuple[str, ...]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in names]

    tensors = [onnx.numpy_helper.from_array(np.eye(2, dtype=np.float32), name) for name in weights]
    return helper.make_graph(list(nodes), "g", values(inputs), values(("y",)), tensors)


def test_a_graph_with_weights_is_taken():
    assert refusal(onnx.load_model_from_string(identity_graph()).graph) is None


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
            "the graph takes 2 inputs (x, z), and calibration data has one",
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
    assert refusal(bad) == reason


def test_calibration_feeds_the_input_also_where_weights_are_listed_before_it(tmp_path):
    model = onnx.load_model_from_string(identity_graph())
    weights = [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer]
    given = [*weights, *model.graph.input]
    del model.graph.input[:]
    model.graph.input.extend(given)
    onnx.save(model, tmp_path / "model.onnx")
    assert inputs_of(model.graph) == ["input"]
    small = quantized(tmp_path / "model.onnx", "input", np.eye(3, dtype=np.float32), "int8", False, tmp_path)
    assert weight_bytes(small.graph)[0] > 0


def test_attention_is_quantized_with_uint8_and_other_graphs_with_int8():
    attention = graph(
        helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "x"], ["y"]), weights=("w",)
    )
    linear = graph(helper.make_node("MatMul", ["x", "w"], ["y"]), weights=("w",))
    assert (activation_type(attention), activation_type(linear)) == ("uint8", "int8")


@pytest.mark.parametrize(("count", "chosen"), [(1, [0]), (3, [0, 4, 9]), (10, list(range(10))), (99, list(range(10)))])
def test_calibration_samples_are_spread_over_data_that_may_be_sorted(count: int, chosen: list[int]):
    assert spread(np.arange(10, dtype=np.float32), count).tolist() == chosen
