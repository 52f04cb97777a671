"""ONNX graphs made without torch, in milliseconds."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from slipway.api.artifacts import State
from slipway.sdk.manifest import Content, TensorSpec
from slipway.sdk.plugin import Arrays

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Weights [in, out] and bias [out]."""


def mlp_graph(layers: list[Layer], shape: tuple[int, ...], batch: str | int = "batch") -> bytes:
    """Linear layers with ReLU between on flattened inputs [batch, *shape]; gives `output` [batch, out]."""
    nodes, weights, last = [helper.make_node("Flatten", ["input"], ["x0"], axis=1)], [], "x0"
    for number, (weight, bias) in enumerate(layers):
        weights += [numpy_helper.from_array(weight, f"w{number}"), numpy_helper.from_array(bias, f"b{number}")]
        final = number == len(layers) - 1
        result = "output" if final else f"y{number}"
        nodes.append(helper.make_node("Gemm", [last, f"w{number}", f"b{number}"], [result]))
        if not final:
            last = f"x{number + 1}"
            nodes.append(helper.make_node("Relu", [result], [last]))
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, *shape])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, layers[-1][1].size])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def identity_graph(classes: int = 3, batch: str | int = "batch") -> bytes:
    """A classifier whose scores are its inputs, so that a test chooses what it predicts."""
    return mlp_graph([(np.eye(classes, dtype=np.float32), np.zeros(classes, np.float32))], (classes,), batch)


def classifying_graph() -> bytes:
    """The identity graph with a second output: `class` [batch], the place of the largest score."""
    model = onnx.load_model_from_string(identity_graph())
    model.graph.node.append(helper.make_node("ArgMax", ["output"], ["class"], axis=1, keepdims=0))
    model.graph.output.append(helper.make_tensor_value_info("class", TensorProto.INT64, ["batch"]))
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def random_features(data: Arrays, width: int = 256) -> bytes:
    """A real classifier in closed form: random features with ReLU, and ridge regression on them.

    Huang et al., "Extreme learning machine" (Neurocomputing 2006); about 0.95 on the digits.
    """
    random = np.random.default_rng(0)
    flat = data.inputs.reshape(len(data.inputs), -1)
    weight = (random.standard_normal((flat.shape[1], width)) / np.sqrt(flat.shape[1])).astype(np.float32)
    bias = random.standard_normal(width).astype(np.float32) / 10
    hidden = np.maximum(flat @ weight + bias, 0)
    wanted = np.eye(data.classes, dtype=np.float32)[data.targets]
    readout = np.linalg.solve(hidden.T @ hidden + np.eye(width, dtype=np.float32) * 0.1, hidden.T @ wanted)
    zero = np.zeros(data.classes, np.float32)
    return mlp_graph([(weight, bias), (readout.astype(np.float32), zero)], data.inputs.shape[1:])


def saturating(activations: NDArray[np.uint8], weights: NDArray[np.int8]) -> NDArray[np.int32]:
    """The product as `pmaddubsw` gives it: two neighbours are added in 16 bits, which saturate; [N, K] by [K, M]."""
    products = activations.astype(np.int32)[:, :, None] * weights.astype(np.int32)[None]
    pairs = np.clip(products[:, 0::2] + products[:, 1::2], -(2**15), 2**15 - 1)
    total: NDArray[np.int32] = pairs.sum(axis=1, dtype=np.int32)
    return total


def content_of(shape: tuple[int, ...], classes: int) -> Content:
    """The manifest of the graphs above."""
    return Content(
        state=State.ONNX,
        inputs=(TensorSpec(name="input", shape=shape),),
        outputs=(TensorSpec(name="output", shape=(classes,)),),
    )
